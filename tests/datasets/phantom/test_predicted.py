"""Predicted livers beside a phantom: mistakes of a stated size, drawn from organ and seed alone."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.common.source_hash import closure_files
from uasbench.datasets.phantom.predicted import DOME_MM, LEAK_MM, lay_masks, mistaken
from uasbench.datasets.regions.sets import CoronacasesPredicted, LiTSPredicted

SPACING = (2.5, 1.5, 1.5)


def _ball():
    z, y, x = np.ogrid[:48, :80, :80]
    return ((z - 24) * 2.5) ** 2 + ((y - 40) * 1.5) ** 2 + ((x - 40) * 1.5) ** 2 <= 40**2


@given(st.integers(0, 2**32 - 1))
def test_mistakes_have_the_stated_size_and_follow_from_the_seed(seed):
    roi = _ball()
    out, again = (mistaken(roi, SPACING, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(out, again)
    height = [np.flatnonzero(mask.any(axis=(1, 2)))[-1] * SPACING[0] for mask in (roi, out)]
    assert height[0] - height[1] <= DOME_MM + 10
    beyond = np.asarray(ndimage.distance_transform_edt(~roi, SPACING))[out]
    assert beyond.max() <= LEAK_MM[1] + 10
    dice = 2 * (out & roi).sum() / (out.sum() + roi.sum())
    assert 0.8 < dice < 1


def test_displacement_is_of_millimetres_and_not_to_one_side():
    roi, gained = _ball(), []
    inside, outside = (np.asarray(ndimage.distance_transform_edt(mask, SPACING)) for mask in (roi, ~roi))
    away = np.where(roi, -inside, outside)
    for seed in range(20):
        out = mistaken(roi, SPACING, np.random.default_rng(seed))
        low = slice(0, 24)  # no dome here
        gained.append(out[low].sum() / roi[low].sum())
        wrong = np.abs(away[low])[out[low] != roi[low]]
        assert np.median(wrong) < 4
    assert abs(np.median(gained) - 1) < 0.1


def test_an_organ_of_one_voxel_stays_one():
    roi = np.zeros((3, 4, 5), bool)
    roi[1, 2, 2] = True
    for seed in range(10):
        assert mistaken(roi, (5.0, 1.0, 1.0), np.random.default_rng(seed)).any()


def test_masks_lie_beside_the_phantom_and_are_made_once(smoke_root, tmp_path, digests):
    root = tmp_path / "phantom"
    shutil.copytree(smoke_root, root)
    before = digests(root)
    lay_masks(root, [LiTSPredicted, CoronacasesPredicted])
    after = digests(root)
    assert after.items() > before.items()
    assert len(after) - len(before) == sum(row["set"] == "lits" for row in json.loads(_info(root))["patients"]) + 1
    folder = root / "rois" / "lits"
    made = folder.stat().st_ino
    lay_masks(root, [LiTSPredicted])
    assert folder.stat().st_ino == made
    (folder / "source.txt").write_text("another law\n")
    lay_masks(root, [LiTSPredicted])
    assert digests(root) == after


def _info(root):
    return (root / "phantom.json").read_text()


@pytest.mark.parametrize("module", ["disk", "liver", "lung"])
def test_they_are_no_part_of_what_makes_a_phantom(module):
    assert not [m for m in closure_files(f"uasbench.datasets.phantom.{module}") if m.endswith((".predicted", ".sets"))]
