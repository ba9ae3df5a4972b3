"""Whether disks can be mounted where only a command and its children see them."""

import os
import shutil
import subprocess


def can_mount() -> bool:
    """Return whether this is root, with ``unshare``."""
    if os.geteuid() or not shutil.which("unshare"):
        return False
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return done.returncode == 0
