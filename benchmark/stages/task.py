"""What every stage gets: frozen and typed, with one JSON form from which any host that sees the files can run it."""

from collections.abc import Callable

from pydantic import BaseModel

from .wall import Places

Progress = Callable[[int, int], None]
"""Called with what is done and how much there is in all."""

RunInside = Callable[[Callable[[Progress], None], Places | None], None]
"""Runs the part of a stage that executes a method's code, behind a wall around ``Places`` where those are given."""

ZRange = tuple[int, int] | None


class Frozen(BaseModel, frozen=True, extra="forbid", ser_json_inf_nan="constants"):
    """A value that nothing changes and that refuses fields it does not know."""


class Numerics(Frozen, frozen=True):
    """What the arithmetic of a run depends on; ``compiled`` are the networks of its fits (:mod:`.compiling`)."""

    device: str
    threads: int
    precision: str
    compiled: bool = False


ELSEWHERE = Numerics(device="elsewhere", threads=1, precision="fp32")
"""Of maps that another program made."""


class Task(Frozen, frozen=True):
    """One stage to run: ``stage`` names the module of this folder whose ``run(task, progress)`` does it.

    The subclass is called as the stage is, such as ``FitTask`` for ``fit``.
    """

    stage: str
