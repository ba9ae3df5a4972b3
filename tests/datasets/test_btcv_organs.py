import numpy as np
import pytest
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.btcv_organs import BTCVKidney, BTCVPancreas
from uasbench.datasets.check import check


@pytest.fixture
def put(put_nifti, abdomen):
    def case(root, number, **options):
        labels = np.where(abdomen.labels > 0, 6, 0).astype(np.uint8)
        labels[4:6, 16:18, 6:9], labels[4:6, 16:18, 22:25], labels[6, 12:14, 14:18] = 2, 3, 11
        folder = root / "btcv/RawData/Training"
        put_nifti(folder / f"img/img{number:04d}.nii.gz", abdomen.image + number, **options)
        put_nifti(folder / f"label/label{number:04d}.nii.gz", labels, **options)
        return labels

    return case


@pytest.mark.parametrize(("adapter", "values"), [(BTCVKidney, (2, 3)), (BTCVPancreas, (11,))])
def test_the_organ_of_scans_that_are_listed_as_healthy(adapter, values, tmp_path, put, opened):
    labels = put(tmp_path, 2)
    put(tmp_path, 4, codes="RAS", affine=np.eye(4))
    put(tmp_path, 1)
    dataset = opened(adapter, tmp_path)
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["img0002", "img0004"]
    assert "1 of 3 scans are not listed as healthy for this organ" in dataset.notes[0]
    for name in ("img0002", "img0004"):  # the second one is turned by its liver
        np.testing.assert_array_equal(dataset.load(name).roi, np.isin(labels, values))
    assert dataset.load_truth("img0002").lesion is None


def test_beside_btcv_they_bring_no_second_copy_of_a_patient(tmp_path, put):
    put(tmp_path, 2)
    put(tmp_path, 4)
    report = check(tmp_path, {"btcv": BTCV(), "btcv-kidney": BTCVKidney(), "btcv-pancreas": BTCVPancreas()})
    assert (report.errors, [len(one.cases) for one in report.sets]) == ([], [2, 2, 2])
