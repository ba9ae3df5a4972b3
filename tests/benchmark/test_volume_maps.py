"""Maps made on volume views: stored on their support, measured on the native grid."""

import numpy as np
import pytest
from uasbench.benchmark.runs.map_store import MapError, read_map, write_map
from uasbench.benchmark.scoring.cases import ArrayCase
from uasbench.benchmark.scoring.paper_grid import paper_confusion
from uasbench.datasets.case import Case, Truth
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import VolumeView, apply_view


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    roi = np.zeros((8, 40, 50), bool)
    roi[1:7, 8:30, 10:33] = rng.random((6, 22, 23)) < 0.8
    return Case("a", "a", rng.normal(-500, 99, roi.shape).astype(np.float32), (2.5, 0.7, 0.7), roi)


@pytest.mark.parametrize("resample_z", [True, False])
def test_a_stored_map_gives_the_same_native_values(tmp_path, case, resample_z):
    seen = apply_view(case, VolumeView(size=48, resample_z=resample_z))
    map_ = np.random.default_rng(1).random(seen.image.shape, np.float32)
    map_[~seen.support] = np.nan
    write_map(tmp_path / "a.map", map_, seen.geometry, seen.support)
    stored = read_map(tmp_path / "a.map")
    assert stored.geometry == seen.geometry
    np.testing.assert_array_equal(stored.native()[case.roi], seen.to_native(map_)[case.roi])


def test_a_map_of_another_grid_is_refused(tmp_path, case):
    seen = apply_view(case, VolumeView(size=48))
    with pytest.raises(MapError, match="shape"):
        write_map(tmp_path / "a.map", np.zeros(case.roi.shape, np.float32), seen.geometry, case.roi)


def test_the_papers_grid_reads_volumes_through_the_native_map(case):
    lesion = np.zeros(case.roi.shape, bool)
    lesion[3, 12:20, 15:22] = True
    seen = apply_view(case, VolumeView(size=256))
    map_ = seen.geometry.mask_to_view(lesion, "area").astype(np.float32)
    truth = Truth("a", lesion, lesion.any(axis=(1, 2)))
    on_volume = ArrayCase(case, map_, truth, geometry=seen.geometry)
    native = ArrayCase(case, seen.to_native(map_), truth)
    assert paper_confusion(on_volume, 0.5) == paper_confusion(native, 0.5)


def test_the_papers_grid_still_reads_its_own_slices(case):
    seen = apply_view(case, View(size=256))
    lesion = np.zeros(case.roi.shape, bool)
    lesion[3, 12:20, 15:22] = True
    truth = Truth("a", lesion, lesion.any(axis=(1, 2)))
    exact = seen.geometry.mask_to_view(lesion & case.roi, "cubic>0.1") & seen.support
    found = paper_confusion(ArrayCase(case, exact.astype(np.float32), truth, geometry=seen.geometry), 0.5)
    assert found.fp == 0
    assert found.tp == exact.sum()
