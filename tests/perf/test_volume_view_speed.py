"""A lung volume of 300×512×512 brought to 0.8×0.8×1 mm, against SimpleITK and MONAI: processor time in one run."""

import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
from uasbench.datasets.case import Case
from uasbench.datasets.views.viewing import apply_view
from uasbench.datasets.views.volume_view import VolumeView

pytestmark = pytest.mark.perf
SHAPE = (300, 512, 512)
SPACING = (1.25, 0.9, 0.9)
VIEW = VolumeView()
PART = 60  # slices that MONAI gets
ROUNDS = 3


@pytest.fixture(scope="module")
def case():
    """Two ellipsoids as lungs, with noise of 100 HU; every axis grows, so that all chains interpolate linearly."""
    rng = np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE)
    lungs = ((np.abs(x) - 0.32) / 0.25) ** 2 + (y[:, None] / 0.5) ** 2 + (z[:, None, None] / 0.95) ** 2 < 1
    noise = rng.normal(-700, 100, (20, *SHAPE[1:])).astype(np.float32)
    return Case("a", "a", np.concatenate([noise] * 15), SPACING, lungs)


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


def monai_chain(case):
    """Window, Spacing of image and mask, multiply, crop to the foreground and pad."""
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import CropForeground, ResizeWithPadOrCrop, Spacing

    affine = torch.diag(torch.tensor([*case.spacing, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(case.image)[None].add(800).div_(900).clamp_(0, 1), affine)
    mask = MetaTensor(torch.from_numpy(case.roi)[None].float(), affine)
    image = Spacing(VIEW.spacing, mode="bilinear")(image)
    mask = Spacing(VIEW.spacing, mode="nearest")(mask)
    cropped = CropForeground()(image * mask)
    return np.asarray(ResizeWithPadOrCrop((cropped.shape[1], VIEW.size, VIEW.size))(cropped)[0])


def seconds(function, *args):
    start = time.process_time()
    result = function(*args)
    return time.process_time() - start, result


def test_volume_views_beat_simpleitk_and_monai(case, benchmark):
    import torch

    torch.set_num_threads(1)
    geometry = apply_view(case, VIEW).geometry
    assert geometry.spacing == VIEW.spacing
    sitk_s, mine, back = [], [], []
    for _ in range(ROUNDS):
        t, reference = seconds(simpleitk_chain, case, geometry)
        sitk_s.append(t)
        t, viewed = seconds(apply_view, case, VIEW)
        mine.append(t)
        t, _ = seconds(viewed.to_native, viewed.image)
        back.append(t)
    inner = viewed.roi & (reference > 0)
    inner[:2] = inner[-2:] = False
    assert inner.sum() > 0.97 * viewed.roi.sum()
    np.testing.assert_allclose(viewed.image[inner], reference[inner], atol=1e-5)
    del viewed, reference, inner
    part = replace(case, image=case.image[:PART], roi=case.roi[:PART])
    monai_chain(replace(case, image=case.image[150:152, ::8, ::8], roi=case.roi[150:152, ::8, ::8]))
    monai_s, monai = seconds(monai_chain, part)
    part_s, viewed = seconds(apply_view, part, VIEW)
    assert monai.shape[1:] == viewed.image.shape[1:]
    benchmark.extra_info.update(
        view_s=statistics.median(mine),
        back_s=statistics.median(back),
        simpleitk_s=statistics.median(sitk_s),
        monai_part_s=monai_s,
        view_part_s=part_s,
        simpleitk_ratio=statistics.median(sitk_s) / statistics.median(mine),
        monai_ratio=monai_s / part_s,
    )
    benchmark.pedantic(apply_view, args=(case, VIEW), rounds=1)
    assert benchmark.extra_info["simpleitk_ratio"] >= 2
    assert benchmark.extra_info["monai_ratio"] >= 2
