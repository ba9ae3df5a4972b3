"""A case as a method sees it."""

from dataclasses import dataclass

import numpy as np

from .volume_geometry import AnyGeometry


@dataclass(frozen=True, eq=False)
class ViewedCase:
    """A case through a view.

    Attributes:
        image: shape (slices, size, size), in the view's dtype.
        roi: bool, same shape; slices have at least one pixel each (see :meth:`Geometry.view_roi`), volumes may have
            slices without.
        support: bool, same shape: the region of interest and every pixel that mapping back to it reads. A map that is
            kept on these pixels only gives the same native values.
        geometry: the way back to the native grid.
    """

    image: np.ndarray
    roi: np.ndarray
    support: np.ndarray
    geometry: AnyGeometry

    def to_native(self, map_: np.ndarray) -> np.ndarray:
        return self.geometry.to_native(map_)
