"""How a method wants to look at a case: window, masking, equalisation, in-plane size."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class View:
    """Axial slices of the region of interest on a square grid.

    Steps, in this order: window → grey levels → ROI masking → equalisation → pad to square (centred) → resize.
    Only slices with at least one ROI voxel are kept.

    Attributes:
        size: in-plane size of the square grid in pixels.
        window: HU mapped to the ends of the grey range, clipped outside; None with ``grey="slice"`` means no clipping.
        grey: ``linear`` uses the window as fixed bounds; ``slice`` stretches each full slice from its minimum to its
            maximum (docs/methods/two-stage.md).
        mask_roi: set everything outside the region of interest to 0.
        equalise: histogram equalisation inside the ROI (docs/methods/two-stage.md; implies 8-bit grey levels).
        dtype: ``float32`` holds [0, 1]; ``uint8`` holds 0 … 255.
        resize: ``linear`` averages by area when it shrinks and interpolates bilinearly when it enlarges; ``cubic`` is
            the anti-aliased bicubic filter of the liver paper's loader.
    """

    size: int = 256
    window: tuple[float, float] | None = (-200.0, 250.0)
    grey: Literal["linear", "slice"] = "linear"
    mask_roi: bool = True
    equalise: bool = False
    dtype: Literal["float32", "uint8"] = "float32"
    resize: Literal["linear", "cubic"] = "linear"
