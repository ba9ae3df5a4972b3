"""What holds for every built-in data set."""

import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.luna16 import LUNA16
from uasbench.datasets.adapters.radiopaedia import Radiopaedia

CARDS = {
    BTCV: ("btcv", "liver", "healthy", "none", None, None),
    LUNA16: ("luna16", "lung", "healthy", "none", None, None),
    LiTS: ("lits", "liver", "lesion", "voxel", "btcv", "hu-deviation"),
    Coronacases: ("coronacases", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    Radiopaedia: ("radiopaedia", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    CovidCTMD: ("covid-ct-md", "lung", "lesion", "slice", "luna16", "hu-opened"),
}


@pytest.mark.parametrize("adapter", CARDS)
def test_cards_are_complete_and_say_where_healthy_is_a_convention(adapter):
    card = adapter.card
    assert (card.name, card.anatomy, card.role, card.truth, card.partner, card.reference) == CARDS[adapter]
    assert all((card.title, card.licence, card.citation, card.obtain, card.layout, card.roi_source))
    assert ("ealthy is a convention" in card.citation) == (card.role == "healthy")


@pytest.mark.parametrize("adapter", CARDS)
def test_an_absent_set_says_what_is_expected_and_where_to_get_it(adapter, tmp_path):
    survey = adapter().survey(tmp_path)
    assert survey.absent
    assert adapter.card.obtain in survey.problems[0]
    with pytest.raises(DataError, match="found; expected"):
        adapter().discover(tmp_path)
    assert adapter().survey(tmp_path / "nowhere").absent


@pytest.mark.parametrize("adapter", CARDS)
def test_a_case_before_discovery_is_refused(adapter):
    with pytest.raises(DataError, match=r"no case 'x' \(call discover"):
        adapter().load("x")


MASKED = "coronacases_001.nii.gz"
FILES = {
    BTCV: ("img/img0001.nii.gz", "label/label0001.nii.gz"),
    LUNA16: ("subset0/1.2.mhd", "annotations.csv"),
    LiTS: ("volume-3.nii", "segmentation-3.nii"),
    Coronacases: (f"ct_scans/{MASKED}", f"infection_mask/{MASKED}"),
    Radiopaedia: ("rp_im/2.nii.gz", "rp_msk/2.nii.gz"),
    CovidCTMD: ("P001.nii.gz", "slice_labels.csv"),
}
IDS = dict(zip(FILES, ("img0001", "1.2", "volume-3", "coronacases_001", "rp_2", "P001"), strict=True))
TABLES = {
    "annotations.csv": "seriesuid,coordX,coordY,coordZ,diameter_mm\n",
    "slice_labels.csv": "case,slice_index,label\nP001,0,1\n",
}


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(TABLES.get(name, ""))


@pytest.mark.parametrize("adapter", FILES)
def test_names_alone_make_a_case_which_patients_csv_gives_to_a_patient(adapter, tmp_path):
    name, case = adapter.card.name, IDS[adapter]
    put(tmp_path, *FILES[adapter])
    dataset = adapter()
    assert [(ref.id, ref.patient) for ref in dataset.discover(tmp_path)] == [(case, case)]
    (tmp_path / "patients.csv").write_text(
        f"set,case,patient\n{name},{case},anna\n{name},other,berta\nx,{case},carla\n"
    )
    assert [ref.patient for ref in dataset.discover(tmp_path)] == ["anna"]
    assert any("'other'" in note for note in dataset.notes)
    with pytest.raises(DataError, match=r"no case '9' \(1 cases known"):
        dataset.load("9")


@pytest.mark.parametrize("adapter", FILES)
def test_a_case_in_two_places_is_refused(adapter, tmp_path):
    put(tmp_path, *FILES[adapter], f"again/{FILES[adapter][0]}")
    with pytest.raises(DataError, match=f"{IDS[adapter]} lies in 2 places: .*again/.*; keep one of them"):
        adapter().discover(tmp_path)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (BTCV, r"img0001\.nii\.gz: image without label \(no label0001"),
        (LiTS, r"volume-3\.nii: image without label \(no segmentation-3"),
        (Coronacases, r"coronacases_001\.nii\.gz: image without label \(no Infection_Mask"),
        (Radiopaedia, r"rp_im/2\.nii\.gz: image without label \(no rp_msk/2\.nii\.gz\)"),
    ],
)
def test_an_image_without_its_label_is_refused(adapter, message, tmp_path):
    put(tmp_path, FILES[adapter][0])
    with pytest.raises(DataError, match=message):
        adapter().discover(tmp_path)
