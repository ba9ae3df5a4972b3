"""What the scanner makes of a patient: slice profile, blur, noise, and the style of a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ...common.seeds import derive
from ..case import Spacing
from .canvas import SUB, deformed_space
from .fields import ct_noise
from .shapes import Space
from .spec import SizePlan, Spec


@dataclass(frozen=True)
class Scanner:
    """One scan protocol, drawn from a style.

    Attributes:
        noise: standard deviation in HU in the middle of the body.
        peak: frequency of the noise maximum, share of Nyquist.
        psf_pixels: standard deviation of the in-plane blur in pixels.
        pixel: in-plane spacing in mm.
        thickness: slice spacing and thickness in mm.
        enhancement: factor on contrast enhancement (dose and timing).
        label_level: share of liver that the annotator asks of a voxel of the liver label.
        orientation: axis codes of the stored file.
        slope, intercept: stored value × slope + intercept = HU.
    """

    noise: float
    peak: float
    psf_pixels: float
    floor: float
    z_correlation: float
    pixel: float
    thickness: float
    enhancement: float
    label_level: float
    orientation: str
    slope: float
    intercept: float

    @classmethod
    def draw(cls, spec: Spec, style: str, rng: np.random.Generator, pixels: int, spacing_mm: float) -> Scanner:
        """Draw a protocol of a style (``btcv`` or ``lits``) for a grid of ``pixels``²."""
        take = {name: spec.draw(rng, f"styles.{style}.{name}") for name in spec.entry(f"styles.{style}")}
        slope, intercept = take["scaling"]
        pixel, thickness = round(take["field_of_view_mm"] / pixels, 4), round(spacing_mm * take["slice_factor"], 4)
        if "noise_at_mm" in take:  # of a given dose: averaging over larger voxels lowers it
            across, along = take["noise_at_mm"]
            take["noise"] *= across / pixel * float(np.sqrt(along / thickness))
        same = ("noise", "peak", "psf_pixels", "floor", "z_correlation", "label_level")
        return cls(
            **{name: take[name] for name in same},
            pixel=pixel,
            thickness=thickness,
            enhancement=take["enhancement_factor"],
            orientation=take["orientations"],
            slope=slope,
            intercept=intercept,
        )

    def row(self, dataset: str, case: str, **found: Any) -> dict[str, Any]:
        """Return the row of ``phantom.json`` on a patient, with what was ``found`` in it at the end."""
        return {
            "set": dataset,
            "case": case,
            "spacing_mm": [self.thickness, self.pixel, self.pixel],
            "noise_hu": round(self.noise, 3),
            "orientation": self.orientation,
            **found,
        }


def begin(
    spec: Spec, plan: SizePlan, seed: int, style: str
) -> tuple[Callable[[str], np.random.Generator], Scanner, Spacing, Space]:
    """Return a patient's generators by purpose, the scanner of a style, the voxel size (z, y, x) in mm and the samples.

    Every part of the patient has a generator of its own, so that one part never shifts the numbers of another.
    """

    def stream(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "phantom", purpose))

    scanner = Scanner.draw(spec, style, stream("scanner"), plan.pixels, plan.spacing_mm)
    spacing = (scanner.thickness, scanner.pixel, scanner.pixel)
    return stream, scanner, spacing, deformed_space(stream("shape"), plan.slices, plan.pixels, spacing)


def average_slices(samples: np.ndarray) -> np.ndarray:
    """Average the samples across every slice's thickness."""
    z, y, x = samples.shape
    return samples.reshape(z // SUB, SUB, y, x).mean(axis=1, dtype=np.float32)


def blur(scanner: Scanner, slices: np.ndarray) -> np.ndarray:
    """Apply the in-plane point-spread function."""
    return gaussian_filter(slices, (0, scanner.psf_pixels, scanner.psf_pixels), mode="nearest", truncate=3.0)


def add_noise(scanner: Scanner, slices: np.ndarray, rng: np.random.Generator, half: tuple[float, float]) -> np.ndarray:
    """Add noise: strongest in the middle of the body, weaker towards the skin and in the air around.

    ``half``: half axes of the body in mm, x and y.
    """
    shape = (slices.shape[0], slices.shape[1], slices.shape[2])
    noise = ct_noise(rng, shape, peak=scanner.peak, floor=scanner.floor, z_correlation=scanner.z_correlation)
    y = (np.arange(shape[1]) - (shape[1] - 1) / 2)[:, None] * scanner.pixel / half[1]
    x = (np.arange(shape[2]) - (shape[2] - 1) / 2)[None] * scanner.pixel / half[0]
    level = 1.05 - 0.3 * np.clip(x**2 + y**2, 0, 1.4)
    return slices + noise * (scanner.noise * level).astype(np.float32)
