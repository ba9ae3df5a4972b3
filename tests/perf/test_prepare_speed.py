"""Preparing scans against other chains, in one run: a LiTS-sized volume against MONAI's, by wall clock; a lung volume
of 300×512×512 brought to 0.8×0.8×1 mm against SimpleITK and MONAI, by processor time.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.case import Case
from uasbench.datasets.storing.store import Store
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import VolumeView, apply_view

pytestmark = [pytest.mark.perf, pytest.mark.usefixtures("one_thread")]
SHAPE = (512, 512, 200)
VIEW = View(size=256)
LUNG_SHAPE = (300, 512, 512)
LUNG_SPACING = (1.25, 0.9, 0.9)
LUNG_VIEW = VolumeView()
PART = 60  # slices that MONAI gets
ROUNDS = 3


def seconds(clock, function, *args):
    start = clock()
    result = function(*args)
    return clock() - start, result


def medians(clock, *calls):
    """Alternate the calls; the median seconds and the last result of each."""
    spent: list[list[float]] = [[] for _ in calls]
    results: list[Any] = [None] * len(calls)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            t, results[i] = seconds(clock, *call)
            spent[i].append(t)
    return [(statistics.median(t), result) for t, result in zip(spent, results, strict=True)]


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


def stored(root, caches):
    dataset = LiTS()
    return Store(next(caches)).prepare(dataset, dataset.discover(root), views=[VIEW], truth=True)


def test_preparing_beats_monai_twice(scan, tmp_path, benchmark):
    ours(scan)
    caches = (tmp_path / str(round_) for round_ in range(ROUNDS))
    calls = (monai_chain, scan), (ours, scan), (stored, scan, caches)
    (theirs, reference), (mine, viewed), (whole, _) = medians(time.perf_counter, *calls)
    np.testing.assert_allclose(viewed.image, reference[list(viewed.geometry.slices)], atol=2e-6)
    view_ratio, store_ratio = theirs / mine, theirs / whole
    benchmark.extra_info.update(
        monai_s=theirs, view_s=mine, store_s=whole, view_ratio=view_ratio, store_ratio=store_ratio
    )
    benchmark.pedantic(ours, args=(scan,), rounds=1)
    assert view_ratio >= 2
    assert store_ratio >= 2


@pytest.fixture(scope="module")
def case():
    """Two ellipsoids as lungs, with noise of 100 HU; every axis grows, so that all chains interpolate linearly."""
    rng = np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in LUNG_SHAPE)
    lungs = ((np.abs(x) - 0.32) / 0.25) ** 2 + (y[:, None] / 0.5) ** 2 + (z[:, None, None] / 0.95) ** 2 < 1
    noise = rng.normal(-700, 100, (20, *LUNG_SHAPE[1:])).astype(np.float32)
    return Case("a", "a", np.concatenate([noise] * 15), LUNG_SPACING, lungs)


def simpleitk_chain(case, geometry):
    """Window, resample image and mask to the same grid, multiply."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    origin = [float((a.centres[0] - 0.5) * s) for a, s in zip(geometry.axes, case.spacing, strict=True)]

    def resample(array, how):
        source = sitk.GetImageFromArray(array)
        source.SetSpacing(case.spacing[::-1])
        return sitk.Resample(source, geometry.view_shape[::-1], sitk.Transform(), how, origin[::-1],
                             geometry.spacing[::-1], source.GetDirection(), 0.0)  # fmt: skip

    image = resample(np.clip((case.image + 800) / 900, 0, 1), sitk.sitkLinear)
    mask = resample(case.roi.astype(np.uint8), sitk.sitkNearestNeighbor)
    return sitk.GetArrayFromImage(image) * sitk.GetArrayFromImage(mask)


def monai_lung_chain(case):
    """Window, Spacing of image and mask, multiply, crop to the foreground and pad."""
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import CropForeground, ResizeWithPadOrCrop, Spacing

    affine = torch.diag(torch.tensor([*case.spacing, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(case.image)[None].add(800).div_(900).clamp_(0, 1), affine)
    mask = MetaTensor(torch.from_numpy(case.roi)[None].float(), affine)
    image = Spacing(LUNG_VIEW.spacing, mode="bilinear")(image)
    mask = Spacing(LUNG_VIEW.spacing, mode="nearest")(mask)
    cropped = CropForeground()(image * mask)
    return np.asarray(ResizeWithPadOrCrop((cropped.shape[1], LUNG_VIEW.size, LUNG_VIEW.size))(cropped)[0])


def test_volume_views_beat_simpleitk_and_monai(case, benchmark):
    geometry = apply_view(case, LUNG_VIEW).geometry
    assert geometry.spacing == LUNG_VIEW.spacing
    calls = (simpleitk_chain, case, geometry), (apply_view, case, LUNG_VIEW)
    (sitk_s, reference), (mine, viewed) = medians(time.process_time, *calls)
    ((back, _),) = medians(time.process_time, (viewed.to_native, viewed.image))
    inner = viewed.roi & (reference > 0)
    inner[:2] = inner[-2:] = False
    assert inner.sum() > 0.97 * viewed.roi.sum()
    np.testing.assert_allclose(viewed.image[inner], reference[inner], atol=1e-5)
    del viewed, reference, inner
    part = replace(case, image=case.image[:PART], roi=case.roi[:PART])
    monai_lung_chain(replace(case, image=case.image[150:152, ::8, ::8], roi=case.roi[150:152, ::8, ::8]))
    monai_s, monai = seconds(time.process_time, monai_lung_chain, part)
    part_s, viewed = seconds(time.process_time, apply_view, part, LUNG_VIEW)
    assert monai.shape[1:] == viewed.image.shape[1:]
    benchmark.extra_info.update(
        view_s=mine, back_s=back, simpleitk_s=sitk_s, monai_part_s=monai_s, view_part_s=part_s,
        simpleitk_ratio=sitk_s / mine, monai_ratio=monai_s / part_s,
    )  # fmt: skip
    benchmark.pedantic(apply_view, args=(case, LUNG_VIEW), rounds=1)
    assert benchmark.extra_info["simpleitk_ratio"] >= 2
    assert benchmark.extra_info["monai_ratio"] >= 2
