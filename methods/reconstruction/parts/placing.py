"""How the slices of the reconstruction methods lie in the scan: as they are, or in one frame for all scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ....datasets.views.slice_view import View
from ....datasets.views.volume_view import AnyView, VolumeView
from ...config import STANDARD_SLICES, ConfigError, SliceConfig


@dataclass(frozen=True)
class PlacedSlices(SliceConfig):
    """Settings of a method on slices that all scans may show at one scale and place (Yao et al. 2021, §IV-B).

    Attributes:
        frame: ``slice`` shows each slice of the scan as it is, padded to a square and resized to ``size``; ``volume``
            resamples the scan, puts its organ in the middle of ``canvas`` × ``canvas`` pixels, cuts that into slices
            and averages them down to ``size``, for which the other settings are.
        canvas: side of the frame in pixels, a multiple of ``size``.
        spacing: its voxel size in mm (z, y, x).
        resample_z: off keeps the slices of the scan.

    Raises:
        ConfigError: ``canvas`` is not a multiple of ``size``.
    """

    frame: Literal["slice", "volume"] = "slice"
    canvas: int = 512
    spacing: tuple[float, float, float] = (1.0, 0.8, 0.8)
    resample_z: bool = True

    def __post_init__(self) -> None:
        if self.frame == "volume" and self.canvas % self.size:
            raise ConfigError(f"canvas={self.canvas}, size={self.size}: the canvas is a multiple of the size")

    @property
    def view(self) -> AnyView:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Masked slices with fixed grey bounds, the same in training and test."""
        if self.frame == "slice":
            return View(size=self.size, window=self.window, field_of_view=self.field_of_view)
        return VolumeView(
            size=self.size,
            spacing=self.spacing,
            reduce=self.canvas // self.size,
            resample_z=self.resample_z,
            window=self.window,
        )


# The small profiles look at the voxels of the phantoms, whose thick slices stay as they are.
SMOKE_FRAME: Mapping[str, Any] = {"canvas": 32, "spacing": (1.0, 5.0, 5.0), "resample_z": False}
STANDARD_FRAME: Mapping[str, Any] = {**STANDARD_SLICES, "canvas": 256, "spacing": (2.0, 1.6, 1.6)}
QUICK_FRAME: Mapping[str, Any] = {"canvas": 128, "spacing": (1.0, 2.8, 2.8), "resample_z": False}
