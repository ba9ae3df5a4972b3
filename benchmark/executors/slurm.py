"""Runs jobs as arrays of Slurm, with sbatch, squeue and scancel alone; no accounting is needed."""

import getpass
import shlex
from collections.abc import Collection, Mapping, Sequence
from math import ceil

from pydantic import Field, ValidationInfo, field_validator

from .calls import call
from .contract import Job, Place, Resources
from .grouping import together
from .queued import Key, QueuedExecutor, QueueError, QueueSettings, Verdict

STARTING_S = 300.0
"""Seconds that the limit of a job has beyond those of its stages: modules, imports, a busy file system."""
LONGEST_MIN = 365 * 24 * 60
AUTO = "auto"
_AGAIN = {
    "TIMEOUT": "it met the time limit of its Slurm job",
    "PREEMPTED": "Slurm preempted it",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
}
_ENDED = {
    "CANCELLED": Verdict("ended", "its Slurm job was cancelled", "none"),
    "OUT_OF_MEMORY": Verdict("ended", "its Slurm job ran out of memory; raise it with --queue mem=…"),
    **dict.fromkeys(("COMPLETED", "FAILED", "DEADLINE"), Verdict("ended", "its Slurm job ended without a result")),
    **{state: Verdict("ended", reason, "all") for state, reason in _AGAIN.items()},
}
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


class SlurmSettings(QueueSettings):
    """What ``--queue`` says of Slurm.

    ``partition``, ``account``, ``qos`` and ``constraint`` are sbatch's. ``time`` is the limit of a job in minutes, in
    place of ``slack`` times what is predicted, or of the stage limit where nothing is; stages that meet it are sent
    again with twice as much. ``mem`` is sbatch's, or ``auto`` for what stages of a kind have taken, and ``gres`` what a
    stage on a GPU asks for. ``modules`` are loaded and lines of ``setup`` run before the stages; ``sbatch`` are further
    arguments. A text may stand for a list: names with commas, lines, and arguments as a shell has them.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: int | None = Field(default=None, gt=0)
    slack: float = Field(default=4.0, ge=1)
    mem: str | None = None
    gres: str = "gpu:1"
    modules: list[str] = Field(default_factory=list)
    setup: list[str] = Field(default_factory=list)
    sbatch: list[str] = Field(default_factory=list)

    @field_validator("modules", "setup", "sbatch", mode="before")
    @classmethod
    def _listed(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        if info.field_name == "sbatch":
            return shlex.split(value)
        return [part for part in value.split("\n" if info.field_name == "setup" else ",") if part.strip()]

    def header(self, jobs: Resources, minutes: int) -> list[str]:
        """Return the arguments of sbatch for jobs that take so much."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "cpus-per-task": jobs.cpus,
            "mem": self._memory(jobs) if self.mem == AUTO else self.mem,
            "gres": self.gres if jobs.gpus else None,
            "time": minutes,
        }
        return [f"--{name}={value}" for name, value in named.items() if value is not None] + self.sbatch

    @staticmethod
    def _memory(jobs: Resources) -> str | None:
        return None if jobs.memory_mib is None else f"{ceil(jobs.memory_mib)}M"

    def minutes(self, jobs: Sequence[Job], limit_s: float) -> int:
        """Return the limit of a job that runs these one after the other."""
        known = together(jobs).seconds
        seconds = len(jobs) * limit_s if known is None else min(self.slack * known, len(jobs) * limit_s)
        return self.time or ceil(min((STARTING_S + seconds) / 60, LONGEST_MIN))

    def script(self, command: str) -> str:
        """Return the script of a job."""
        modules = (f"module load {shlex.quote(name)}" for name in self.modules)
        return "\n".join(["#!/bin/bash", *modules, *self.setup, command, ""])


class SlurmExecutor(QueuedExecutor):
    """One array of Slurm per batch, one task of it per group of stages."""

    settings_of = SlurmSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._user = getpass.getuser()

    def send(self, name: str, groups: Sequence[Sequence[Job]], command: Sequence[str], tries: int) -> None:
        minutes = max(self.settings.minutes(group, self.place.limit_s) for group in groups)
        takes = together([job for group in groups for job in group])
        output = self.place.own(f"{name}-%a.out").absolute()
        for number in range(len(groups)):
            self.output(Key(name, number))
        asked = [
            *("sbatch", "--parsable", f"--job-name={name}", f"--array=0-{len(groups) - 1}", "--requeue"),
            *("--open-mode=append", f"--output={output}", "--chdir=/", "--export=ALL"),
            *self.settings.header(takes, min(2**tries * minutes, LONGEST_MIN)),
        ]
        self._run(asked, self.settings.script(f'exec {shlex.join(command)} "$SLURM_ARRAY_TASK_ID"'))

    def ask(self, keys: Collection[Key]) -> Mapping[Key, Verdict] | None:
        try:
            return {key: verdict for key, (_, verdict) in self._queue(keys).items()}
        except QueueError:
            return None

    def cancel(self, keys: Collection[Key]) -> None:
        try:
            ids = [number for number, verdict in self._queue(keys).values() if verdict.state != "ended"]
            if ids:
                self._run(["scancel", "--quiet", *ids])
        except QueueError:
            pass  # whoever cancels asks whether they have gone, and cancels again

    def _queue(self, keys: Collection[Key]) -> dict[Key, tuple[str, Verdict]]:
        """Return the id in Slurm and what Slurm says, of those groups that it knows."""
        names = ",".join(sorted({key.batch for key in keys}))
        shown = ["--noheader", "--array", "--states=all", "--format=%j|%F|%K|%T"]
        said = self._run(["squeue", *shown, f"--user={self._user}", f"--name={names}"])
        found = {}
        for line in said.splitlines():
            name, array, number, state = line.strip().split("|")
            if number.isdigit() and (key := Key(name, int(number))) in keys:
                there = Verdict("waiting" if state in _WAITING else "there")
                found[key] = (f"{array}_{number}", _ENDED.get(state, there))
        return found

    def _run(self, command: list[str], script: str = "") -> str:
        done = call(command, script)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise QueueError("; ".join(line.strip() for line in lines)[:500])
        return done.stdout
