"""A run without an executor: ``bench stage`` runs one stage of a plan, and plain Slurm scripts run all of them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.atomic import write_text
from ...common.errors import UasbenchError, brief, did_you_mean
from ...common.json_files import read_json
from ...common.sealed import damage
from ..executors.contract import Job, Place, checked_settings
from ..executors.grouping import grouped, together
from ..executors.queued import LARGEST_BATCH
from ..executors.slurm import SlurmSettings
from ..planning.options import RunOptions
from ..planning.where import where
from ..runs.folder import RunFolder
from ..runs.records import FIT_SEAL
from ..stages.map import finished
from .predicting import described
from .running import prepared

if TYPE_CHECKING:
    from rich.console import Console

PLAN = "plan.json"
WAVES = ("fit", "map", "refine", "measure")


class StageUseError(UasbenchError):
    """The stage cannot be run now; the message says why."""


def run_stage(folder: RunFolder, name: str) -> str | None:
    """Run a planned stage to its end; return what went wrong, in one line, or None.

    Raises:
        StageUseError: no such stage, or what it needs is not done.
    """
    place, path = Place(folder, workers=1), folder.tasks_dir / PLAN
    try:
        needs = {stage: list(about["needs"]) for stage, about in read_json(path).items()}
    except FileNotFoundError:
        raise StageUseError(f"{folder.path} has no plan of stages; 'bench plan … --stages' writes one") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StageUseError(
            f"{path} cannot be read ({brief(error)}); 'bench plan … --stages' writes it again"
        ) from error
    if name not in needs:
        raise StageUseError(f"{folder.path} has no stage {name!r}{did_you_mean(name, list(needs))}; {path} names them")
    if missing := [need for need in needs[name] if not _is_done(place.task(need))]:
        raise StageUseError(f"{name} needs {', '.join(missing)}, not done yet: run that first, with 'bench stage' too")
    done = subprocess.run(place.again(name), check=False)  # noqa: S603
    outcome = place.outcome(name)
    return f"its process left no result, and exit status {done.returncode}" if outcome is None else outcome.value


def _is_done(file: Path) -> bool:
    try:
        task = read_json(file)
        stage, out, its_id = task["stage"], Path(task["out"]), task["id"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StageUseError(
            f"{file} cannot be read ({brief(error)}); 'bench plan … --stages' writes it again"
        ) from error
    if stage in ("map", "refine"):
        return finished(out) == its_id
    return damage(out / FIT_SEAL, seal_alone=True) is None


def write_stages(options: RunOptions, console: Console | None = None) -> list[str]:
    """Write the plan of a run into its folder; return the ids of its stages, each after those that it needs.

    Raises:
        UasbenchError: as for a run, or nothing is left to do.
    """
    with RunFolder.working(options.folder()) as folder:
        return [job.id for wave in _written(options, folder, console)[1] for job in wave]


def write_scripts(options: RunOptions, file: Path, console: Console | None = None) -> list[Path]:
    """Write the plan of a run into its folder, and plain Slurm scripts that run it; return them, the sender first.

    Raises:
        UasbenchError: as for a run, or nothing is left to do.
    """
    options = options.model_copy(update={"executor": "slurm"})
    settings: Any = checked_settings(SlurmSettings, options.queue)
    with RunFolder.working(options.folder()) as folder:
        place, waves = _written(options, folder, console)
        file.parent.mkdir(parents=True, exist_ok=True)
        scripts = []
        for jobs in waves:
            path = file.with_name(f"{file.stem}-{len(scripts) + 1}-{jobs[0].task.stage}.sbatch")
            scripts.append(write_text(path, _array(jobs, place, settings)))
    sender = write_text(file, _sender(scripts))
    sender.chmod(0o755)
    return [sender, *scripts]


def _written(options: RunOptions, folder: RunFolder, console: Console | None) -> tuple[Place, list[list[Job]]]:
    """Write the plan of a run; return its jobs in waves, each of which needs those before."""
    place_of = where(options)
    _, graph = prepared(options, place_of, folder, console)
    place = Place(folder, place_of.workers, limit_s=options.limit_s)
    for job in graph.jobs.values():
        place.files(job)
    plan = {job.id: described(job) for job in graph.jobs.values()}
    write_text(place.own(PLAN), json.dumps(plan, indent=1))
    waves = [[job for job in graph.jobs.values() if job.task.stage == stage] for stage in WAVES]
    if not any(waves):
        raise StageUseError(f"{folder.path}: nothing is left to do")
    return place, [*filter(None, waves)]


def _array(jobs: Sequence[Job], place: Place, settings: SlurmSettings) -> str:
    """Return the script of an array whose tasks run groups of stages, so that no line of it needs this package."""
    groups = grouped(sorted(jobs, key=lambda job: job.rank), settings)
    tasks = min(len(groups), LARGEST_BATCH)
    minutes = max(settings.minutes(group, place.limit_s) for group in groups) * -(-len(groups) // tasks)
    header = [
        f"--job-name=bench-{jobs[0].task.stage}",
        f"--array=0-{tasks - 1}%{place.workers}",
        "--requeue",
        "--open-mode=append",
        f"--output={(place.folder.logs_dir / 'slurm-%A_%a.out').absolute()}",
        *settings.header(together(jobs), minutes),
    ]
    bench = Path(sys.executable).with_name("bench")
    command = shlex.join([str(bench) if bench.exists() else "bench", "stage", str(place.folder.path.absolute())])
    lines = [
        *(f"#SBATCH {argument}" for argument in header),
        settings.script("groups=(").removeprefix("#!/bin/bash\n").rstrip("\n"),
        *(f"  {shlex.quote(' '.join(job.id for job in group))}" for group in groups),
        ")",
        "failed=0",
        "for ((i = SLURM_ARRAY_TASK_ID; i < ${#groups[@]}; i += SLURM_ARRAY_TASK_COUNT)); do",
        "  for stage in ${groups[i]}; do",
        f'    {command} "$stage" || failed=1',
        "  done",
        "done",
        "exit $failed",
    ]
    return "\n".join(["#!/bin/bash", *lines, ""])


def _sender(scripts: Sequence[Path]) -> str:
    """Return the script that sends the waves, each after the one before; what needs a failed stage fails by itself."""
    lines = ["#!/bin/bash", "set -e"]
    for number, script in enumerate(scripts):
        after = ' --dependency=afterany:"$last"' if number else ""
        lines.append(f"last=$(sbatch --parsable{after} {shlex.quote(str(script.absolute()))})")
        lines.append(f'echo "{script.name}: $last"')
    return "\n".join([*lines, ""])
