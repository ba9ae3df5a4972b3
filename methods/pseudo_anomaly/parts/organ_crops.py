"""What CutPaste looks at: square crops centred on an organ's pixels, and maps made of the crops' scores."""

import numpy as np

REACH = 4.0


def cut(slices: np.ndarray, of: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    """Return crops (m, size, size) of slices (n, H, W), zeros beyond the frame.

    Args:
        of: int (m,), slice of each crop.
        rows, columns: int (m,), centre of each crop; an even crop has its centre after its middle.
    """
    half = size // 2
    padded = np.pad(slices, ((0, 0), (half, size - half), (half, size - half)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return views[of, rows, columns]


def random_centres(rois: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one pixel of each region of interest (n, H, W): slice, row and column, int64 (n,) each."""
    pixels = [np.flatnonzero(roi) for roi in rois]
    at = np.array([found[rng.integers(len(found))] for found in pixels])
    return np.arange(len(rois)), *np.divmod(at, rois.shape[2])


def grid_centres(roi: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the middle of every ``stride``² cell that holds a pixel of ``roi`` (H, W)."""
    cells = np.unique(np.argwhere(roi) // stride, axis=0)
    rows, columns = np.minimum(cells * stride + stride // 2, np.array(roi.shape) - 1).T
    return rows, columns


def spread_scores(
    scores: np.ndarray, rows: np.ndarray, columns: np.ndarray, roi: np.ndarray, sigma: float
) -> np.ndarray:
    """Return the mean of the scores about each pixel of ``roi``, weighted by a Gaussian; float32 (H, W), 0 elsewhere.

    Args:
        scores: float (m,), at the pixels (rows, columns).
        sigma: standard deviation of the weights in pixels; cells further than 4 σ do not count.

    Raises:
        ValueError: a pixel has no score within reach.
    """
    from scipy.ndimage import gaussian_filter

    sums, weights = np.zeros(roi.shape), np.zeros(roi.shape)
    sums[rows, columns], weights[rows, columns] = scores, 1
    sums, weights = (gaussian_filter(a, sigma, mode="constant", truncate=REACH) for a in (sums, weights))
    if not (weights[roi] > 0).all():
        raise ValueError(f"sigma {sigma}: too small for the distance between scores; lower the stride or raise sigma")
    return np.divide(sums, weights, out=np.zeros_like(sums), where=roi).astype(np.float32)
