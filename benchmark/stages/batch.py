"""Runs stages one after the other in one job of a queue, each in a fork of a process that has done the slow imports."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ...common.atomic import write_text
from ...common.json_files import read_json
from ...common.processes import readable
from ...common.zygote import Worker, Zygote
from . import worker
from .apart import clear_scratch, death
from .wall import SECRETS

STOPPED = 128 + signal.SIGTERM
GRACE_S = 10.0


def main(batch: Path, number: int) -> None:
    """Run the stages of one group of a batch that have no result yet.

    A batch is ``{"preload": [module], "groups": [[[task, result, log, lock]]]}``. A stage that dies leaves its reason
    as a result; one that the queue stops leaves none, so that it can run again.
    """
    plan: dict[str, Any] = read_json(batch)
    group = plan["groups"][number]
    package = worker.__name__.rpartition(".")[0]
    modules = [f"{package}.preload", *plan["preload"]] if len(group) > 1 else []  # one imports no more than it needs
    zygote = Zygote(modules, hidden=SECRETS)
    running: list[Worker] = []

    def stop(number: int, _: object) -> None:
        for process in running:
            process.send_signal(signal.SIGTERM)
            if not readable([process], GRACE_S):
                process.send_signal(signal.SIGKILL)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    for files in group:
        result = Path(files[1])
        if result.exists():  # of the same group before it was put back into the queue
            continue
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                target = f"{worker.__name__}:{worker.work_file.__name__}"
                running.append(process := zygote.start(target, files, [theirs.fileno()]))
            readable([process])
            zygote.settle(process)
        running.clear()
        clear_scratch(process.pid)
        if process.status == STOPPED:
            raise SystemExit(STOPPED)
        if not result.exists():
            write_text(result, json.dumps({"error": death(process.status)}))
        process.close()
    zygote.close()


if __name__ == "__main__":
    for _name in SECRETS:
        os.environ.pop(_name, None)
    main(Path(sys.argv[1]), int(sys.argv[2]))
