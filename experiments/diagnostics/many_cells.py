"""What a sweep of many cells asks of the harness itself, without computing any of them.

``python -m uasbench.experiments.diagnostics.many_cells --cells 10000`` plans a sweep of ``ae`` (settings × seeds) on
the smallest liver phantom, writes its plan, lets time pass for all of its stages on a cluster of the given size, and
reads the journal as ``bench status`` does; each part with its processor seconds and the memory so far.

While time passes, the settings take in turn what the methods with a rate at ``paper`` on a GPU do.
"""

import argparse
import multiprocessing
import re
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...benchmark.catalogue.rates import Rate, rates
from ...benchmark.commands.journal import Journal
from ...benchmark.commands.status import status
from ...benchmark.executors.contract import Job
from ...benchmark.planning.options import MOST_SEEDS, validated
from ...benchmark.planning.plan import Graph
from ...benchmark.planning.prediction import wall_s
from ...benchmark.planning.tasks import planned_tasks
from ...benchmark.planning.where import where
from ...benchmark.runs.folder import RunFolder

MEASURE_S, START_S = 36.0, 2.7
"""Of measuring a cell at ``paper``, and what a job of Slurm takes around its stage (docs/performance.md)."""
SETTING = re.compile(r"@v(\d+) ")


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
        jobs = timed(graph.jobs.values(), [r for r in rates().rows if (r.profile, r.device) == ("paper", "gpu")])
        journal = Journal(run, jobs, workers, None, lambda _: None)
        with told(f"passing {len(jobs)} stages through {workers} workers"):
            hours = wall_s(jobs, workers, journal) / 3600
        seconds = [job.resources.seconds or 0.0 for job in jobs]
        work, longest = sum(seconds) / 3600, max(seconds) / 3600
        print(f"simulated: {hours:.1f} h for {work:.0f} h of work, {work / hours / workers:.0%} of the workers busy")
        print(
            f"the longest stage {longest:.1f} h; {len(jobs) * START_S / 3600:.0f} h for starting jobs of one stage each"
        )
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            print(alone.submit(_status, run.path).result())


def _status(run: Path) -> dict[str, int]:
    """Read the status in a process that has planned nothing, as ``bench status`` is."""
    with told("reading the status, alone"):
        return status(RunFolder.open(run), time.time()).cells


def timed(jobs: Iterable[Job], rated: Sequence[Rate]) -> list[Job]:
    """Return the jobs of a sweep with the seconds that they take; the settings have the rates in turn."""

    def seconds(job: Job) -> float:
        found = SETTING.search(job.label)
        rate = rated[int(found[1]) % len(rated) if found else -1]
        takes = {"fit": rate.fit_s, "map": rate.slice_s * rate.slices, "measure": MEASURE_S}
        return takes[job.task.stage] + START_S

    return [replace(job, resources=replace(job.resources, seconds=seconds(job))) for job in jobs]


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
