"""What a view shows of a case, in one folder of the store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...common.atomic import new_folder
from ...common.package import NAME
from ...common.source_hash import closure_hash
from ..views.view import View
from ..views.viewed import ViewedCase
from ..views.volume_geometry import geometry_from_json
from ..views.volume_view import AnyView
from .entries import LAYOUT, digest, pack, read_meta, readable, unpack, write_meta


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
        np.save(folder / "image.npy", viewed.image)
        np.save(folder / "roi.npy", viewed.roi)
        np.save(folder / "support.npy", support)
        write_meta(folder, viewed.geometry.to_json())


def read_view(path: Path) -> ViewedCase:
    """Open a view entry; image and region of interest are memory-mapped, and writing to them changes no file."""

    def read() -> ViewedCase:
        geometry = geometry_from_json(read_meta(path))
        image = np.asarray(np.load(path / "image.npy", mmap_mode="c"))
        roi = np.asarray(np.load(path / "roi.npy", mmap_mode="c"))
        if image.shape != geometry.view_shape or roi.shape != image.shape:
            raise ValueError(f"shapes {image.shape}, {roi.shape}, expected {geometry.view_shape}")
        return ViewedCase(image, roi, unpack(np.load(path / "support.npy"), image.shape), geometry)

    return readable(path, read)
