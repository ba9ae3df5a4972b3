"""The kidney phantom: what is in it, and the layouts of BTCV and KiTS23 that it is written in."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from uasbench.benchmark.catalogue.registry import datasets
from uasbench.datasets.check import check
from uasbench.datasets.looking import look
from uasbench.datasets.phantom import kidney
from uasbench.datasets.phantom.kidney_anatomy import LABELS
from uasbench.datasets.phantom.spec import parse_spec, spec_text
from uasbench.datasets.reading.listening import loaded

KIDNEYS = (LABELS["right kidney"], LABELS["left kidney"])


def read(root, name):
    found = look(datasets().get(name)(), root)
    return {ref.id: (loaded(found.dataset, ref.id), found.dataset) for ref in found.refs}


def test_files_lie_as_published(roots, digests):
    btcv = {f"btcv/RawData/Training/{kind}/{kind}000{n}.nii.gz" for kind in ("img", "label") for n in (2, 4)}
    cases = [f"kits23/dataset/case_0000{n}" for n in (0, 1)]
    kits = {f"{case}/{file}.nii.gz" for case in cases for file in ("imaging", "segmentation")}
    assert set(digests(roots["kidney"])) == btcv | kits | {"kits23/dataset/kits23.json", "phantom.json"}
    for case in cases:
        image, label = (nib.load(roots["kidney"] / case / f"{kind}.nii.gz") for kind in ("imaging", "segmentation"))
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.float64, np.uint8)
        for one in (image, label):
            assert "".join(nib.aff2axcodes(one.affine)) == "IPL"
            assert (int(one.header["qform_code"]), int(one.header["sform_code"])) == (0, 2)


def test_the_adapters_read_back_what_was_made(roots, smoke_kidneys):
    for case, (found, dataset) in read(roots["kidney"], "kits23").items():
        made = smoke_kidneys["kits23"][case]
        assert np.array_equal(found.image, made.hu)
        assert np.array_equal(found.roi, kidney.region(made))
        assert np.array_equal(dataset.load_truth(case).lesion, made.tumour)
        assert found.spacing == pytest.approx(made.spacing, abs=1e-4)
    healthy = read(roots["kidney"], "btcv-kidney")
    assert set(healthy) == set(smoke_kidneys["btcv-kidney"])
    for case, (found, _) in healthy.items():
        assert np.array_equal(found.image, smoke_kidneys["btcv-kidney"][case].hu)
        assert np.array_equal(found.roi, np.isin(smoke_kidneys["btcv-kidney"][case].labels, KIDNEYS))


def test_data_check_accepts_it(roots):
    found = check(roots["kidney"], {name: datasets().get(name)() for name in ("btcv-kidney", "kits23")})
    assert found.ok, found.errors
    assert not [text for text in found.warnings if "HU" in text]


def test_its_info_counts_the_tumours(roots, smoke_kidneys):
    rows = json.loads((roots["kidney"] / "phantom.json").read_text())["patients"]
    for row in rows:
        made = smoke_kidneys[row["set"]][row["case"]]
        assert sum(lesion["voxels"] for lesion in row["lesions"]) == np.count_nonzero(made.tumour)
        assert bool(row["lesions"]) == (row["set"] == "kits23")


@pytest.fixture(scope="module")
def patients():
    """Five patients with tumours and three without, at the size of quick."""
    spec = kidney.specification()
    plan = spec.size("quick")
    strata = kidney.Strata.deal(np.random.default_rng(0), plan)
    ill = [kidney.make_patient(spec, plan, n, style="kits", index=strata[n]) for n in range(5)]
    return ill, [kidney.make_patient(spec, plan, n, style="btcv") for n in range(10, 13)]


def test_kidneys_have_the_size_and_the_brightness_of_kidneys(patients):
    for patient in patients[1]:
        voxel = np.prod(patient.spacing) / 1000
        for number in KIDNEYS:
            own = patient.labels == number
            assert 60 < own.sum() * voxel < 220
            (parts, count) = ndimage.label(own)
            assert np.bincount(parts.ravel())[1:].max() > 0.95 * own.sum(), count
        own = np.isin(patient.labels, KIDNEYS)
        assert 90 < np.median(patient.hu[own]) < 220


def test_the_cortex_is_brighter_than_what_lies_below_where_the_medulla_has_not_filled():
    text = spec_text("kidney").replace(
        "btcv_medulla_below: {choice: [5, 15, 30, 45, 60]", "btcv_medulla_below: {value: 60"
    )
    spec = parse_spec(text)
    for number in range(3):
        patient = kidney.make_patient(spec, spec.size("quick"), number, style="btcv")
        own = np.isin(patient.labels, KIDNEYS)
        depth = ndimage.distance_transform_edt(own, sampling=patient.spacing)
        shell, inner = own & (depth > 4) & (depth < 6), own & (depth > 10)
        assert np.median(patient.hu[shell]) > np.median(patient.hu[inner]) + 15


def test_everybody_ill_has_a_tumour_at_a_kidney_and_cysts_are_none(patients):
    for patient in patients[0]:
        assert patient.tumour.any()
        assert not (patient.tumour & patient.cyst).any()
        near = ndimage.binary_dilation(np.isin(patient.labels, KIDNEYS), iterations=3)
        parts, count = ndimage.label(patient.tumour)
        assert all((near & (parts == part)).any() for part in range(1, count + 1))
        assert not kidney.region(patient)[patient.cyst].any()
        assert kidney.region(patient)[patient.tumour].all()
    for patient in patients[1]:
        assert not patient.tumour.any()
