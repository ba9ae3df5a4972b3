"""What a process of Ray runs for a stage: its command, whose processes never outlive the call."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...common.atomic import open_no_link
from ...common.processes import adopt_orphans, end_descendants, readable
from ..stages.apart import clear_scratch
from ..stages.wall import SECRETS

POLL_S = 0.1
GRACE_S = 5.0
_SET_HERE = ("RAY_", "UASBENCH_", "PYTHONPATH")


def surroundings(names: Mapping[str, str]) -> dict[str, str]:
    """Return what of a submitter's environment goes with its stages: where packages lie, and our own variables."""
    chosen = {name: value for name, value in names.items() if name == "PYTHONPATH" or name.startswith("UASBENCH_")}
    return {name: value for name, value in chosen.items() if name not in SECRETS}


def run_command(
    command: Sequence[str], log: str, result: str, environment: Mapping[str, str], on_gpu: bool
) -> tuple[int, str | None]:
    """Run a leashed command to its end; return its exit status and the text of its result file, None without one.

    However this call ends, the processes of the command end as well: after an exception before it returns, and by the
    leash where this process is killed. The GPU is the one that Ray has given to this process.
    """
    adopt_orphans()
    here = {name: value for name, value in os.environ.items() if not name.startswith(_SET_HERE)}
    here |= environment if on_gpu else {**environment, "CUDA_VISIBLE_DEVICES": ""}
    with open_no_link(Path(log)) as output:
        stage = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=here, start_new_session=True
        )
    try:
        ended = os.pidfd_open(stage.pid)
        try:
            while not readable([ended], POLL_S):  # Ray cancels by an exception, for which Python must come by
                pass
        finally:
            os.close(ended)
        status = stage.wait()
    finally:
        if stage.poll() is None:
            stage.terminate()
            try:
                stage.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                stage.kill()
        end_descendants()
        clear_scratch(stage.pid)
    try:
        return status, Path(result).read_text(encoding="utf-8")
    except FileNotFoundError:
        return status, None
