"""A program that runs another one, and ends it with all that it has started once standard input closes.

Whoever starts this one keeps the other end of its input: the system closes it when that process ends, however it ends.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

GRACE_S = 5.0


def main(command: list[str]) -> int:
    """Run the command in a session of its own and return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603

    def end(number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    def watch() -> None:
        os.read(0, 1)
        end(signal.SIGTERM)
        time.sleep(GRACE_S)
        end(signal.SIGKILL)

    signal.signal(signal.SIGTERM, lambda *_: end(signal.SIGTERM))
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    end(signal.SIGKILL)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
