"""A stage that does as it is told, fails included: what the contract test of executors runs."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

from .task import Progress, RunInside, Task
from .wall import Places

SECOND_LINE = "the second line of a message is in the log alone"


class ProbeTask(Task, frozen=True):
    """Append ``name`` and the process id to ``folder/begun``, act, and leave ``folder/NAME.done``.

    ``wait`` waits for ``folder/NAME.go``; ``kill`` kills its own process.
    """

    stage: Literal["probe"] = "probe"
    name: str
    folder: Path
    act: Literal["finish", "wait", "raise", "exit", "kill"] = "finish"


def run(task: ProbeTask, run_inside: RunInside) -> None:
    """Do what the task says; a task that was finished before is left as it is, as every stage does."""
    run_inside(lambda report: _act(task, report), Places(writes=(task.folder,)))


def _act(task: ProbeTask, progress: Progress) -> None:
    done = task.folder / f"{task.name}.done"
    if done.exists():
        return
    print(f"working on {task.name}")
    with (task.folder / "begun").open("a", encoding="utf-8") as file:
        file.write(f"{task.name} {os.getpid()}\n")
    progress(0, 1)
    if task.act == "raise":
        raise ValueError(f"{task.name} was told to fail\n{SECOND_LINE}")
    if task.act == "exit":
        sys.exit(4)
    if task.act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while task.act == "wait" and not (task.folder / f"{task.name}.go").exists():
        time.sleep(0.02)
    assert "UASBENCH_DATA" not in os.environ, "a stage must not know where the labels lie"
    done.touch()
    progress(1, 1)
