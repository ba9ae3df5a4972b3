import shutil

import numpy as np
import pytest
from uasbench.datasets.adapters.btcv import BTCV, dark_blobs
from uasbench.datasets.case import Case


def test_test_scans_are_ignored(tmp_path, put_btcv_case):
    put_btcv_case(tmp_path / "RawData" / "Training", 1)
    testing = tmp_path / "RawData" / "Testing" / "img"
    testing.mkdir(parents=True)
    for ending in ("nii", "nii.gz"):
        shutil.copy(tmp_path / "RawData" / "Training" / "img" / "img0001.nii.gz", testing / f"img0061.{ending}")
    dataset = BTCV()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["img0001"]
    assert "2 test scans" in dataset.notes[0]


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
