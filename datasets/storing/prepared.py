"""Pointers into the store; whoever fits or maps holds a :class:`PreparedCase`, which knows no label."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...common.atomic import new_folder
from ...common.package import NAME
from ...common.sealed import seal_folder
from ...common.source_hash import closure_hash
from ..case import Case, Note, Spacing, Trust, Truth
from ..views.slice_view import View
from ..views.volume_geometry import ViewedCase, geometry_from_json
from ..views.volume_view import AnyView, apply_view
from . import entries
from .entries import LAYOUT, SEAL, digest, pack, readable, save, unpack

ShowProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """A pointer to a case in the store; it travels to worker processes as JSON, inside the task of a stage.

    What reads the entry raises DamagedError where it is missing or not what was written.

    Attributes:
        spacing: voxel size in mm, order z, y, x.
        fingerprint: digest of the voxels, the region of interest and the spacing; labels inside the region of interest
            do not enter.
        path: the native entry.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    dataset: str
    id: str
    patient: str
    spacing: Spacing
    shape: tuple[int, int, int]
    fingerprint: str
    path: Path
    notes: tuple[Note, ...] = ()
    roi_source: str = ""
    trust: Trust = field(default_factory=Trust)

    def case(self) -> Case:
        """Read image and region of interest into memory."""
        image, roi = entries.read_native(self.path)
        return Case(self.id, self.patient, image, self.spacing, roi, self.notes, self.roi_source, self.trust)

    def roi(self) -> np.ndarray:
        """Read the region of interest alone (bool)."""
        return entries.read_roi(self.path, self.shape)

    def viewed(self, view: AnyView) -> ViewedCase:
        """Open the case through a view, memory-mapped; a view that was not prepared is computed and stored now."""
        path = self.view_path(view)
        if not path.is_dir():
            write_view(path, apply_view(self.case(), view))
        return read_view(path)

    def view_path(self, view: AnyView) -> Path:
        return self.views_path / view_key(self.fingerprint, view)

    @property
    def views_path(self) -> Path:
        """The folder of all views of the voxels of this case."""
        return self.path.parents[1] / "views" / self.fingerprint

    def slice_hashes(self) -> tuple[str, ...]:
        """Return one hash per native slice; a constant slice has the empty hash."""
        return tuple(entries.read_meta(self.path)["slice_hashes"])

    def roi_slices(self) -> tuple[int, ...]:
        """Return the native z of the slices with a region of interest, ascending."""
        return tuple(entries.read_meta(self.path)["roi_slices"])

    def roi_voxels(self) -> int:
        return int(entries.read_meta(self.path)["roi_voxels"])


@dataclass(frozen=True)
class TruthRef:
    """A pointer to the truth of a case; only the scorer gets one."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    path: Path
    fingerprint: str


@dataclass(frozen=True)
class PreparedSet:
    """Prepared cases in the order asked for, their truths by case id, and why others failed, by case id."""

    cases: list[PreparedCase]
    truths: dict[str, TruthRef] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def load_truth(ref: TruthRef) -> Truth:
    """Read the truth of a case.

    Raises:
        DamagedError: the entry is missing or not what was written.
    """
    return entries.read_truth(ref.path)


def view_key(fingerprint: str, view: AnyView) -> str:
    """Address of a view entry: the voxels seen, the view's fields, the source that computes it, the stored layout."""
    fields = asdict(view)
    if fields["window"] is not None:
        fields["window"] = [float(bound) for bound in fields["window"]]
    module = "slice_view"
    if not isinstance(view, View):
        fields |= {"kind": "volume", "spacing": [float(s) for s in view.spacing]}
        module = "volume_view"
    return digest([LAYOUT, fingerprint, fields, closure_hash(f"{NAME}.datasets.views.{module}")])


def write_view(path: Path, viewed: ViewedCase) -> None:
    """Write what a view shows."""
    support = pack(viewed.support)
    with new_folder(path, viewed.image.nbytes + viewed.roi.nbytes + support.nbytes) as folder:
        save(folder / "image.npy", viewed.image)
        save(folder / "roi.npy", viewed.roi)
        save(folder / "support.npy", support)
        seal_folder(folder / SEAL, {"geometry": viewed.geometry.to_json()})


def read_view(path: Path) -> ViewedCase:
    """Open a view entry; image and region of interest are memory-mapped, and writing to them changes no file."""
    with readable(path) as meta:
        geometry = geometry_from_json(meta["geometry"])
        image = np.asarray(np.load(path / "image.npy", mmap_mode="c"))
        roi = np.asarray(np.load(path / "roi.npy", mmap_mode="c"))
        if image.shape != geometry.view_shape or roi.shape != image.shape:
            raise ValueError(f"shapes {image.shape}, {roi.shape}, expected {geometry.view_shape}")
        return ViewedCase(image, roi, unpack(np.load(path / "support.npy"), image.shape), geometry)
