"""What holds for every built-in data set."""

import importlib
import json

import numpy as np
import pytest
import SimpleITK
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.chaos import CHAOS
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.covid_19_20 import Covid1920
from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
from uasbench.datasets.adapters.kits23 import KiTS23
from uasbench.datasets.adapters.lidc import LIDC
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.luna16 import LUNA16
from uasbench.datasets.adapters.mosmed import MosMed, MosMedHealthy
from uasbench.datasets.adapters.msd import MSDColon, MSDLung, MSDPancreas, MSDVessels
from uasbench.datasets.adapters.pancreas_ct import PancreasCT
from uasbench.datasets.adapters.radiopaedia import Radiopaedia
from uasbench.datasets.case import warning

CARDS = {
    BTCV: ("btcv", "liver", "healthy", "none", None, None),
    CHAOS: ("chaos", "liver", "healthy", "none", None, None),
    LUNA16: ("luna16", "lung", "healthy", "none", None, None),
    LiTS: ("lits", "liver", "lesion", "voxel", "btcv", "hu-deviation"),
    Coronacases: ("coronacases", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    Radiopaedia: ("radiopaedia", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    CovidCTMD: ("covid-ct-md", "lung", "lesion", "slice", "luna16", "hu-opened"),
    MSDPancreas: ("msd-pancreas", "pancreas", "lesion", "voxel", "pancreas-ct", "hu-deviation"),
    MSDLung: ("msd-lung", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    MSDVessels: ("msd-vessels", "liver", "lesion", "voxel", "btcv", "hu-deviation"),
    MSDColon: ("msd-colon", "colon", "lesion", "voxel", None, "hu-deviation"),
    KiTS23: ("kits23", "kidney", "lesion", "voxel", "btcv-kidney", "hu-deviation"),
    Covid1920: ("covid-19-20", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    LIDC: ("lidc", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    MosMed: ("mosmed", "lung", "lesion", "voxel", "mosmed-healthy", "hu-opened"),
    MosMedHealthy: ("mosmed-healthy", "lung", "healthy", "none", None, None),
    PancreasCT: ("pancreas-ct", "pancreas", "healthy", "none", None, None),
}


@pytest.mark.parametrize("adapter", CARDS)
def test_cards_are_complete_and_say_where_healthy_is_a_convention(adapter):
    card = adapter.card
    assert (card.name, card.anatomy, card.role, card.truth, card.partner, card.reference) == CARDS[adapter]
    assert all((card.title, card.licence, card.citation, card.obtain, card.layout, card.roi_source))
    assert ("ealthy is a convention" in card.citation) == (card.role == "healthy")


@pytest.mark.parametrize("adapter", CARDS)
def test_an_absent_set_says_what_is_expected_and_where_to_get_it(adapter, tmp_path):
    put(tmp_path, "other/segmentation-1.nii", "other/label0001.nii.gz", "predictions/liver_1.nii")
    survey = adapter().survey(tmp_path)
    assert survey.absent
    assert adapter.card.obtain in survey.problems[0]
    with pytest.raises(DataError, match="found; expected"):
        adapter().discover(tmp_path)
    assert adapter().survey(tmp_path / "nowhere").absent
    with pytest.raises(DataError, match=r"no case 'x' \(call discover"):
        adapter().load("x")


MASKED = "coronacases_001.nii.gz"
FILES = {
    BTCV: ("img/img0001.nii.gz", "label/label0001.nii.gz"),
    CHAOS: ("3/DICOM_anon/i0000,0000b.dcm", "3/Ground/liver_GT_000.png"),
    LUNA16: ("subset0/1.2.mhd", "annotations.csv"),
    LiTS: ("volume-3.nii", "segmentation-3.nii"),
    Coronacases: (f"ct_scans/{MASKED}", f"infection_mask/{MASKED}"),
    Radiopaedia: ("rp_im/2.nii.gz", "rp_msk/2.nii.gz"),
    CovidCTMD: ("P001.nii.gz", "slice_labels.csv"),
    MSDPancreas: (
        "data/Task07_Pancreas/imagesTr/pancreas_004.nii.gz",
        "data/Task07_Pancreas/labelsTr/pancreas_004.nii.gz",
    ),
    MSDLung: ("data/Task06_Lung/imagesTr/lung_004.nii.gz", "data/Task06_Lung/labelsTr/lung_004.nii.gz"),
    KiTS23: ("dataset/case_00004/imaging.nii.gz", "dataset/case_00004/segmentation.nii.gz"),
    MosMed: ("studies/CT-1/study_0255.nii.gz", "masks/study_0255_mask.nii.gz"),
    MosMedHealthy: ("studies/CT-0/study_0001.nii.gz",),
    PancreasCT: ("PANCREAS_0007/1/2/1-001.dcm", "TCIA_pancreas_labels-02-05-2017/label0007.nii.gz"),
}
NAMES = (
    "img0001", "chaos_3", "1.2", "volume-3", "coronacases_001", "rp_2", "P001", "pancreas_004", "lung_004",
    "case_00004", "study_0255", "study_0001", "PANCREAS_0007",
)  # fmt: skip
IDS = dict(zip(FILES, NAMES, strict=True))
HEADERS = {
    "annotations.csv": "seriesuid,coordX,coordY,coordZ,diameter_mm\n",
    "slice_labels.csv": "case,slice_index,label\n",
}
TABLES = {**HEADERS, "slice_labels.csv": HEADERS["slice_labels.csv"] + "P001,0,1\n"}


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
    assert adapter().survey(tmp_path).refs == []


def test_files_in_two_places_matter_where_they_are_used(tmp_path):
    put(tmp_path / "twin", *(f"{folder}/liver_1.nii" for folder in ("imagesTr", "labelsTr", "predictions", "test")))
    put(tmp_path / "twin", "predictions/liver_1.nii.gz", "a/segmentation-1.nii", "b/segmentation-1.nii")
    assert [ref.id for ref in LiTS().discover(tmp_path / "twin")] == ["volume-1"]
    put(tmp_path / "plain", *FILES[LiTS], "volume/liver_3.nii", "segmentation/liver_3.nii")
    assert [ref.id for ref in LiTS().discover(tmp_path / "plain")] == ["volume-3"]
    put(tmp_path / "masks", "seg-lungs-LUNA16/1.mhd", "seg-lungs-LUNA16/again/1.mhd")
    survey = LUNA16().survey(tmp_path / "masks")
    assert (survey.absent, len(survey.problems)) == (False, 1)


SHAPE, SPACING = (12, 24, 32), (6.0, 10.0, 10.0)


@pytest.fixture
def write(chest, put_nifti, put_chaos_case):
    """Return ``write(adapter, folder, number)``: write a case as published; gives its id, CT, organ and lesion."""

    def case_of(adapter, folder, number, mask=True):
        image, lungs = chest(SHAPE, number)
        lesion = np.zeros_like(lungs)
        lesion[4:7, 9:15, 19:27] = 1
        if adapter is CHAOS:
            image = np.where(lungs > 0, image + 950, image).astype(np.int16)
            put_chaos_case(folder, number, image, lungs, SPACING)
            return f"chaos_{number}", image, lungs > 0, lesion > 0
        organ, name, masked = (lungs > 0).astype(np.uint8), f"coronacases_{number:03d}.nii.gz", f"P{number}.nii.gz"
        case, files, masks = {
            BTCV: (f"img{number:04d}", {"img/{}.nii.gz": image, f"label/label{number:04d}.nii.gz": 6 * organ}, {}),
            LiTS: (f"volume-{number}", {"{}.nii": image, f"segmentation-{number}.nii": organ + lesion}, {}),
            Coronacases: (
                f"coronacases_{number:03d}",
                {f"COVID-19-CT-Seg_20cases/{name}": image, f"Infection_Mask/{name}": lesion},
                {f"Lung_Mask/{name}": lungs},
            ),
            Radiopaedia: (
                f"rp_{number}",
                {f"rp_im/{number}.nii": image, f"rp_msk/{number}.nii": lesion},
                {f"rp_lung_msk/{number}.nii": lungs},
            ),
            CovidCTMD: (f"P{number}", {masked: image}, {f"lung_mask/{masked}": lungs}),
            MSDPancreas: (
                f"pancreas_{number:03d}",
                {"imagesTr/{}.nii.gz": image, "labelsTr/{}.nii.gz": organ + lesion},
                {},
            ),
            MSDLung: (f"lung_{number:03d}", {"imagesTr/{}.nii.gz": image, "labelsTr/{}.nii.gz": lesion}, {}),
            KiTS23: (
                f"case_{number:05d}",
                {"{}/imaging.nii.gz": image, "{}/segmentation.nii.gz": organ + lesion},
                {},
            ),
            LUNA16: (f"1.{number}", {"subset0/{}.mhd": image}, {"seg-lungs-LUNA16/{}.mhd": (3 + (lungs > 1)) * organ}),
        }[adapter]
        for path, array in {**files, **(masks if mask else {})}.items():
            file = folder / path.format(case)
            if file.suffix == ".mhd":
                stored = SimpleITK.GetImageFromArray(array)
                stored.SetSpacing(SPACING[::-1])
                file.parent.mkdir(parents=True, exist_ok=True)
                SimpleITK.WriteImage(stored, str(file))
            else:
                put_nifti(file, array, spacing=SPACING, codes="RAS")
        if adapter in (MSDPancreas, MSDLung):
            index = {"modality": {"0": "CT"}, "labels": adapter.task.labels}
            (folder / "dataset.json").write_text(json.dumps(index))
        labels = "".join(f"{case},{z},{int(4 <= z < 7)}\n" for z in range(SHAPE[0]))
        table, rows = {LUNA16: ("annotations.csv", ""), CovidCTMD: ("slice_labels.csv", labels)}.get(adapter, ("", ""))
        if table:
            with (folder / table).open("a") as file:
                file.write(HEADERS[table] * (file.tell() == 0) + rows)
        return case, image, organ > 0, lesion > 0

    return case_of


ROOTS = {
    BTCV: ("btcv/RawData/Training", "Abdomen/RawData/Training"),
    CHAOS: ("chaos/Train_Sets/CT", "CHAOS_Train_Sets/Train_Sets/CT"),
    LUNA16: ("luna16", "LUNA16/download"),
    LiTS: ("lits/Training Batch 1", "LITS17/media/nas/Training_Batch2"),
    Coronacases: ("coronacases", "COVID-19-CT-Seg"),
    Radiopaedia: ("radiopaedia", "MedSeg"),
    CovidCTMD: ("covid-ct-md", "COVID-CT-MD/nifti"),
    MSDPancreas: ("msd/Task07_Pancreas", "Dataset007_Pancreas"),
    KiTS23: ("kits23/dataset", "KiTS23"),
}


@pytest.mark.parametrize(("adapter", "folder"), [(a, f) for a in ROOTS for f in (*ROOTS[a], "some/where", ".")])
def test_cases_come_back_from_any_depth(adapter, folder, tmp_path, write):
    last, *_ = write(adapter, tmp_path / folder, 10)
    name, image, roi, lesion = write(adapter, tmp_path / folder, 9)
    dataset = adapter()
    assert [ref.id for ref in dataset.discover(tmp_path)] == [name, last]
    case, truth = dataset.load(name), dataset.load_truth(name)
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.roi, roi)
    assert (case.image.dtype, case.roi.dtype, case.spacing) == (np.float32, bool, SPACING)
    assert (truth.lesion is not None) == (adapter.card.truth == "voxel")
    if truth.lesion is not None:
        np.testing.assert_array_equal(truth.lesion, lesion)
    if truth.slice_labels is not None:
        np.testing.assert_array_equal(truth.slice_labels, lesion.any(axis=(1, 2)))
    assert (truth.slice_labels is None) == (adapter.card.truth == "none")


@pytest.mark.parametrize("adapter", [LUNA16, Coronacases, Radiopaedia, CovidCTMD, MSDLung])
def test_without_a_mask_the_lungs_are_segmented(adapter, tmp_path, write, monkeypatch, opened):
    name, _, roi, _ = write(adapter, tmp_path, 1, mask=False)

    def lung_roi(case_id, image, spacing, mask=None, **_):
        assert (case_id, image.shape, spacing, mask) == (name, SHAPE, SPACING, None)
        return roi, "classical segmentation", (warning("segmented"),)

    module = adapter.load.__module__
    monkeypatch.setattr(importlib.import_module(module), "lung_roi", lung_roi)
    case = opened(adapter, tmp_path).load(name)
    assert (case.roi_source, case.notes) == ("classical segmentation", (warning("segmented"),))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (BTCV, r"img0001\.nii\.gz: image without label \(no label0001"),
        (CHAOS, r"i0000,0000b\.dcm: image without label \(no 3/Ground/\*\.png\)"),
        (LiTS, r"volume-3\.nii: image without label \(no segmentation-3"),
        (Coronacases, r"coronacases_001\.nii\.gz: image without label \(no Infection_Mask"),
        (Radiopaedia, r"rp_im/2\.nii\.gz: image without label \(no rp_msk/2\.nii\.gz\)"),
        (MSDPancreas, r"pancreas_004\.nii\.gz: image without label \(no labelsTr/pancreas_004"),
        (PancreasCT, r"1-001\.dcm: image without label \(no label0007\.nii\.gz\)"),
        (KiTS23, r"imaging\.nii\.gz: image without label \(no segmentation\.nii\.gz"),
    ],
)
def test_an_image_without_its_label_is_refused(adapter, message, tmp_path):
    put(tmp_path, FILES[adapter][0])
    with pytest.raises(DataError, match=message):
        adapter().discover(tmp_path)


TRUTHS = {
    LiTS: "segmentation-1.nii",
    Coronacases: "Infection_Mask/coronacases_001.nii.gz",
    Radiopaedia: "rp_msk/1.nii",
    CovidCTMD: "slice_labels.csv",
    MSDPancreas: "labelsTr/pancreas_001.nii.gz",
    KiTS23: "case_00001/segmentation.nii.gz",
}


@pytest.mark.parametrize("adapter", TRUTHS)
def test_the_truth_decides_nothing_that_methods_see(adapter, tmp_path, write, put_nifti, opened):
    name, _, roi, lesion = write(adapter, tmp_path, 1)
    before, file = opened(adapter, tmp_path).load(name), tmp_path / TRUTHS[adapter]
    if adapter is CovidCTMD:
        file.write_text(file.read_text().replace(",1\n", ",0\n"))
    else:
        other = np.random.default_rng(0).permutation(lesion[roi]).astype(np.uint8)
        labels = np.zeros(SHAPE, np.uint8)
        labels[roi] = other + (adapter in (LiTS, MSDPancreas, KiTS23))
        put_nifti(file, labels, spacing=SPACING, codes="RAS")
    after = opened(adapter, tmp_path)
    assert not np.array_equal(after.load_truth(name).slice_labels, lesion.any(axis=(1, 2)))
    np.testing.assert_array_equal(before.roi, after.load(name).roi)
    np.testing.assert_array_equal(before.image, after.load(name).image)


REAL = {
    BTCV: {"img0001": (338383, None)},
    LUNA16: {
        "2.25.37445861865020869553034547712043038080": (49912 + 65908, None),
        "2.25.114830353727890971241773279082409909534": (65526 + 72227, None),
        "2.25.175392350629871485534849291908651991666": (497481 + 576089, None),
        "2.25.336687283563550370866562927003623652634": (52103 + 61287, None),
    },
    Coronacases: {
        "coronacases_001": (152422, 4354),
        "coronacases_002": (543073, 8655),
        "coronacases_003": (290734, 9040),
    },
    CovidCTMD: {"P001": (683979 + 696770, 80), "cap001": (1145244 + 1049159, 86)},
}
"""Voxels of the region of interest, and of the lesion (of a set of slice labels: slices)."""


@pytest.mark.real_data
@pytest.mark.parametrize("adapter", REAL)
def test_real_scans(adapter, real_ct):
    dataset = adapter()
    assert {ref.id for ref in dataset.discover(real_ct)} == set(REAL[adapter])
    for name, (voxels, wanted) in REAL[adapter].items():
        case, truth = dataset.load(name), dataset.load_truth(name)
        found = truth.slice_labels if truth.lesion is None else truth.lesion
        assert (np.count_nonzero(case.roi), None if found is None else np.count_nonzero(found)) == (voxels, wanted)
        assert case.notes == ()
        assert truth.share_outside(case.roi) == 0
        assert adapter is BTCV or dataset.inspect(case, truth) == []
