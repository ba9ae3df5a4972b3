"""The contract of a data set adapter."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from .case import Case, Truth


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a reader needs to know about a data set.

    Attributes:
        name: registry name, lower case with dashes.
        anatomy: the organ of the task, a name in ``anatomies.yaml`` or of a package (:class:`.anatomy.Anatomy`).
        role: ``healthy`` sets train, ``lesion`` sets test; ``planted`` ones too, whose lesions are synthetic: settings
            are chosen on them, and nothing else.
        layout: the published on-disk layout that the adapter reads.
        partner: the healthy set that usually trains for this lesion set.
        reference: the method that paired tests compare with.
        wraps: the set whose scans and truth this one shows again, with another region of interest: its
            patients are those of that set. It is used where it is named, or is the partner of a set that is.
        finding: what its lesions are in one word: ``tumour`` for masses, nodules and cysts, benign or not;
            ``pneumonia``. A top line that learns from other lesion sets takes those of the same word, and those that
            say nothing.
    """

    name: str
    title: str
    anatomy: str
    role: Literal["healthy", "lesion", "planted"]
    licence: str
    citation: str
    obtain: str
    layout: str
    roi_source: str
    partner: str | None = None
    reference: str | None = None
    truth: Literal["voxel", "slice", "none"] = "none"
    wraps: str | None = None
    finding: str | None = None


@dataclass(frozen=True)
class CaseRef:
    """Where the files of one case lie; the label file holds the region of interest and, in a lesion set, the truth.

    ``notes`` are findings of the layout scan that do not stop the case from being used.
    """

    id: str
    patient: str
    image: Path
    label: Path | None = None
    extra: tuple[Path, ...] = ()
    notes: tuple[str, ...] = field(default=())


class Dataset(ABC):
    """Reads one published layout as it is; register it under the entry-point group ``uasbench.datasets``.

    ``counts_voxels`` says of an adapter of this package that :meth:`discover` opens label files, which no other does;
    it is asked in a process of its own then, like the adapters of other packages.
    """

    card: ClassVar[DatasetCard]
    counts_voxels: ClassVar[bool] = False

    @abstractmethod
    def discover(self, root: Path) -> list[CaseRef]:
        """List the cases below ``root`` (the data root or the folder of the set itself), sorted naturally by id.

        Remembers the files, so that :meth:`load` takes an id. Reads names and folders only, no voxels.

        Raises:
            DataError: nothing found, an image without its label, two copies of a case.
        """

    @abstractmethod
    def load(self, case_id: str) -> Case:
        """Read image and region of interest; a label file is used for the region of interest and nothing else.

        Raises:
            DataError: unreadable file, wrong dimensions, NaN voxels, shapes that differ, empty region of interest.
        """

    @abstractmethod
    def load_truth(self, case_id: str) -> Truth:
        """Read the lesion truth on the same grid as :meth:`load`; called by the scorer's preparation alone."""
