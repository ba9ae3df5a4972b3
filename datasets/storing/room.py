"""Room on the disk for what is still to be prepared, judged by what was prepared before."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from ...common.atomic import DiskError

FEWEST = 3
"""Scans whose mean is taken for that of the others."""

_CLOCKS_DIFFER_S = 1.0


class Room:
    """Stops a preparation whose remaining scans will not fit, while the disk still has room for others.

    Scans that add nothing to the store are not asked about.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self._since = time.time() - _CLOCKS_DIFFER_S
        self._written: list[int] = []

    def add(self, entries: Iterable[Path], remaining: int) -> None:
        """Note the entries of one scan; ``remaining`` are still to be prepared.

        Raises:
            DiskError: they will take more than is free.
        """
        files = (path.stat() for entry in entries for path in entry.iterdir())
        self._written.append(sum(file.st_size for file in files if file.st_ctime >= self._since))
        needed = sum(self._written) / len(self._written) * remaining
        free = shutil.disk_usage(self.root).free
        if len(self._written) >= FEWEST and needed > free:
            raise DiskError(
                f"{self.root}: {remaining} more scans of {self.name} will take about {needed / 2**30:.1f} GiB and "
                f"{free / 2**30:.1f} GiB are free; make room, run fewer methods or choose another folder"
            )
