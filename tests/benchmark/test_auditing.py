"""``bench data audit``: what is told of a set, who is found twice, and who is left out of runs."""

import shutil

import nibabel as nib
import numpy as np
import pytest
from uasbench.benchmark.commands.auditing import audit
from uasbench.benchmark.commands.listing import dataset_adapters
from uasbench.common.errors import DataError
from uasbench.datasets.check import check
from uasbench.datasets.readers import Readers


@pytest.fixture
def own_root(root, tmp_path):
    """A copy of the smallest phantom that a test may change."""
    path = tmp_path / "data"
    shutil.copytree(root, path)
    return path


def audited(root, *names):
    with Readers(1) as readers:
        return audit(root, list(names), dataset_adapters("btcv,lits"), readers)


def _a_scan_of_btcv_under_another_name(root):
    image, label = (
        root / "btcv" / "RawData" / "Training" / "img" / "img0001.nii.gz",
        root / "btcv" / "RawData" / "Training" / "label" / "label0001.nii.gz",
    )
    for path in (image, label):
        old = nib.load(path)
        data = np.asanyarray(old.dataobj)[2:, 3:, :]
        affine = old.affine.copy()
        nib.save(nib.Nifti1Image(data, affine, old.header), path.with_name(path.name.replace("0001", "0040")))


def test_a_cut_copy_is_found_and_rows_of_patients_csv_silence_it(own_root):
    _a_scan_of_btcv_under_another_name(own_root)
    (found,) = audited(own_root, "btcv")
    assert [(pair.a, pair.b) for pair in found.twins] == [(("btcv", "img0001"), ("btcv", "img0040"))]
    text = found.text()
    assert "btcv:img0001 and btcv:img0040: " in text
    rows = [line.strip() for line in text.splitlines() if line.strip().endswith("btcv-img0001")]
    assert rows == ["btcv,img0001,btcv-img0001", "btcv,img0040,btcv-img0001"]
    (own_root / "patients.csv").write_text("\n".join(["set,case,patient", *rows]) + "\n")
    (found,) = audited(own_root, "btcv")
    assert found.twins == []
    assert "No body was found under two names." in found.text()


def test_a_set_that_is_not_there_or_has_no_files_of_its_own_is_refused(own_root):
    shutil.rmtree(own_root / "lits")
    with pytest.raises(DataError, match="nothing of lits is there; its layout is"):
        audited(own_root, "btcv", "lits")
    with pytest.raises(DataError, match="btcv-kidney has no files of its own; audit one of btcv, lits"):
        audited(own_root, "btcv-kidney")


def test_what_is_published_is_told_with_its_source(own_root):
    shutil.rmtree(own_root / "lits")
    (found,) = audited(own_root, "btcv")
    text = found.text()
    assert "ventral hernia" in text
    assert "--only btcv:img0002" in text
    assert "no other set" in text


def test_a_scan_that_cannot_be_read_is_named(own_root):
    path = own_root / "btcv" / "RawData" / "Training" / "img" / "img0001.nii.gz"
    path.write_bytes(path.read_bytes()[:1000])
    (found,) = audited(own_root, "btcv")
    assert list(found.unread) == [("btcv", "img0001")]
    assert "Not compared" in found.text()


def test_cases_of_exclude_csv_are_left_out_of_runs_and_change_the_split(plan, own_root):
    task, _ = plan("hu-deviation", data_root=own_root)
    ids = [case.id for case in task.data.healthy]
    (own_root / "exclude.csv").write_text(f"set,case,reason\nbtcv,{ids[0]},a cyst\nlits,volume-0,motion\n")
    less, _ = plan("hu-deviation", data_root=own_root)
    assert [case.id for case in less.data.healthy] == ids[1:]
    assert "volume-0" not in [case.id for case in less.data.test]
    assert less.data.split.hash != task.data.split.hash
    assert less.data.info().excluded == ["lits:volume-0", f"btcv:{ids[0]}"]
    assert f"btcv:{ids[0]} is left out by exclude.csv: a cyst" in less.data.warnings
    (found,) = audited(own_root, "btcv")
    assert f"{ids[0]}: a cyst" in found.text()


def test_exclude_csv_that_leaves_nobody_or_names_nobody_is_refused(plan, own_root):
    cases = [case.id for case in plan("hu-deviation", data_root=own_root)[0].data.test]
    rows = "".join(f"lits,{case},ill\n" for case in cases)
    (own_root / "exclude.csv").write_text(f"set,case,reason\n{rows}")
    with pytest.raises(DataError, match=r"exclude\.csv leaves no case of set 'lits'"):
        plan("hu-deviation", data_root=own_root)
    (own_root / "exclude.csv").write_text("set,case,reason\nlits,volume-99,ill\n")
    with pytest.raises(DataError, match=r"exclude\.csv: set 'lits' has no such case as 'volume-99'"):
        plan("hu-deviation", data_root=own_root)


def test_exclude_csv_holds_for_sets_that_show_the_same_scans_again(plan, own_root):
    (own_root / "exclude.csv").write_text("set,case,reason\nlits,volume-0,motion\n")
    task, _ = plan("hu-deviation", data_root=own_root, datasets=["lits-eroded"])
    assert "volume-0" not in [case.id for case in task.data.test]


def test_data_check_tells_who_is_left_out_and_an_exclude_csv_that_it_cannot_read(own_root):
    (own_root / "exclude.csv").write_text("set,case,reason\nlits,volume-0,motion\n")
    (found,) = check(own_root, dataset_adapters("lits")).sets
    told = {case.id: case.notes for case in found.cases}
    assert "left out of runs by exclude.csv: motion" in told["volume-0"]
    assert not [note for case, notes in told.items() if case != "volume-0" for note in notes if "exclude" in note]
    (own_root / "exclude.csv").write_text("case,reason\nvolume-0,motion\n")
    assert "no column set" in check(own_root, dataset_adapters("lits")).errors[0]
