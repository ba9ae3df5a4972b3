"""Post-processing of a 512 × 512 × 300 volume against SciPy on one core, in one run: speed, memory and agreement.

Both sides are single threads, so processor time is compared: it does not depend on what else the machine does.
"""

import time
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from uasbench.methods.normalcy.parts.crops import remove_erroneous_edges
from uasbench.methods.normalcy.parts.growing import MeanFilter, lesion_mask

pytestmark = [pytest.mark.perf, pytest.mark.benchmark(timer=time.process_time)]
SHAPE = (300, 512, 512)
TAU = 1 / 3
CROSS = ndimage.generate_binary_structure(2, 1)[None]


def ellipsoid(centre, radii):
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum(((a / n - c) / r) ** 2 for a, n, c, r in zip(axes, SHAPE, centre, radii, strict=True)) < 1


@pytest.fixture(scope="module")
def lungs():
    """Two textured lungs with one dense lesion, and the healthy voxels a perfect network would mark."""
    rng = np.random.default_rng(0)
    roi = ellipsoid((0.5, 0.5, 0.3), (0.5, 0.36, 0.18)) | ellipsoid((0.5, 0.5, 0.7), (0.5, 0.36, 0.18))
    lesion = ellipsoid((0.5, 0.5, 0.3), (0.15, 0.12, 0.1))
    vessels = ndimage.gaussian_filter(rng.standard_normal((20, *SHAPE[1:]), dtype=np.float32), (0, 2, 2)) > 0.25
    texture = rng.random(vessels.shape, dtype=np.float32) * 0.3 + np.where(vessels, np.float32(0.5), np.float32(0))
    image = np.clip(np.resize(texture, SHAPE) + np.float32(0.3) * lesion, 0, 1)
    return image, roi, (image >= TAU) & ~lesion


def scipy_mask(image, roi, healthy):
    """The same steps from SciPy's parts; labels are the fastest of its ways to grow."""
    bright = ((image >= TAU) & roi & ~healthy).astype(np.float32)
    seeds = (ndimage.uniform_filter(bright, 9, mode="constant") > 0.2) & roi
    left = np.where(roi & ~healthy, image, np.float32(0))
    limit = (ndimage.uniform_filter(left, 7, mode="constant") > 0.15) & roi
    labels, count = ndimage.label(limit | seeds)
    keep = np.zeros(count + 1, bool)
    keep[labels[seeds]] = True
    keep[0] = False
    return keep[labels]


def scipy_edges(image, roi):
    border = roi & ~ndimage.binary_erosion(roi, CROSS)
    labels, count = ndimage.label(roi & (image >= TAU))
    voxels = np.bincount(labels.reshape(-1), minlength=count + 1)
    erased = np.bincount(labels[border], minlength=count + 1) > 0.5 * voxels
    erased[0] = False
    return roi & ~erased[labels]


def timed(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def peak_mib(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


def compare(benchmark, name, ours, theirs):
    """Return both results, how many times faster ours is, and its peak of memory in MiB."""
    result = benchmark.pedantic(ours, rounds=3, warmup_rounds=1)
    extra = peak_mib(ours)
    seconds, reference = timed(theirs)
    ratio = seconds / benchmark.stats.stats.min
    benchmark.extra_info.update(ratio=round(ratio, 1), extra_mib=round(extra))
    print(f"\n{name}: {benchmark.stats.stats.min:.2f} s, {ratio:.1f} times faster, {extra:.0f} MiB")
    return result, reference, ratio, extra


@pytest.mark.parametrize("frame", ["lungs in the frame", "frame cut to the lungs", "everything is lung"])
def test_post_processing_is_five_times_faster_than_scipy(benchmark, lungs, frame):
    image, roi, healthy = lungs
    if frame == "frame cut to the lungs":
        image, roi, healthy = (np.ascontiguousarray(a[:, 70:443, 60:453]) for a in lungs)
    elif frame == "everything is lung":
        roi = np.ones_like(roi)
    mask, reference, ratio, extra = compare(
        benchmark,
        frame,
        lambda: lesion_mask(image, roi, healthy, TAU, MeanFilter(9, 0.2, reading="binary"), MeanFilter(7, 0.15)),
        lambda: scipy_mask(image, roi, healthy),
    )
    assert mask.any()
    assert np.count_nonzero(mask != reference) < 1e-6 * mask.size
    assert ratio >= 5
    assert extra < image.nbytes / 2**20


def test_erroneous_edges_are_found_three_times_faster_than_with_scipy(benchmark, lungs):
    image, roi, _ = lungs
    left, reference, ratio, extra = compare(
        benchmark,
        "edges",
        lambda: remove_erroneous_edges(image, roi, tau=TAU),
        lambda: scipy_edges(image, roi),
    )
    assert 0 < left.sum() < roi.sum()
    assert np.array_equal(left, reference)
    assert ratio >= 3
    assert extra < image.nbytes / 2**20
