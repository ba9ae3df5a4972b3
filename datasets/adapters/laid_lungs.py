"""Lung sets whose release labels no lungs: masks that a user laid beside the data, else the lungs are segmented."""

from collections.abc import Iterable
from pathlib import Path

from .laid import MASK_LABELS, MaskFolder
from .lung_folders import LungFile, LungFoldersDataset
from .surveying import Survey


class LaidLungsDataset(LungFoldersDataset):
    """Base of such a set; a subclass calls :meth:`lay` with the cases that it paired."""

    def __init__(self) -> None:
        super().__init__()
        self._root = Path()

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        self._root = root
        super().search(root, files, survey)

    def lay(self, cases: Iterable[str]) -> None:
        """Take the masks of ``DATA/rois/<set>/<case id>.nii.gz`` for the lungs of these cases, where there are any."""
        laid = MaskFolder.of(self._root, self.card.name, cases)
        self.lung_files = {case: LungFile(path, MASK_LABELS, laid.source(case)) for case, path in laid.masks.items()}
