"""What a process of Ray does for a stage: has it forked where slow imports are done, and ends it with the call."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...common.processes import adopt_orphans, readable
from ...common.zygote import Worker, Zygote
from ..stages import worker
from ..stages.apart import clear_scratch
from ..stages.wall import SECRETS

POLL_S = 0.1
GRACE_S = 5.0
TARGET = f"{worker.__name__}:{worker.work_leashed.__name__}"
_SET_HERE = ("RAY_", "UASBENCH_", "PYTHONPATH")
_kept: dict[tuple[tuple[str, str], ...], Zygote] = {}
"""The one that forks stages, by its environment: a process of Ray runs many stages, one after the other."""


def surroundings(names: Mapping[str, str]) -> dict[str, str]:
    """Return what of a submitter's environment goes with its stages: where packages lie, and our own variables."""
    chosen = {name: value for name, value in names.items() if name == "PYTHONPATH" or name.startswith("UASBENCH_")}
    return {name: value for name, value in chosen.items() if name not in SECRETS}


def run_stage(
    files: Sequence[str], environment: Mapping[str, str], on_gpu: bool, modules: Sequence[str] = ()
) -> tuple[int | None, str | None]:
    """Run the stage of these files (task, result, log, lock) to its end; return its exit status and its result's text.

    There is no text where it has left none, and no status where the process that would know has died, too. However this
    call ends, the stage ends as well: after an exception before it returns, and by its leash where this process is
    killed. ``modules`` are imported once for all stages. The GPU is the one that Ray has given to this process.
    """
    adopt_orphans()
    here = {name: value for name, value in os.environ.items() if not name.startswith(_SET_HERE)}
    here |= environment if on_gpu else {**environment, "CUDA_VISIBLE_DEVICES": ""}
    zygote = _zygote(here, modules)
    with _leash() as leash:
        try:
            stage = zygote.start(TARGET, files, [leash])
        except BaseException:
            zygote.close()  # it may have been asked half
            raise
        try:
            while not readable([stage], POLL_S):  # Ray cancels by an exception, for which Python must come by
                pass
        finally:
            _end(stage)
            zygote.settle(stage)
            stage.close()
            clear_scratch(stage.pid)
    try:
        return stage.status, Path(files[1]).read_text(encoding="utf-8")
    except FileNotFoundError:
        return stage.status, None


def _zygote(environment: Mapping[str, str], modules: Sequence[str]) -> Zygote:
    key = tuple(sorted(environment.items()))
    if key not in _kept:
        for other in _kept.values():
            other.close()
        _kept.clear()
        _kept[key] = Zygote(modules, environment=environment)
    return _kept[key]


@contextmanager
def _leash() -> Iterator[int]:
    """Yield the end of a pipe whose other end this process alone holds, for as long as it lives."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _end(stage: Worker) -> None:
    """End a stage that still runs."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if readable([stage], 0):
            return
        stage.send_signal(number)
        readable([stage], GRACE_S)
