"""Trainings and maps of other runs, taken over by a run that would make the same: their addresses say so."""

import os
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from ...common.atomic import CONTENTS, discard, new_folder
from ...common.json_files import read_json
from ...common.sealed import check_files
from .folder import RunFolder, RunFolderError
from .records import MAP_SEAL


class Others:
    """The run folders that another run may take from; they are only read.

    Raises:
        RunFolderError: one of them is no run, or is ``taker``, the folder of the other run.
    """

    def __init__(self, runs: Iterable[Path] = (), taker: Path | None = None) -> None:
        self.folders = [RunFolder.open(run) for run in runs]
        if any(folder.path == taker for folder in self.folders):
            raise RunFolderError(f"--reuse {taker}: a run goes on with its own folder anyway; name others")

    def fits(self, fit_id: str) -> list[Path]:
        """Return where a training of this address lies; whether it is whole is not asked."""
        return [path for folder in self.folders if (path := folder.fit_dir(fit_id)).is_dir()]

    def maps(self, map_id: str) -> list[Path]:
        """Return where maps of this address lie, whatever row they belong to; whether they are whole is not asked."""
        return self._maps.get(map_id, [])

    @cached_property
    def _maps(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for seal in (path for folder in self.folders for path in sorted(folder.maps_dir.glob(f"*/{MAP_SEAL}"))):
            try:
                found.setdefault(str(read_json(seal)["id"]), []).append(seal.parent)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # says nothing of what it is, so nobody asks for it
        return found


def take_over(seal: Path, target: Path) -> None:
    """Make ``target`` from what the seal of another run's folder lists, as links to the same files where they can be.

    Raises:
        DamagedError: a file is not what was written.
        DiskError: the disk is full or the folder cannot be written.
    """
    source, names = seal.parent, check_files(seal)["files"]
    discard(target)
    with new_folder(target) as scratch:
        for name in (*names, seal.name, *(CONTENTS,) * (source / CONTENTS).exists()):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link((source / name).resolve(), scratch / name)
            except OSError:  # another disk, or one without links
                shutil.copyfile(source / name, scratch / name)
