"""Preparing a LiTS-sized volume against the equivalent MONAI chain, on one core and in one run."""

import statistics
import time

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.storing.store import Store
from uasbench.datasets.views.view import View
from uasbench.datasets.views.viewing import apply_view

pytestmark = pytest.mark.perf
SHAPE = (512, 512, 200)
VIEW = View(size=256)
ROUNDS = 3


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A CT-like volume: body and organ in air, noise of 12 HU with a short correlation, as int16 .nii.gz."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("lits")
    x, y = np.meshgrid(np.linspace(-1, 1, SHAPE[0]), np.linspace(-1, 1, SHAPE[1]), indexing="ij")
    body, organ = x**2 + (1.3 * y) ** 2 < 0.7, (x + 0.3) ** 2 + (y + 0.1) ** 2 < 0.08
    image, labels = np.empty(SHAPE, np.int16), np.zeros(SHAPE, np.uint8)
    noise = np.stack([gaussian_filter(rng.normal(0, 1, SHAPE[:2]), 0.7) for _ in range(20)])
    noise *= 12 / noise.std()
    for z in range(SHAPE[2]):
        plane = np.where(body, 40.0, -1000.0) + 60 * organ
        plane += np.roll(noise[z % 20], rng.integers(0, 512, 2), (0, 1)) * np.where(body, 1, 0.4)
        image[:, :, z] = np.round(plane)
        labels[:, :, z] = organ if 30 <= z < 190 else 0
    affine = np.diag([-0.75, -0.75, 1.5, 1.0])
    for name, data in (("volume-0", image), ("segmentation-0", labels)):
        nib.save(nib.Nifti1Image(data, affine), root / f"{name}.nii.gz")
    return root


def monai_chain(root):
    """Load, orient, window, mask and resize; LPS of (x, y, z) becomes our (z, y, x) by a transpose."""
    from monai.transforms import LoadImage, Orientation, Resize, ScaleIntensityRange

    load = LoadImage(reader="NibabelReader", image_only=True, ensure_channel_first=True)
    orient = Orientation(axcodes="LPS", labels=None)
    image, label = (orient(load(root / f"{name}.nii.gz")) for name in ("volume-0", "segmentation-0"))
    scaled = ScaleIntensityRange(-200, 250, 0, 1, clip=True)(image)
    small = Resize((256, 256, -1), mode="area")(scaled * (label > 0))
    return np.asarray(small)[0].transpose(2, 1, 0)


def ours(root):
    dataset = LiTS()
    (ref,) = dataset.discover(root)
    return apply_view(dataset.load(ref.id), VIEW)


def stored(root, cache):
    dataset = LiTS()
    return Store(cache).prepare(dataset, dataset.discover(root), views=[VIEW], truth=True)


def seconds(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def test_preparing_beats_monai_twice(scan, tmp_path, benchmark):
    import torch

    torch.set_num_threads(1)
    ours(scan)
    theirs, mine, whole = [], [], []
    for round_ in range(ROUNDS):
        t, reference = seconds(monai_chain, scan)
        theirs.append(t)
        t, viewed = seconds(ours, scan)
        mine.append(t)
        t, _ = seconds(stored, scan, tmp_path / str(round_))
        whole.append(t)
    np.testing.assert_allclose(viewed.image, reference[list(viewed.geometry.slices)], atol=2e-6)
    view_ratio = statistics.median(theirs) / statistics.median(mine)
    store_ratio = statistics.median(theirs) / statistics.median(whole)
    benchmark.extra_info.update(
        monai_s=statistics.median(theirs),
        view_s=statistics.median(mine),
        store_s=statistics.median(whole),
        view_ratio=view_ratio,
        store_ratio=store_ratio,
    )
    benchmark.pedantic(ours, args=(scan,), rounds=1)
    assert view_ratio >= 2
    assert store_ratio >= 2
