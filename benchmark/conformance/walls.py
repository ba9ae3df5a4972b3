"""Is a method kept from the labels here? A small run with labels around it, thieves first, then the method itself."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from ...common.package import target_of
from ...datasets.case import Case, Truth
from ...datasets.storing import entries
from ...datasets.storing.prepared import PreparedCase
from ...datasets.views.volume_view import AnyView
from ..executors.contract import Event, Job, Place, run_jobs
from ..executors.local import LocalExecutor
from ..runs.folder import RunFolder
from ..runs.map_store import read_map
from ..stages.apart import StageError
from ..stages.fit import FitTask, MethodSpec
from ..stages.map import MapTask, Model
from ..stages.task import Numerics
from ..stages.wall import REFUSED, WALL, Isolation
from .phantom import healthy_cases, lesion_cases
from .thieves import ROUTES, Thief

LIMIT_S = 240.0


@dataclass(frozen=True)
class Stage:
    """A store with labels, a run beside it, and the cases that a method may see."""

    folder: Path
    healthy: tuple[PreparedCase, ...]
    tested: PreparedCase
    label: Path

    @property
    def maps(self) -> Path:
        return self.run.maps_dir / "map"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")


@contextmanager
def stage(anatomy: str) -> Iterator[Stage]:
    """Lay out what a run has around a method."""
    with tempfile.TemporaryDirectory(prefix="uasbench-wall-") as name:
        folder = Path(name).resolve()
        store = folder / "cache" / "store"
        healthy = tuple(_stored(store, case) for case in healthy_cases(anatomy, 3))
        case, lesion = lesion_cases(anatomy)[0]
        label = store / "truth" / "label"
        entries.write_truth(label, Truth(case.id, lesion, None), case.image.shape)
        found = Stage(folder, healthy, _stored(store, case), label / "lesion.npy")
        found.run.cells_dir.mkdir(parents=True)
        (found.run.cells_dir / "cell.json").write_text(str(found.label), encoding="utf-8")
        yield found


@cache
def stolen(anatomy: str, wall: Isolation) -> tuple[str, ...]:
    """Let a thief loose behind a wall; return the ways that led it to the labels."""
    with stage(anatomy) as scene:
        variables = {
            "UASBENCH_DATA": str(scene.folder),
            "UASBENCH_CACHE": str(scene.folder / "cache"),
            WALL: wall,
        }
        with patch.dict(os.environ, variables):
            _run(scene, anatomy, target_of(Thief), {"label": f"|{scene.label}"})
        found = read_map(scene.maps / f"{scene.tested.id}.map").values.astype(np.int64)
        return tuple(way for number, way in enumerate(ROUTES) if (found >> number & 1).any())


def attempts(anatomy: str, target: str, view: AnyView | None) -> list[str]:
    """Train and score a method at ``smoke`` behind an audit hook; return the files around it that it tried to open."""
    with stage(anatomy) as scene:
        if view is not None:
            for case in (*scene.healthy, scene.tested):
                case.viewed(view)
        with patch.dict(os.environ, {WALL: "audit"}):
            _run(scene, anatomy, target, {})
        logs = [log.read_text(encoding="utf-8", errors="replace") for log in scene.run.logs_dir.glob("*.log")]
        inside = f"{REFUSED}{scene.folder}{os.sep}"
        return [line.removeprefix(inside) for log in logs for line in log.splitlines() if line.startswith(inside)]


def _run(scene: Stage, anatomy: str, target: str, settings: dict[str, Any]) -> None:
    method = MethodSpec(target=target, profile="smoke", anatomy=anatomy, settings=settings)
    numerics = Numerics(device="cpu", threads=1, precision="fp32")
    common = {"method": method, "seed": 0, "numerics": numerics}
    fit = FitTask(id="fit", parts=tuple((c, None) for c in scene.healthy), out=scene.run.fits_dir / "fit", **common)
    model = Model(fits=(fit.out,), cases=(scene.tested,))
    maps = MapTask(id="map", models=(model,), healthy=(), out=scene.maps, **common)
    jobs = [Job("fit", fit, "fit"), Job("map", maps, "map", frozenset({"fit"}))]
    failed: list[str] = []

    def listen(event: Event) -> None:
        if event.kind == "failed":
            failed.append(str(event.value))

    run_jobs(LocalExecutor(Place(scene.run, workers=1, limit_s=LIMIT_S)), jobs, listen, LIMIT_S)
    if failed:
        raise StageError(failed[0])


def _stored(store: Path, case: Case) -> PreparedCase:
    path = store / "native" / case.id
    entries.write_native(path, case)
    fingerprint = entries.read_meta(path)["fingerprint"]
    shape: Any = case.image.shape
    return PreparedCase(
        dataset="check",
        id=case.id,
        patient=case.patient,
        spacing=case.spacing,
        shape=shape,
        fingerprint=fingerprint,
        path=path,
    )
