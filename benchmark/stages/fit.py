"""The fit stage: scans in, checkpoints and curves out. Only a top line's fit gets the path of a label."""

import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ...common.atomic import discard, new_folder, write_text
from ...common.errors import UasbenchError, summary
from ...common.json_files import read_json
from ...common.package import import_target, is_own
from ...common.sealed import damage, seal_folder
from ...common.untried import ask
from ...datasets.healthy import HealthySet, Part
from ...datasets.labelled import LabelledPart, LabelledSet
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ...methods.config import resolve
from ...methods.context import FitContext
from ...methods.resuming import CHECKPOINTS, EVERY_S
from ...methods.state import parameter_count
from .. import device as devices
from ..convergence import WatchedCurves
from ..instructions import made_on
from ..runs.records import FIT_SEAL
from . import compiling, drive
from .inputs import check_whole, entries_of, kernels_beside
from .task import Frozen, Numerics, Progress, RunInside, Task, ZRange
from .wall import Places, standing

CURVES = "curves.csv"
CHECKPOINT_S = EVERY_S


class FitError(UasbenchError):
    """A fit was given scans that its method's card does not allow."""


class MethodSpec(Frozen, frozen=True):
    """A method (``module:Class``) and its settings."""

    target: str
    profile: str
    anatomy: str
    settings: dict[str, Any]

    def load(self) -> tuple[Any, Any]:
        cls = import_target(self.target)
        return cls, resolve(cls.Config, self.profile, self.anatomy, self.settings)

    def named_paths(self) -> Iterator[Path]:
        """Yield the files and folders that settings name, such as one with weights."""
        for value in self.settings.values():
            if isinstance(value, str) and os.sep in value and (path := Path(value).expanduser()).exists():
                yield path.absolute()


class FitTask(Task, frozen=True):
    """One training.

    ``parts`` are the healthy training cases with their slice ranges; ``held_out`` those by which it is watched;
    ``unlabelled`` the test cases, for a method that may see them without labels; ``labelled`` cases with their truths,
    for a top line; ``untried`` asks for code that has not run on a GPU yet.
    """

    stage: Literal["fit"] = "fit"
    id: str
    method: MethodSpec
    seed: int
    numerics: Numerics
    parts: tuple[tuple[PreparedCase, ZRange], ...] = ()
    held_out: tuple[tuple[PreparedCase, ZRange], ...] = ()
    unlabelled: tuple[PreparedCase, ...] = ()
    labelled: tuple[tuple[PreparedCase, TruthRef], ...] = ()
    out: Path
    untried: bool = False


def training_scans(task: FitTask, uses: str) -> tuple[HealthySet | LabelledSet, HealthySet | None]:
    """Open what a method learns from, and the unlabelled test cases that it may see.

    Raises:
        FitError: the task holds scans that a card with this ``uses`` does not allow.
    """
    if (task.labelled and uses != "labels") or (task.unlabelled and uses != "unlabelled-test"):
        raise FitError(f"{task.method.target} says uses={uses!r} and was given scans that this does not allow")
    unlabelled = HealthySet([Part(case) for case in task.unlabelled]) if task.unlabelled else None
    if uses != "labels":
        return HealthySet([Part(case, z) for case, z in task.parts]), unlabelled
    return LabelledSet([LabelledPart(case, truth) for case, truth in task.labelled]), None


def run(task: FitTask, run_inside: RunInside) -> None:
    """Train and store under ``task.out``, which appears whole or not at all; a damaged fit is replaced.

    A training that was killed goes on from its last checkpoint.
    """
    if damage(task.out / FIT_SEAL) is None:
        return
    discard(task.out)
    with new_folder(task.out, listed=True, resumed=CHECKPOINTS) as scratch:
        run_inside(lambda report: _learn(task, scratch, report), _places(task, scratch))
        check_whole(scratch, FIT_SEAL)


def _places(task: FitTask, scratch: Path) -> Places:
    cases = [case for case, _ in (*task.parts, *task.held_out, *task.labelled)] + list(task.unlabelled)
    reads = [*entries_of(cases), *(truth.path for _, truth in task.labelled), *task.method.named_paths()]
    return Places(tuple(reads), (scratch,), task.method.target, kernels_beside(cases))


def _learn(task: FitTask, scratch: Path, progress: Progress) -> None:
    """Train, compiled where that is asked for and can be; what may be the compiler's fault begins again without it."""
    ask(task.untried)
    devices.configure(task.numerics.device, task.numerics.threads)
    gave_up = scratch / compiling.GAVE_UP
    if not task.numerics.compiled:
        _train(task, scratch, progress)
    elif gave_up.exists():
        _train(task, scratch, progress, read_json(gave_up))
    elif why := compiling.missing():
        _train(task, scratch, progress, {"eager": [why]})
    else:
        shared, began = is_own(task.method.target) and not (task.labelled or task.unlabelled), time.perf_counter()
        try:
            with compiling.cache(shared=shared):
                _train(task, scratch, progress, compiled=True)
        except Exception as error:
            if not compiling.suspected(error):
                raise
            why = summary(error)
        else:
            return
        print(f"the training begins again, without compiling: {why}")
        compiling.forget()
        for path in scratch.iterdir():
            path.unlink()
        plain = {"eager": [why], "aborted_s": time.perf_counter() - began}
        write_text(gave_up, json.dumps(plain))
        _train(task, scratch, progress, plain)


def _train(
    task: FitTask, scratch: Path, progress: Progress, plain: dict[str, Any] | None = None, *, compiled: bool = False
) -> None:
    """Train once and seal what came of it; ``plain`` says why nothing is ``compiled`` where that was asked for."""
    numerics = task.numerics
    cls, config = task.method.load()
    phases: list[int] = []
    earlier = compiling.Earlier()

    def on_progress(done: int, total: int) -> None:
        if done == 1 or not phases:
            phases.append(0)
        phases[-1] = done
        progress(done, total)

    with (scratch / CURVES).open("w", newline="", encoding="utf-8") as file:
        curves = csv.writer(file)
        curves.writerow(["step", "name", "value"])
        scans, unlabelled = training_scans(task, cls.card.uses)
        watched = WatchedCurves()

        def on_log(step: int, values: dict[str, float]) -> None:
            curves.writerows([step, name, repr(value)] for name, value in values.items())
            watched.log(step, values)

        context = FitContext(
            seed=task.seed,
            device=numerics.device,
            precision=numerics.precision,
            compiled=compiled,
            kept=[earlier] if compiled else [],
            on_progress=on_progress,
            on_log=on_log,
            unlabelled=unlabelled,
            held_out=HealthySet([Part(case, z) for case, z in task.held_out]) if task.held_out else None,
        )
        method, seconds = drive.train(cls, config, scans, context, scratch, CHECKPOINT_S)
    method.save(scratch / "last.pt")
    made = {}
    if numerics.compiled:
        made = {"compiled": plain or compiling.outcome(method, earlier)}
        print(f"compiled: {compiling.in_words(made['compiled'])}")
    about = {
        "id": task.id,
        "method": task.method.target,
        "seed": task.seed,
        "fit_s": seconds,
        "updates": {f"phase {i + 1}": n for i, n in enumerate(phases)},
        "params": parameter_count(method),
        **devices.peaks(numerics.device),
        "provenance": drive.origin_of(method) | {name: compiling.in_words(found) for name, found in made.items()},
        "convergence": [phase.model_dump() for phase in watched.judged()],
        "instruction_set": made_on(numerics.device),
        "isolation": standing(),
        **made,
    }
    seal_folder(scratch / FIT_SEAL, about, but=[CURVES])
