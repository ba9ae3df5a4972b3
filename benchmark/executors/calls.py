"""Commands of a queue, which end whatever they do."""

import os
import subprocess
from collections.abc import Sequence

from ..stages.wall import SECRETS

COMMAND_S = 120.0


def call(words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the queue; one that cannot be run or does not end has exit status 127.

    It gets the environment without what no stage may see, for a queue hands that on to jobs.
    """
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    try:
        return subprocess.run(  # noqa: S603
            words, input=text, capture_output=True, text=True, timeout=COMMAND_S, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]} cannot be used: {error}")
