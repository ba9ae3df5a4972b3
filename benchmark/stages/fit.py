"""The fit stage: healthy scans in, checkpoints and curves out. It never sees a label path."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...datasets.atomic import new_folder
from ...datasets.healthy import HealthySet, Part
from ...datasets.store import PreparedCase
from ...methods.config import resolve
from ...methods.context import FitContext
from ...methods.state import parameter_count
from .. import device as devices
from ..runs.records import write_json
from ..usage import peak_ram_mib
from . import drive

Report = Callable[[str, Any], None]
ZRange = tuple[int, int] | None


@dataclass(frozen=True)
class MethodSpec:
    """A method and its settings, as they travel to a worker."""

    target: str
    profile: str
    anatomy: str
    settings: dict[str, Any]

    def load(self) -> tuple[Any, Any]:
        """Import the class and resolve its config."""
        cls = drive.import_target(self.target)
        return cls, resolve(cls.Config, self.profile, self.anatomy, self.settings)


@dataclass(frozen=True)
class FitTask:
    """Everything a worker needs for one fit; ``parts`` are the training cases with their slice ranges."""

    id: str
    method: MethodSpec
    parts: list[tuple[dict[str, Any], ZRange]]
    seed: int
    device: str
    precision: str
    threads: int
    out: str


def healthy_set(parts: list[tuple[dict[str, Any], ZRange]]) -> HealthySet:
    """Open prepared cases as a healthy set."""
    return HealthySet([Part(PreparedCase.from_json(case), z) for case, z in parts])


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

        method = drive.construct(cls, config, seed=task.seed, device=task.device)
        context = FitContext(
            seed=task.seed,
            device=task.device,
            precision=task.precision,
            save_checkpoint=lambda name: method.save(scratch / f"{name}.pt"),
            on_progress=on_progress,
            on_log=on_log,
        )
        start = time.perf_counter()
        method.fit(healthy_set(task.parts), context)
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
            "checkpoints": sorted(p.stem for p in scratch.glob("*.pt")),
        },
    )
