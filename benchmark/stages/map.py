"""The map stage: a fitted method and cases in, anomaly maps out. It never sees a label path."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ...common.atomic import discard, new_folder
from ...common.json_files import read_json
from ...common.sealed import check_files, damage, seal_folder
from ...common.seeds import derive, seed_everything
from ...common.untried import ask, untried
from ...datasets.case import counted
from ...datasets.storing.prepared import PreparedCase
from ...methods.training import autocast
from .. import device as devices
from ..instructions import made_on
from ..runs.map_store import healthy_map, restored_map, write_map, write_mask
from ..runs.records import FIT_SEAL, MAP_SEAL
from . import drive
from .fit import MethodSpec
from .inputs import check_whole, entries_of, kernels_beside
from .task import Frozen, Numerics, Progress, RunInside, Task
from .wall import Places, standing

MOST_WAITING = 2


class Model(Frozen, frozen=True):
    """The folders of a model's fits, several of which are members whose median is the map, and what it maps."""

    fits: tuple[Path, ...]
    cases: tuple[PreparedCase, ...]


class MapTask(Task, frozen=True):
    """The maps of one cell: each model maps its own test cases and all cases with held-out healthy slices.

    No model was trained on a held-out healthy slice. Where ``restorations`` are kept, what the method makes of the test
    cases on the way to their maps lies beside these. ``untried`` asks for code that has not run on a GPU yet.
    """

    stage: Literal["map"] = "map"
    id: str
    method: MethodSpec
    models: tuple[Model, ...]
    healthy: tuple[PreparedCase, ...]
    seed: int
    numerics: Numerics
    out: Path
    restorations: bool = False
    untried: bool = False


def run(task: MapTask, run_inside: RunInside) -> None:
    """Write one map per case below ``task.out``, which is replaced whole or not at all.

    Raises:
        StageError: a checkpoint is not what the fit wrote, or the method failed.
    """
    if finished(task.out) == task.id and damage(task.out / MAP_SEAL) is None:
        return
    discard(task.out)
    with new_folder(task.out, listed=True) as scratch:
        run_inside(lambda report: _map_all(task, scratch, report), _places(task, scratch))
        check_whole(scratch, MAP_SEAL)


def _places(task: MapTask, scratch: Path) -> Places:
    cases = [*(case for model in task.models for case in model.cases), *task.healthy]
    fits = (fit for model in task.models for fit in model.fits)
    reads = [*entries_of(cases), *fits, *task.method.named_paths()]
    return Places(tuple(reads), (scratch,), task.method.target, kernels_beside(cases))


def _map_all(task: MapTask, scratch: Path, progress: Progress) -> None:
    ask(task.untried)
    devices.configure(task.numerics.device, task.numerics.threads)
    cls, config = task.method.load()
    name = getattr(config, "checkpoint", "last")
    for folder in {folder for model in task.models for folder in model.fits}:
        kept = [Path(file).stem for file in check_files(folder / FIT_SEAL)["files"]]
        if name not in kept:
            raise FileNotFoundError(f"the fit kept no checkpoint {name!r}; it has {', '.join(kept)}")
    count = len(task.models)
    total = sum(len(model.cases) for model in task.models) + len(task.healthy) * count
    seconds, slices, done = 0.0, 0, 0
    thresholds: list[float | None] = []
    titles: list[str] | None = None
    (scratch / "healthy").mkdir()
    for number, model in enumerate(task.models):
        members = [drive.load(cls, config, fit / f"{name}.pt", task.numerics.device) for fit in model.fits]
        thresholds.append(drive.threshold_of(members[0]))
        tested = [(case, scratch / f"{case.id}.map", scratch / f"{case.id}.mask") for case in model.cases]
        held_out = [(case, healthy_map(scratch, case.id, number, count), None) for case in task.healthy]
        with Writer(beside=untried(task.numerics.device)) as write:
            for case, path, mask in (*tested, *held_out):
                mapped = _map_one(task, members, case, path, mask, write)
                if mask is not None:
                    seconds, slices = seconds + mapped.seconds, slices + mapped.slices
                    titles = mapped.titles if titles is None else titles
                    if mapped.titles != titles:
                        told = f"restore_view showed {titles} and, of case {case.id}, {mapped.titles}"
                        raise drive.MethodError(f"{told}; use the same titles for all cases")
                done += 1
                progress(done, total)
    if any(threshold != thresholds[0] for threshold in thresholds):
        raise drive.MethodError(
            f"native_threshold differs between folds: {', '.join(map(str, thresholds))}; make it a constant, or "
            "decide in postprocess"
        )
    about = {
        "id": task.id,
        "score_s": seconds,
        "slices": slices,
        "native_threshold": thresholds[0],
        "instruction_set": made_on(task.numerics.device),
        "isolation": standing(),
        "restored": titles or [],
    }
    seal_folder(scratch / MAP_SEAL, about | devices.peaks(task.numerics.device))


def finished(out: Path) -> str | None:
    """Return the id of the maps that lie in ``out``, or None; whether they are what was written is not asked."""
    try:
        return read_json(out / MAP_SEAL)["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Writer:
    """Compresses and writes maps: at once on the CPU, whose cores are counted, ``beside`` the next scoring on a GPU.

    At most two maps wait, in copies: a method may write into its arrays again. What goes wrong is raised by a later
    call or at the end.
    """

    def __init__(self, *, beside: bool) -> None:
        self._pool = ThreadPoolExecutor(1) if beside else None
        self._pending: deque[Future[object]] = deque()

    def __call__(self, write: Callable[..., object], *arguments: Any) -> None:
        if self._pool is None:
            write(*arguments)
            return
        kept = (part.copy() if isinstance(part, np.ndarray) else part for part in arguments)
        self._pending.append(self._pool.submit(write, *kept))
        while len(self._pending) > MOST_WAITING:
            self._pending.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        while kind is None and self._pending:
            self._pending.popleft().result()


@dataclass(frozen=True)
class _Mapped:
    """The seconds that a case took to score, its slices with a region of interest, and what is shown of it."""

    seconds: float
    slices: int
    titles: list[str]


def _map_one(
    task: MapTask, members: list[Any], prepared: PreparedCase, path: Path, mask: Path | None, write: Writer
) -> _Mapped:
    method, case = members[0], prepared.case()
    viewed = None if method.view is None else prepared.viewed(method.view)
    seed_everything(derive(task.seed, "score", prepared.dataset, prepared.id))
    start = time.perf_counter()
    with autocast(task.numerics.device, task.numerics.precision):
        scores = drive.score_together(members, case, viewed)
    seconds = time.perf_counter() - start
    geometry, support = None, counted(case.roi, method.region)
    if viewed is not None:
        geometry = viewed.geometry
        support = viewed.support if method.region == "roi" else geometry.view_support(support)
    write(write_map, path, scores, geometry, support)
    if mask is not None and (decision := drive.decide(method, case, viewed, scores)) is not None:
        write(write_mask, mask, decision)
    shown = drive.restored(method, case, viewed, scores) if task.restorations and mask is not None else {}
    for number, picture in enumerate(shown.values()):
        write(write_map, restored_map(path.parent, case.id, number), picture, geometry, support)
    return _Mapped(seconds, int(case.roi.any(axis=(1, 2)).sum()), list(shown))
