"""Finding files below a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files below ``folder`` whose whole name matches ``pattern`` (in any case), sorted.

    Links are followed, each real folder once; hidden files and folders are left out.

    Raises:
        OSError: a folder cannot be listed.
    """
    name_is_wanted = re.compile(pattern, re.IGNORECASE)
    seen: set[str] = set()
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise error

    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in files if name_is_wanted.fullmatch(name) and not name.startswith(".")]
    return sorted(found)
