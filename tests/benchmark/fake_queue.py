"""A queue of one machine, driven as LSF is: submit LOG COMMAND…, poll ID, cancel ID."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def main(what: str, *rest: str) -> None:
    if what == "submit":
        with Path(rest[0]).open("a") as log:
            process = subprocess.Popen(rest[1:], stdin=-3, stdout=log, stderr=log, start_new_session=True)
        print(f"Job <{process.pid}> is submitted to queue <normal>.")
    elif what == "poll":
        print("RUN" if alive(int(rest[0])) else "DONE")
    elif alive(int(rest[0])):
        with suppress(ProcessLookupError):
            os.kill(int(rest[0]), signal.SIGTERM)


main(*sys.argv[1:])
