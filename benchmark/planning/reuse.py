"""Trainings and maps of other runs, taken over by a run that would make the same: their addresses say so."""

import os
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from ...common.atomic import contents, discard, new_folder
from ...common.json_files import read_json
from ...common.sealed import check_files
from ..runs.folder import RunFolder, RunFolderError
from ..runs.records import MAP_SEAL
from ..stages.inputs import not_own


class Others:
    """The run folders that another run may take from; they are only read.

    Folders with links in them are passed over: what a method has left could lead to labels.

    Raises:
        RunFolderError: one of them is no run, or is ``taker``, the folder of the other run.
    """

    def __init__(self, runs: Iterable[Path] = (), taker: Path | None = None) -> None:
        self.folders = [RunFolder.open(run) for run in runs]
        if any(folder.path == taker for folder in self.folders):
            raise RunFolderError(f"--reuse {taker}: a run goes on with its own folder anyway; name others")

    def fits(self, fit_id: str) -> list[Path]:
        """Return where a training of this address lies; whether it is whole is not asked."""
        paths = (folder.fit_dir(fit_id) for folder in self.folders)
        return [path for path in paths if path.is_dir() and not_own(path) is None]

    def maps(self, map_id: str) -> list[Path]:
        """Return where maps of this address lie, whatever row they belong to; whether they are whole is not asked."""
        return [path for path in self._maps.get(map_id, []) if not_own(path) is None]

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
    """Make ``target`` from what another run's folder held when it was made, linked where it can be.

    Raises:
        DamagedError: a file is not what was written.
        DiskError: the disk is full or the folder cannot be written.
    """
    source = seal.parent
    discard(target)
    with new_folder(target) as scratch:
        for path in filter(Path.is_file, dict.fromkeys(contents(source))):
            copy = scratch / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, copy, follow_symlinks=False)
            except OSError:  # another disk, or one without links
                shutil.copyfile(path, copy, follow_symlinks=False)
        check_files(scratch / seal.name)
