"""Organ masks that a user lays beside the data: ``DATA/rois/<set>/<case id>.nii.gz``."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ...common.errors import DataError
from ..case import Case
from ..dataset import CaseRef
from ..reading.volume_io import Labels, Volume, read_labels
from .nifti_pair import NiftiPairDataset
from .surveying import ROIS, Survey

SOURCE = "source.txt"
MASK_LABELS, ORGAN_LABELS = frozenset({0, 1, 2}), frozenset({1, 2})
"""1 is organ, and 2 its lesion where a network tells them apart."""


@dataclass(frozen=True)
class MaskFolder:
    """The masks of a set by case; what made them stands in the first line of ``source.txt`` beside them, if anywhere.

    Attributes:
        said: that file, where it holds anything.
    """

    folder: Path
    masks: dict[str, Path]
    said: Path | None = None
    maker: str = ""

    @classmethod
    def of(cls, root: Path, dataset: str, cases: Iterable[str]) -> "MaskFolder":
        """Look for the masks of these cases below a data root."""
        folder = Path(root) / ROIS / dataset
        masks = {case: path for case in cases if (path := folder / f"{case}.nii.gz").is_file()}
        said = folder / SOURCE
        lines = said.read_text("utf-8", "replace").splitlines() if said.is_file() else []
        return cls(folder, masks, said if lines else None, lines[0].strip() if lines else "")

    def files(self, case: str) -> tuple[Path, ...]:
        """Return the files on which the region of interest of a case depends."""
        return tuple(filter(None, (self.masks.get(case), self.said))) if case in self.masks else ()

    def source(self, case: str) -> str:
        """Return what a record says of the region of interest."""
        by = f", by {self.maker}" if self.maker else ", maker unknown"
        return f"mask file {ROIS}/{self.folder.name}/{self.masks[case].name}{by}"

    def missing(self, dataset: str, organ: str, example: str, tools: str) -> str:
        """Return the refusal of a set without any mask."""
        return (
            f"{self.folder}: no {organ} masks. {dataset} needs one file per case, named <case id>.nii.gz (such as "
            f"{example}.nii.gz), on the grid of the scan, with 1 for the organ; {tools}. Name what made them in the "
            f"first line of {SOURCE} there"
        )


class LaidOrganDataset(NiftiPairDataset):
    """Base of an adapter whose release labels lesions and not their organ; ``tools`` tells where masks come from.

    Without any mask the set counts as absent: it is refused where it is asked for, and passed by elsewhere.
    """

    roi_labels = ORGAN_LABELS
    tools: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._laid = MaskFolder(Path(), {})

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        super().search(root, files, survey)
        ids = [ref.id for ref in survey.refs]
        self._laid = MaskFolder.of(root, self.card.name, ids)
        survey.refs = [replace(ref, extra=(*ref.extra, *self._laid.files(ref.id))) for ref in survey.refs]
        if ids and not self._laid.masks:
            survey.absent = True
            survey.problems.append(self._laid.missing(self.card.name, self.card.anatomy, ids[0], self.tools))

    def load(self, case_id: str) -> Case:
        return replace(super().load(case_id), roi_source=self._laid.source(case_id))

    def organ_file(self, ref: CaseRef) -> Path:
        if ref.id not in self._laid.masks:
            raise DataError(
                f"{self._laid.folder / ref.id}.nii.gz: no organ mask; add it, or leave the case out with "
                f"--exclude {self.card.name}:{ref.id}"
            )
        return self._laid.masks[ref.id]

    def organ_labels(self, ref: CaseRef, volume: Volume) -> Labels | None:
        return read_labels(self.organ_file(ref), volume, MASK_LABELS)
