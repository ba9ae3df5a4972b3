"""Random fields: smooth deformations, tissue texture, and CT noise with its power spectrum."""

import numpy as np
from scipy import fft

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


def smooth_field(rng: np.random.Generator, axes: Axes, scale_mm: float) -> np.ndarray:
    """Return a smooth random field of zero mean and about unit standard deviation, float32, shape (z, y, x).

    Cubic B-splines on a lattice of ``scale_mm``, for ``axes`` of coordinates in mm. The contraction is plain ``einsum``
    and no BLAS call, so that the bits do not depend on the number of threads.
    """
    bases = [_spline_basis(axis, scale_mm) for axis in axes]
    nodes = rng.standard_normal([basis.shape[1] for basis in bases]).astype(np.float32)
    field = np.einsum("xk,ijk->ijx", bases[2], nodes)
    field = np.einsum("yj,ijx->iyx", bases[1], field)
    field = np.einsum("zi,iyx->zyx", bases[0], field)
    # Mean energy of a cubic B-spline lattice is (151/315) per axis.
    return field * np.float32((315 / 151) ** 1.5)


def _spline_basis(axis: np.ndarray, scale_mm: float) -> np.ndarray:
    position = (axis - axis[0]) / scale_mm
    nodes = np.arange(-1, int(np.ceil(position.max())) + 2)
    t = np.abs(position[:, None] - nodes[None])
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, inner, outer).astype(np.float32)


def tissue_texture(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float], scale_mm: float
) -> np.ndarray:
    """Return isotropic texture of unit variance whose spectrum falls as a power of frequency beyond ``1/scale_mm``."""
    fz, fy, fx = _frequencies(shape, spacing)
    power = (1 + (scale_mm**2) * (fz**2 + fy**2 + fx**2) * 4) ** -2.0
    power[0, 0, 0] = 0
    return _filtered(rng, shape, power, axes=(0, 1, 2))


def ct_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], *, peak: float, floor: float, z_correlation: float
) -> np.ndarray:
    """Return CT noise of unit variance: per slice a ramp times a Gaussian apodisation, slightly correlated in z.

    The in-plane power spectrum is ``floor + (f/peak)·exp((1 − (f/peak)²)/2)``: linear at low frequencies, highest at
    ``peak``, a Gaussian downslope, and not quite zero at f = 0 (docs/phantom.md, noise).

    Args:
        peak: frequency of the maximum as a share of the Nyquist frequency.
        floor: power at zero frequency relative to the peak.
        z_correlation: weight of each neighbouring slice.
    """
    slices, height, width = shape
    fy = fft.fftfreq(height)[:, None] * 2
    fx = fft.rfftfreq(width)[None] * 2
    f = np.sqrt(fy**2 + fx**2) / peak
    power = floor * np.exp(-(f**2) / 2) + f * np.exp((1 - f**2) / 2)
    planes = _filtered(rng, (slices + 2, height, width), power[None], axes=(1, 2))
    mixed = planes[1:-1] + np.float32(z_correlation) * (planes[:-2] + planes[2:])
    return mixed / np.float32(np.sqrt(1 + 2 * z_correlation**2))


def _frequencies(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Axes:
    fz = fft.fftfreq(shape[0], spacing[0])[:, None, None]
    fy = fft.fftfreq(shape[1], spacing[1])[None, :, None]
    fx = fft.rfftfreq(shape[2], spacing[2])[None, None, :]
    return fz, fy, fx


def _filtered(
    rng: np.random.Generator, shape: tuple[int, int, int], power: np.ndarray, axes: tuple[int, ...]
) -> np.ndarray:
    white = rng.standard_normal(shape, dtype=np.float32)
    # Halved spectrum: every column but the first and the Nyquist one stands for two frequencies.
    weight = np.full(power.shape[-1], 2.0)
    weight[0] = 1.0
    if shape[-1] % 2 == 0:
        weight[-1] = 1.0
    count = np.prod([shape[axis] for axis in axes])
    gain = np.sqrt(power / ((power * weight).sum() / count)).astype(np.float32)
    out = fft.irfftn(fft.rfftn(white, axes=axes) * gain, s=[shape[axis] for axis in axes], axes=axes)
    return np.asarray(out, dtype=np.float32)
