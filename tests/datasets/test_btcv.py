import shutil

import numpy as np
import pytest
from uasbench.datasets.adapters.btcv import BTCV, dark_blobs
from uasbench.datasets.case import Case


@pytest.mark.parametrize(
    "folder",
    ["btcv/RawData/Training", "RawData/Training", "Training", "Abdomen/RawData/Training", "deep/down/Training", "."],
)
def test_published_layout_and_its_mirrors(tmp_path, put_btcv_case, folder):
    scan = put_btcv_case(tmp_path / folder, 1)
    put_btcv_case(tmp_path / folder, 21)
    dataset = BTCV()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["img0001", "img0021"]
    case = dataset.load("img0001")
    np.testing.assert_array_equal(case.image, scan.image)
    np.testing.assert_array_equal(case.roi, scan.labels > 0)
    assert case.notes == ()
    truth = dataset.load_truth("img0001")
    assert truth.lesion is None
    assert truth.slice_labels is None


def test_test_scans_are_ignored(tmp_path, put_btcv_case):
    put_btcv_case(tmp_path / "RawData" / "Training", 1)
    testing = tmp_path / "RawData" / "Testing" / "img"
    testing.mkdir(parents=True)
    shutil.copy(tmp_path / "RawData" / "Training" / "img" / "img0001.nii.gz", testing / "img0061.nii.gz")
    dataset = BTCV()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["img0001"]
    assert "1 test scans" in dataset.notes[0]


def test_dark_blobs():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 10, (20, 30, 30)).astype(np.float32)
    roi = np.zeros(image.shape, dtype=bool)
    roi[2:18, 3:27, 3:27] = True
    image[2, 3:27, 3:27] = -50
    case = Case("a", "a", image, (2.0, 2.0, 2.0), roi)
    assert dark_blobs(case) == []
    image[8:12, 10:14, 10:14] = -20
    image[6:8, 20:22, 20:22] = -20
    assert dark_blobs(Case("a", "a", image, (2.0, 2.0, 2.0), roi)) == [pytest.approx(64 * 8 / 1000)]
    assert "1 blobs below" in BTCV().inspect(Case("a", "a", image, (2.0, 2.0, 2.0), roi), None)[0]


@pytest.mark.real_data
def test_real_scan(real_ct):
    dataset = BTCV()
    dataset.discover(real_ct)
    case = dataset.load("img0001")
    assert case.image.shape == (78, 256, 256)
    assert int(case.roi.sum()) == 338383
    assert int(case.roi.any(axis=(1, 2)).sum()) == 71
    assert float(case.image[case.roi].mean()) == pytest.approx(140, abs=1)
