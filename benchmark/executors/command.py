"""Runs jobs through commands that put one into a queue, ask for it and cancel it, for LSF, OAR, PBS and others."""

import re
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from ...common.atomic import write_text
from .calls import call
from .contract import Job, Place
from .grouping import together
from .queued import ENDED, Key, QueuedExecutor, QueueError, QueueSettings, Verdict

UNKNOWN_AFTER = 2
THERE = Verdict("there")
_FIELD = re.compile(r"\{(\w+)\}")


class CommandSettings(QueueSettings):
    """The templates are split into words as a shell does; no shell runs them.

    ``submit`` may have ``{command}`` (as words) or ``{script}`` (a file with it), ``{log}``, ``{name}``, ``{cpus}``,
    ``{gpus}``, ``{memory_mib}``, ``{seconds}`` and ``{minutes}``; ``poll`` and ``cancel`` have ``{id}`` or ``{name}``.
    ``id`` finds the job's id in what ``submit`` prints: its first group, or all of it. A job has ended where ``poll``
    has an exit status other than 0, prints nothing, or prints what ``ended`` finds. ``memory_mib`` stands in place of
    what stages of a kind have taken; ``seconds`` are the limit of a job, in place of ``slack`` times what is predicted,
    or the stage limit.
    """

    submit: str
    poll: str
    cancel: str
    id: re.Pattern[str] = re.compile(r"(\d[\w.\[\]-]*)")
    ended: re.Pattern[str] = re.compile(
        r"(?i)\b(done|exit|completed|terminated|finished|failed|succeeded|cancell?ed|error|timeout)\b"
    )
    memory_mib: int = Field(default=8192, gt=0)
    seconds: int | None = Field(default=None, gt=0)
    slack: float = Field(default=4.0, ge=1)

    fields: ClassVar[dict[str, set[str]]] = {
        "submit": {"command", "script", "log", "name", "cpus", "gpus", "memory_mib", "seconds", "minutes"},
        "poll": {"id", "name"},
        "cancel": {"id", "name"},
    }

    @field_validator("submit", "poll", "cancel")
    @classmethod
    def _template(cls, text: str, info) -> str:
        known = cls.fields[info.field_name]
        try:
            shlex.split(text)
        except ValueError as error:
            raise ValueError(f"{text!r} cannot be split into words: {error}") from error
        used = set(_FIELD.findall(text))
        if wrong := used - known:
            raise ValueError(f"{text!r} has {{{min(wrong)}}}; there are {', '.join(sorted(known))}")
        if not used & ({"command", "script"} if info.field_name == "submit" else known):
            needed = "{command} or {script}" if info.field_name == "submit" else "{id} or {name}"
            raise ValueError(f"{text!r} has no {needed}")
        return text


class CommandExecutor(QueuedExecutor):
    """One job of the queue per group of stages, by the commands of :class:`CommandSettings`."""

    settings_of = CommandSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._missed: dict[Key, int] = {}
        self._by_id = "{id}" in self.settings.poll + self.settings.cancel

    def send(self, name: str, groups: Sequence[Sequence[Job]], command: Sequence[str], tries: int) -> None:
        sent = []
        for number, group in enumerate(groups):
            key = Key(name, number)
            try:
                write_text(self._id_file(key), self._submit(key, group, [*command, str(number)], tries))
            except QueueError:
                self.cancel(sent)
                raise
            sent.append(key)

    def left_by(self, key: Key) -> Sequence[Path]:
        return self._id_file(key), self._script(key)

    def ask(self, keys: Collection[Key]) -> Mapping[Key, Verdict]:
        return {key: verdict for key in keys if (verdict := self._ask(key)) is not None}

    def cancel(self, keys: Collection[Key]) -> None:
        for key in keys:
            if (names := self._names(key)) is not None:
                call(_words(self.settings.cancel, names))

    def _submit(self, key: Key, group: Sequence[Job], command: list[str], tries: int) -> str:
        takes, set_ = together(group), self.settings
        known = None if takes.seconds is None else 60 + set_.slack * takes.seconds
        known_mib = None if "memory_mib" in set_.model_fields_set else takes.memory_mib
        seconds = ceil(min(2**tries * (set_.seconds or known or self.place.limit_s), 1e8))
        values = {
            "name": key.text,
            "log": str(self.output(key).absolute()),
            "cpus": str(takes.cpus),
            "gpus": str(ceil(takes.gpus)),
            "memory_mib": str(ceil(known_mib or set_.memory_mib)),
            "seconds": str(seconds),
            "minutes": str(ceil(seconds / 60)),
        }
        if "{script}" in set_.submit:
            script = self._script(key)
            write_text(script, f"#!/bin/sh\nexec {shlex.join(command)}\n").chmod(0o755)
            values["script"] = str(script.absolute())
        done = call(_words(set_.submit, values, command))
        if done.returncode:
            raise QueueError(f"--queue submit: {_said(done)}")
        found = set_.id.search(done.stdout) or set_.id.search(done.stderr)
        if found is None and self._by_id:
            raise QueueError(f"--queue submit names no job by which it can be found (--queue id=REGEX): {_said(done)}")
        return "" if found is None else found[found.re.groups and 1]

    def _ask(self, key: Key) -> Verdict | None:
        if (names := self._names(key)) is None:
            return None
        done = call(_words(self.settings.poll, names))
        if not done.returncode and done.stdout.strip() and not self.settings.ended.search(done.stdout):
            self._missed.pop(key, None)
            return THERE
        self._missed[key] = self._missed.get(key, 0) + 1
        if done.returncode and self._missed[key] < UNKNOWN_AFTER:  # the queue may have been too busy to answer
            return THERE
        return Verdict("ended", f"{ENDED.reason} ({_said(done)})")

    def _names(self, key: Key) -> dict[str, str] | None:
        """Return by what a group is found in the queue, None where it may have never been there."""
        if not self._by_id:
            return {"id": "", "name": key.text}
        try:
            return {"id": self._id_file(key).read_text(encoding="utf-8"), "name": key.text}
        except OSError:
            return None

    def _id_file(self, key: Key) -> Path:
        return self.place.own(f"{key.text}.id")

    def _script(self, key: Key) -> Path:
        return self.place.own(f"{key.text}.sh")


def _words(template: str, values: Mapping[str, str], command: Sequence[str] = ()) -> list[str]:
    words, everything = [], {**values, "command": shlex.join(command)}
    for word in shlex.split(template):
        if word == "{command}":
            words += command
        else:
            words.append(_FIELD.sub(lambda field: everything[field[1]], word))
    return words


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = f"{done.stdout}\n{done.stderr}".split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"{done.args[0]}: {said[-1][:300] if said else f'exit status {done.returncode}, nothing said'}"
