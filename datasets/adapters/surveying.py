"""Looking at names and folders: what lies below a data root, without opening a scan."""

import os
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ...common.errors import DataError
from ..case import Case, Truth
from ..dataset import CaseRef, Dataset, DatasetCard
from ..reading.side_tables import natural_key

ROIS = "rois"
"""The folder of masks that a user lays beside the sets, in a folder for each; no set looks for its scans there."""


@dataclass
class Survey:
    """What a look at names and folders found: usable cases, problems that stop a run, and remarks that don't.

    ``absent`` says that nothing below the folder looks like this set, ``doubled`` which cases lie in several places.
    """

    refs: list[CaseRef] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent: bool = False
    doubled: set[str] = field(default_factory=set)

    def nothing_of(self, card: DatasetCard, root: Path) -> None:
        """Report that ``root`` holds no case of a set."""
        self.absent = True
        self.problems.append(f"{root}: no case of {card.title} found; expected {card.layout}; {card.obtain}")


class SurveyedDataset(Dataset):
    """Base of an adapter that reports everything it finds, good or bad, for ``bench data check``.

    ``folders`` are the names under which the set is looked for in a data root, ``twin_folders`` those of another
    release of the same scans, looked into as well; ``pattern`` matches the names of its files, in any case.
    """

    folders: ClassVar[tuple[str, ...]]
    twin_folders: ClassVar[tuple[str, ...]] = ()
    pattern: ClassVar[str] = r".*\.nii(\.gz)?"

    def __init__(self) -> None:
        self._refs: dict[str, CaseRef] = {}
        self.notes: tuple[str, ...] = ()

    @abstractmethod
    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        """Sort the files found below ``root`` into the cases of ``survey``; what is raised becomes a problem."""

    def survey(self, root: Path) -> Survey:
        """Look at names and folders below ``root``, remember the cases, and report everything found, good or bad."""
        root, survey = Path(root), Survey()
        if not root.is_dir():
            survey.problems.append(f"{root}: no such folder; give the data root with --data-root or UASBENCH_DATA")
            survey.absent = True
            return survey
        try:
            files: list[Path] = []
            for place in set_folders(root, self.folders, self.twin_folders):
                files += sorted(find_files(place, self.pattern), key=lambda path: natural_key(str(path)))
        except OSError as error:
            fix = f"cannot be listed ({error.strerror}); check the rights of the folder"
            survey.problems.append(f"{error.filename}: {fix}")
            return survey
        try:
            self.search(root, files, survey)
        except DataError as error:
            survey.problems.append(str(error))
        survey.refs = [ref for ref in survey.refs if ref.id not in survey.doubled]
        self._refs = {ref.id: ref for ref in survey.refs}
        return survey

    def discover(self, root: Path) -> list[CaseRef]:
        survey = self.survey(root)
        if survey.problems:
            raise DataError("\n".join(survey.problems))
        self.notes = tuple(survey.notes)
        return survey.refs

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        """Return findings about one case for ``bench data check``."""
        return []

    def inspect_all(self, lesion_voxels: Mapping[str, int]) -> list[str]:
        """Return findings about the set as a whole for ``bench data check``."""
        return []

    def _ref(self, case_id: str) -> CaseRef:
        try:
            return self._refs[case_id]
        except KeyError:
            known = f"{len(self._refs)} cases known" if self._refs else "call discover(root) first"
            raise DataError(f"{self.card.name}: no case {case_id!r} ({known})") from None


def set_folders(root: Path, names: Iterable[str], twins: Iterable[str] = ()) -> list[Path]:
    """Return the folders of a set below ``root`` by any of its names in any case, or ``root`` where there is none."""
    children = [child for child in sorted(root.iterdir()) if child.is_dir()]
    own = [child for child in children if child.name.lower() in set(names)]
    return [*own, *(child for child in children if child.name.lower() in set(twins))] if own else [root]


def unique(found: Iterable[tuple[str, Path]], survey: Survey) -> dict[str, Path]:
    """Return one file per case id, the first where several are found, which is a problem and leaves the case out."""
    places: dict[str, list[Path]] = defaultdict(list)
    for case, path in found:
        places[case].append(path)
    for case, paths in places.items():
        if len(paths) > 1:
            survey.doubled.add(case)
            survey.problems.append(
                f"{case} lies in {len(paths)} places: {', '.join(map(str, paths))}; keep one of them"
            )
    return {case: paths[0] for case, paths in places.items()}


def by_kind(
    files: Iterable[Path], identify: Callable[[Path], tuple[str, str] | None]
) -> defaultdict[str, list[tuple[str, Path]]]:
    """Return case and path of files by kind; ``identify`` gives kind and case of a file, or None of a foreign one."""
    found: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
    for path in files:
        if (named := identify(path)) is not None:
            found[named[0]].append((named[1], path))
    return found


def case_name(path: Path) -> str:
    """Return the name of a NIfTI file without its ending."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files below ``folder`` whose whole name matches ``pattern`` (in any case), sorted.

    Links are followed, each real folder once; hidden files and folders are left out, and laid masks.
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
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != ROIS)
        found += [Path(here, name) for name in files if name_is_wanted.fullmatch(name) and not name.startswith(".")]
    return sorted(found)
