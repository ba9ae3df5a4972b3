"""What an executor adds to a stage: ``python -m uasbench.experiments.diagnostics.overhead local ray slurm``.

Stages that do nothing run one after the other on one worker, after a few that are not counted. ``slurm`` needs a
cluster and a folder that its nodes see; ``slurm:group_s=300,unknown_s=30`` groups ten stages in a job. Printed beside
it is what a job needs before its first stage: to start Python and import PyTorch, and what else jobs of several stages
import for all of them.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from ...benchmark.conformance.executors import Bench
from ...benchmark.executors import contract
from ...benchmark.executors.contract import Event, find_executor
from ...benchmark.planning.options import parse_queue

PRELOAD = f"{contract.__name__.rpartition('.executors')[0]}.stages.preload"
WARM = 3
STARTS = 5


def per_stage(name: str, settings: Sequence[str], stages: int, folder: Path) -> float:
    """Return the seconds of a stage that does nothing, through the executor ``name``."""
    executor = find_executor(name)
    bench = Bench(f"{executor.__module__}:{executor.__qualname__}", folder, parse_queue(settings))
    bench.place = replace(bench.place, workers=1)
    ended: list[float] = []

    def watch(event: Event) -> None:
        if event.kind == "done":
            ended.append(time.monotonic())
        assert event.kind != "failed", event.value

    bench.run(*(bench.job(f"stage-{i:04d}") for i in range(WARM + stages)), watch=watch)
    return (ended[-1] - ended[WARM - 1]) / stages


def start_s(module: str) -> float:
    """Return the seconds in which Python starts and has imported a module, the median of a few."""
    found = []
    for _ in range(STARTS):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: S603
        found.append(time.monotonic() - began)
    return median(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds of a stage with each executor."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("executors", nargs="+", help="local, ray, slurm, command; with settings after a colon")
    parser.add_argument("--stages", type=int, default=30)
    parser.add_argument("--at", type=Path, help="folder for the files of stages")
    given = parser.parse_args(arguments)
    for module in ("torch", PRELOAD):
        print(f"{f'Python and {module}':40s} {start_s(module):7.3f} s", flush=True)
    for text in given.executors:
        name, _, settings = text.partition(":")
        with tempfile.TemporaryDirectory(dir=given.at) as folder:
            seconds = per_stage(name, settings.split(",") if settings else [], given.stages, Path(folder))
        print(f"{text:40s} {seconds:7.3f} s a stage", flush=True)


if __name__ == "__main__":
    main()
