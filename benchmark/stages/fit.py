"""The fit stage: scans in, checkpoints and curves out. Only a top line's fit gets the path of a label."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.atomic import new_folder
from ...common.errors import UasbenchError
from ...datasets.healthy import HealthySet, Part
from ...datasets.labelled import LabelledPart, LabelledSet
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ...methods.config import resolve
from ...methods.context import FitContext
from ...methods.state import parameter_count
from .. import device as devices
from ..runs.records import write_json
from ..targets import import_target
from ..usage import peak_ram_mib
from . import drive

Report = Callable[[str, Any], None]
ZRange = tuple[int, int] | None
Pointer = dict[str, Any]


class FitError(UasbenchError):
    """A fit was given scans that its method's card does not allow."""


@dataclass(frozen=True)
class MethodSpec:
    """A method and its settings, as they travel to a worker."""

    target: str
    profile: str
    anatomy: str
    settings: dict[str, Any]

    def load(self) -> tuple[Any, Any]:
        """Import the class and resolve its config."""
        cls = import_target(self.target)
        return cls, resolve(cls.Config, self.profile, self.anatomy, self.settings)


@dataclass(frozen=True)
class FitTask:
    """Everything a worker needs for one fit.

    ``parts`` are the healthy training cases with their slice ranges; ``unlabelled`` the test cases, for a method that
    may see them without labels; ``labelled`` cases with their truths, for a top line.
    """

    id: str
    method: MethodSpec
    parts: list[tuple[Pointer, ZRange]]
    seed: int
    device: str
    precision: str
    threads: int
    out: str
    unlabelled: list[Pointer] = field(default_factory=list)
    labelled: list[tuple[Pointer, dict[str, str]]] = field(default_factory=list)


def healthy_set(parts: list[tuple[Pointer, ZRange]]) -> HealthySet:
    """Open prepared cases as a healthy set."""
    return HealthySet([Part(PreparedCase.from_json(case), z) for case, z in parts])


def training_scans(task: FitTask, uses: str) -> tuple[HealthySet | LabelledSet, HealthySet | None]:
    """Open what a method learns from, and the unlabelled test cases that it may see.

    Raises:
        FitError: the task holds scans that a card with this ``uses`` does not allow.
    """
    if (task.labelled and uses != "labels") or (task.unlabelled and uses != "unlabelled-test"):
        raise FitError(f"{task.method.target} says uses={uses!r} and was given scans that this does not allow")
    unlabelled = healthy_set([(case, None) for case in task.unlabelled]) if task.unlabelled else None
    if uses != "labels":
        return healthy_set(task.parts), unlabelled
    pairs = [(PreparedCase.from_json(case), TruthRef.from_json(truth)) for case, truth in task.labelled]
    return LabelledSet([LabelledPart(case, truth) for case, truth in pairs]), None


def run(task: FitTask, report: Report) -> None:
    """Train and store under ``task.out``, which appears whole or not at all."""
    out = Path(task.out)
    if (out / "fit.json").exists():
        return
    devices.configure(task.device, task.threads)
    cls, config = task.method.load()
    with new_folder(out) as scratch:
        _train(task, cls, config, scratch, report)


def _train(task: FitTask, cls: Any, config: Any, scratch: Path, report: Report) -> None:
    with (scratch / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        curves = csv.writer(file)
        curves.writerow(["step", "name", "value"])
        phases: list[int] = []

        def on_progress(done: int, total: int) -> None:
            if done == 1 or not phases:
                phases.append(0)
            phases[-1] = done
            report("progress", (done, total))

        def on_log(step: int, values: dict[str, float]) -> None:
            curves.writerows([step, name, repr(value)] for name, value in values.items())

        scans, unlabelled = training_scans(task, cls.card.uses)
        method: Any = drive.construct(cls, config, seed=task.seed, device=task.device)
        context = FitContext(
            seed=task.seed,
            device=task.device,
            precision=task.precision,
            save_checkpoint=lambda name: method.save(scratch / f"{name}.pt"),
            on_progress=on_progress,
            on_log=on_log,
            unlabelled=unlabelled,
        )
        start = time.perf_counter()
        method.fit(scans, context)
        seconds = time.perf_counter() - start
    method.save(scratch / "last.pt")
    write_json(
        scratch / "fit.json",
        {
            "id": task.id,
            "method": task.method.target,
            "seed": task.seed,
            "fit_s": seconds,
            "updates": {f"phase {i + 1}": n for i, n in enumerate(phases)},
            "params": parameter_count(method),
            "peak_ram_mib": peak_ram_mib(),
            "peak_gpu_mib": devices.peak_gpu_mib(task.device),
            "provenance": method.provenance(),
            "checkpoints": sorted(p.stem for p in scratch.glob("*.pt")),
        },
    )
