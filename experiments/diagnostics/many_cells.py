"""What a sweep of many cells asks of the harness itself, without computing any of them.

``python -m uasbench.experiments.diagnostics.many_cells --cells 10000`` plans a sweep of ``ae`` (settings × seeds) on
the smallest liver phantom, writes its plan, lets time pass for all of its stages on a cluster of the given size, and
reads the journal as ``bench status`` does; each part with its processor seconds and the memory so far.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...benchmark.commands.journal import Journal
from ...benchmark.commands.status import status
from ...benchmark.executors.contract import Job
from ...benchmark.planning.options import MOST_SEEDS, validated
from ...benchmark.planning.plan import Graph
from ...benchmark.planning.prediction import wall_s
from ...benchmark.planning.tasks import planned_tasks
from ...benchmark.planning.where import where
from ...benchmark.runs.folder import RunFolder

HOURS = {"fit": 0.5, "map": 0.05, "measure": 0.01}
"""Of a stage at ``paper`` on a GPU, as docs/performance.md reckons it for a network on slices."""


def _peak_mib() -> float:
    """Return the largest memory of this process, which ``getrusage`` mixes with that of the one that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


@contextmanager
def told(what: str) -> Iterator[None]:
    """Print what a part has cost."""
    began, cpu = time.monotonic(), time.process_time()
    yield
    memory = max(_peak_mib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10)
    print(
        f"{what:44s} {time.process_time() - cpu:8.1f} s of a core {time.monotonic() - began:8.1f} s {memory:7.0f} MiB"
    )


def sweep(cells: int, workers: int, folder: Path) -> None:
    """Plan and simulate a sweep."""
    seeds = min(cells, MOST_SEEDS)
    variants = [f"v{i}:ae.lr={(i + 1) * 1e-6:.6f}" for i in range(max(0, cells // seeds - 1))]
    options = validated(
        methods="ae", datasets=["lits"], phantom=True, profile="smoke", seeds=list(range(seeds)), out=folder / "run",
        variants=variants, cache=folder / "cache", device="cpu", workers=1,
    )  # fmt: skip
    place = where(options)
    with told("preparing the scans"):
        tasks = planned_tasks(options, 1)
    with RunFolder.working(options.folder()) as run:
        graph = Graph(place.numerics, run)
        with told(f"planning {cells} cells"):
            graph.add_all(options, tasks)
        with told("writing the plan"):
            run.update_info(cells=[key.slug for key in graph.plans])
            graph.write()
        jobs = [_timed(job) for job in graph.jobs.values()]
        journal = Journal(run, jobs, workers, None, lambda _: None)
        with told(f"passing {len(jobs)} stages through {workers} workers"):
            hours = wall_s(jobs, workers, journal) / 3600
        work = sum(job.resources.seconds or 0.0 for job in jobs) / 3600
        print(f"simulated: {hours:.1f} h for {work:.0f} h of work, {work / hours / workers:.0%} of the workers busy")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            print(alone.submit(_status, run.path).result())


def _status(run: Path) -> dict[str, int]:
    """Read the status in a process that has planned nothing, as ``bench status`` is."""
    with told("reading the status, alone"):
        return status(RunFolder.open(run), time.time()).cells


def _timed(job: Job) -> Job:
    return replace(job, resources=replace(job.resources, seconds=3600 * HOURS[job.task.stage]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each part costs."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1000)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sweep(given.cells, given.workers, Path(folder))


if __name__ == "__main__":
    main()
