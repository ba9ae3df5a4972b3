"""Scans with lesion masks: masks lie on the slices and volumes that the images lie on."""

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.case import Case, Truth
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.labelled import LabelledPart, LabelledSet
from uasbench.datasets.storing.entries import write_truth
from uasbench.datasets.storing.prepared import TruthRef
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import VolumeView

BRIGHT = 400.0
VIEW = View(size=34, window=(0.0, BRIGHT))
VOLUME = VolumeView(size=48, spacing=(2.0, 1.0, 1.0), window=(0.0, BRIGHT))


def make(name, seed, depth=9):
    """A dark organ whose lesion is what is bright, so that image and mask can be compared on any grid."""
    rng = np.random.default_rng(seed)
    roi = np.zeros((depth, 30, 34), bool)
    roi[2:-1, 4:26, 6:30] = True
    lesion = np.zeros_like(roi)
    z, y, x = rng.integers(3, depth - 3), rng.integers(8, 16), rng.integers(10, 20)
    lesion[z : z + 2, y : y + 6, x : x + 6] = True
    return Case(name, f"p-{name}", np.where(lesion, BRIGHT, 0).astype(np.float32), (2.0, 1.0, 1.0), roi), lesion


@pytest.fixture
def pairs():
    return [make("a", 0), make("b", 1, 12), make("c", 2, 8)]


@pytest.fixture
def prepared(pairs, stored, tmp_path):
    """The same scans in a store."""
    parts = []
    for case, lesion in pairs:
        truth = tmp_path / "truth" / case.id
        write_truth(truth, Truth(case.id, lesion), case.image.shape)
        parts.append(LabelledPart(stored(case), TruthRef(truth, "f")))
    return LabelledSet(parts)


@pytest.fixture(params=["memory", "store"])
def labelled(request, pairs, prepared):
    return prepared if request.param == "store" else LabelledSet.from_cases(pairs)


def test_cases_and_masks_come_back(pairs, labelled):
    assert len(labelled) == 3
    assert labelled.patients == ("p-a", "p-b", "p-c")
    assert isinstance(labelled.cases, HealthySet)
    for (case, lesion), (original, mask) in zip(labelled, pairs, strict=True):
        assert case.id == original.id
        np.testing.assert_array_equal(case.image, original.image)
        np.testing.assert_array_equal(lesion, mask)
        assert lesion.dtype == bool


def test_slice_masks_are_aligned_with_the_slices(labelled):
    stack, lesions = labelled.cases.array(VIEW), labelled.lesions(VIEW)
    assert len(stack) == len(lesions) == 6 + 9 + 5
    order = np.random.default_rng(0).permutation(len(stack))
    images, _ = stack.take(order)
    masks = lesions.take(order)
    assert masks.shape == images.shape
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks, images > 0.5)
    np.testing.assert_array_equal(lesions.positive[order], masks.any(axis=(1, 2)))
    assert 0 < lesions.positive.sum() < len(stack)
    masks[:] = True
    assert not lesions.take(order).all()


def test_volume_masks_are_aligned_with_the_volumes(labelled):
    volumes = labelled.cases.volumes(VOLUME)
    for i in range(3):
        mask = labelled.lesion_volume(i, VOLUME)
        np.testing.assert_array_equal(mask, volumes.image(i) > 0.5)
        assert mask.any()


def test_masks_that_cannot_be_used_are_refused(pairs, prepared, tmp_path):
    with pytest.raises(DataError, match="no labelled scans"):
        LabelledSet([])
    case, lesion = pairs[0]
    with pytest.raises(DataError, match=r"case a: lesion mask has shape \(8, 30, 34\), the image \(9, 30, 34\)"):
        LabelledPart(case, lesion[1:]).lesion()
    write_truth(tmp_path / "truth" / "slices", Truth("a", slice_labels=lesion.any(axis=(1, 2))), lesion.shape)
    with pytest.raises(DataError, match="its truth has no voxels"):
        LabelledPart(prepared.parts[0].case, TruthRef(tmp_path / "truth" / "slices", "f")).lesion()
