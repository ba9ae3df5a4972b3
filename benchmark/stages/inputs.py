"""Which entries of the store a stage may read, and what it may leave behind."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ...common.errors import UasbenchError
from ...datasets.storing.prepared import PreparedCase


class LeftBehindError(UasbenchError):
    """A stage left something else than the files that it should."""


def entries_of(cases: Iterable[PreparedCase]) -> Iterator[Path]:
    """Yield the entries of cases: voxels and region of interest, and all views of them; never a truth."""
    for case in cases:
        yield case.path
        yield case.views_path


def kernels_beside(cases: Iterable[PreparedCase]) -> Path | None:
    """Return the folder beside the store that keeps code compiled behind the wall."""
    return next((case.path.parents[2] / "kernels" for case in cases), None)


def check_whole(folder: Path, wanted: str) -> None:
    """Look at what a method's process has left before it becomes part of the run.

    Raises:
        LeftBehindError: ``wanted`` is missing, or a link would lead whoever reads the folder to another place.
    """
    if not (folder / wanted).is_file():
        raise LeftBehindError(f"the stage ended without {wanted}")
    if odd := not_own(folder):
        raise LeftBehindError(f"the stage left {odd.name}, which is no file of its own")


def not_own(folder: Path) -> Path | None:
    """Return the first thing in a folder that is neither a file nor a folder of its own, such as a link."""
    return next((p for p in folder.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())), None)
