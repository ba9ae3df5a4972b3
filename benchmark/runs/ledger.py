"""What bench has made in a run folder and may delete again: a list that it keeps, not a guess from names."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from ...common.atomic import contents
from ...common.errors import DataError

Files = list[Path]


class Ledger:
    """``RUN/ledger``: paths relative to the run folder, one a line, each written down before the thing is made.

    A folder on the list is made whole, with a list of its own of what it held then (:func:`..atomic.contents`), and
    what was put into it later stays. A link is never bench's own, and nothing behind one is.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.path = run / "ledger"
        self._known: set[Path] | None = None

    def add(self, *paths: Path) -> None:
        """Write down what is about to be made; what is on the list already is not written again."""
        known = self.paths() if self._known is None else self._known
        if new := [path for path in dict.fromkeys(paths) if path not in known]:
            lines = "".join(f"{path.relative_to(self.run).as_posix()}\n" for path in new)
            with self._open("ab", os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        known.update(new)
        self._known = known

    def paths(self) -> set[Path]:
        """Return what is on the list, in this folder; a line that leads out of it counts nothing.

        Raises:
            DataError: the list cannot be read.
        """
        if not os.path.lexists(self.path):
            return set()
        with self._open("rb", os.O_RDONLY) as file:
            text = file.read().decode("utf-8", errors="replace").replace("\0", "\n")
        lines = text.split("\n")[:-1]  # the last line of a machine that lost power may be cut
        inside = (PurePosixPath(line) for line in lines)
        return {self.run / path for path in inside if path.parts and not path.is_absolute() and ".." not in path.parts}

    def owned(self, path: Path, listed: Collection[Path]) -> Files:
        """Return what of the ``listed`` bench made at a path, the insides of a folder before itself; else nothing."""
        if path not in listed or not os.path.lexists(path) or self._linked(path):
            return []
        if not path.is_dir():
            return [path]
        inside = {*contents(path), *(other for other in listed if path in other.parents)}
        real = (other for other in inside if os.path.lexists(other) and not self._linked(other))
        return [*sorted(real, key=lambda other: (-len(other.parts), other)), path]

    @contextmanager
    def _open(self, mode: Literal["ab", "rb"], flags: int) -> Iterator[BinaryIO]:
        try:
            with os.fdopen(os.open(self.path, flags | os.O_NOFOLLOW, 0o644), mode) as file:
                yield file
        except OSError as error:
            raise DataError(f"{self.path}, the list of what bench made, cannot be used: {error.strerror}") from error

    def _linked(self, path: Path) -> bool:
        return any(part.is_symlink() for part in self._between(path))

    def _between(self, path: Path) -> Iterator[Path]:
        while path != self.run:
            yield path
            path = path.parent


def delete(files: Files) -> list[Path]:
    """Delete files, and folders where nothing else is left in them; return the folders that stay for that reason."""
    kept = []
    for path in files:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif any(path.iterdir()):
            kept.append(path)
        else:
            path.rmdir()
    return kept


def size(files: Files) -> int:
    """Return the bytes of the files among these."""
    return sum(path.lstat().st_size for path in files if not path.is_dir())
