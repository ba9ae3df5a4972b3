"""The pancreas phantom: what is in it, and the layouts of BTCV and of the Decathlon's task 7 that it is written in."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from uasbench.benchmark.catalogue.registry import datasets
from uasbench.datasets.adapters.btcv_organs import BTCVPancreas
from uasbench.datasets.check import check
from uasbench.datasets.looking import look
from uasbench.datasets.phantom import pancreas
from uasbench.datasets.phantom.liver_anatomy import LABELS
from uasbench.datasets.phantom.liver_tumours import Strata
from uasbench.datasets.phantom.pancreas_anatomy import Obstruction, draw_axis
from uasbench.datasets.phantom.pancreas_tumours import KINDS, draw_obstruction, kind_of
from uasbench.datasets.phantom.spec import parse_spec, spec_text
from uasbench.datasets.reading.listening import loaded

SPEC = pancreas.specification()
MIDDLE_OF = {"adenocarcinoma": 0.3, "cyst": 0.7, "neuroendocrine": 0.95}


def read(root, name):
    found = look(datasets().get(name)(), root)
    return {ref.id: (loaded(found.dataset, ref.id), found.dataset) for ref in found.refs}


def test_files_lie_as_published(roots, digests):
    root, task = roots["pancreas"], "Task07_Pancreas"
    btcv = {f"btcv/RawData/Training/{kind}/{kind}000{n}.nii.gz" for kind in ("img", "label") for n in (2, 4)}
    scans = {f"{task}/{kind}/pancreas_00{n}.nii.gz" for kind in ("imagesTr", "labelsTr") for n in (1, 2)}
    assert set(digests(root)) == btcv | scans | {f"{task}/dataset.json", "phantom.json"}
    for name in scans:
        image = nib.load(root / name)
        assert image.get_data_dtype() == (np.int16 if "imagesTr" in name else np.uint8)
        assert "".join(nib.aff2axcodes(image.affine)) == "RAS"
    about = json.loads((root / task / "dataset.json").read_text())
    assert about["labels"] == {"0": "background", "1": "pancreas", "2": "cancer"}
    assert {entry[key] for entry in about["training"] for key in entry} == {n.replace(task, ".") for n in scans}


def test_its_healthy_scans_are_those_that_are_listed_as_healthy():
    assert set(pancreas.BTCV_IDS) == BTCVPancreas.listed
    assert max(SPEC.size(size).healthy for size in SPEC.values["sizes"]) == len(pancreas.BTCV_IDS)


def test_the_adapters_read_back_what_was_made(roots, smoke_pancreases):
    for case, (found, dataset) in read(roots["pancreas"], "msd-pancreas").items():
        made = smoke_pancreases["msd-pancreas"][case]
        assert np.array_equal(found.image, made.hu)
        assert np.array_equal(found.roi, pancreas.region(made))
        assert np.array_equal(dataset.load_truth(case).lesion, made.tumour)
        assert found.spacing == pytest.approx(made.spacing, abs=1e-4)
    healthy = read(roots["pancreas"], "btcv-pancreas")
    assert set(healthy) == set(smoke_pancreases["btcv-pancreas"])
    for case, (found, _) in healthy.items():
        made = smoke_pancreases["btcv-pancreas"][case]
        assert np.array_equal(found.image, made.hu)
        assert np.array_equal(found.roi, made.labels == LABELS["pancreas"])


def test_data_check_accepts_it(roots):
    found = check(roots["pancreas"], {name: datasets().get(name)() for name in ("btcv-pancreas", "msd-pancreas")})
    assert found.ok, found.errors
    assert not [text for text in found.warnings if "HU" in text]


def test_its_info_counts_the_masses(roots, smoke_pancreases):
    rows = json.loads((roots["pancreas"] / "phantom.json").read_text())["patients"]
    for row in rows:
        made = smoke_pancreases[row["set"]][row["case"]]
        assert sum(lesion["voxels"] for lesion in row["lesions"]) == np.count_nonzero(made.tumour)
        assert bool(row["lesions"]) == (row["set"] == "msd-pancreas")


@pytest.fixture(scope="module")
def patients():
    """A patient with each kind of mass and two without any, at the size of quick."""
    plan = SPEC.size("quick")
    ill = {
        kind: pancreas.make_patient(SPEC, plan, n, style="msd", index=Strata(0.5, 0.8, 0.5, MIDDLE_OF[kind]))
        for n, kind in enumerate(KINDS)
    }
    return ill, [pancreas.make_patient(SPEC, plan, n, style="btcv") for n in (10, 11)]


def test_a_pancreas_has_its_size_its_brightness_and_its_place(patients):
    for patient in patients[1]:
        own = patient.labels == LABELS["pancreas"]
        assert 40 < own.sum() * np.prod(patient.spacing) / 1000 < 120
        assert 50 < np.median(patient.hu[own]) < 125
        parts, _ = ndimage.label(own, np.ones((3, 3, 3)))
        assert np.bincount(parts.ravel())[1:].max() > 0.9 * own.sum()
        z, _, x = np.nonzero(own)
        head, tail = z[x < np.quantile(x, 0.3)], z[x > np.quantile(x, 0.9)]
        assert tail.mean() > head.mean()  # it rises towards the spleen
        near = ndimage.binary_dilation(own, iterations=3)
        assert (near & (patient.labels == LABELS["portal vein"])).any()
        assert not patient.tumour.any()


def test_every_kind_of_mass_lies_in_the_region_and_has_its_brightness(patients):
    inside = {}
    for kind, patient in patients[0].items():
        assert {lesion.kind for lesion in patient.lesions[:1]} == {kind}
        region = pancreas.region(patient)
        assert region[patient.tumour].all()
        assert 0.005 < patient.tumour.sum() / region.sum() < 0.6
        near = ndimage.binary_dilation(patient.labels == LABELS["pancreas"], iterations=2)
        assert (near & patient.tumour).any()
        healthy = (patient.labels == LABELS["pancreas"]) & ~ndimage.binary_dilation(patient.tumour, iterations=2)
        core = ndimage.binary_erosion(patient.tumour)
        inside[kind] = np.median(patient.hu[core]) - np.median(patient.hu[healthy])
    assert inside["cyst"] < inside["adenocarcinoma"] < -5 < 5 < inside["neuroendocrine"]


def test_a_mass_that_closes_the_duct_widens_it_and_thins_the_gland_behind():
    index = Strata(0.5, 0.5, 0.5, MIDDLE_OF["adenocarcinoma"])
    found = [draw_obstruction(SPEC, np.random.default_rng(n), index) for n in range(400)]
    cuts = [cut for _, cut in found if cut is not None]
    assert 0.4 < len(cuts) / len(found) < 0.65
    assert all(cut.at == at for at, cut in found if cut is not None)
    assert min(cut.duct_mm for cut in cuts) >= 2.5 > SPEC.entry("pancreas.duct_radius_mm")["uniform"][1]
    cut = Obstruction(at=0.4, duct_mm=3.0, shrink=0.6, bile_mm=5.0)
    bare, thin = (draw_axis(SPEC, np.random.default_rng(0), given) for given in (None, cut))
    before, behind = bare.share < 0.4, bare.share > 0.5
    assert np.array_equal(thin.radius[before], bare.radius[before])
    assert (thin.radius[behind] < bare.radius[behind]).all()
    assert (thin.radius[behind] >= cut.duct_mm + 2.5).all()


def test_the_wide_duct_is_dark_and_belongs_to_the_pancreas_and_not_to_the_mass(monkeypatch):
    plan, index = SPEC.size("quick"), Strata(0.1, 0.2, 0.5, 0.3)
    scans = {}
    for cut in (None, Obstruction(at=0.45, duct_mm=4.0, shrink=1.0, bile_mm=0.0)):
        monkeypatch.setattr(pancreas, "draw_obstruction", lambda *_, cut=cut: (0.45, cut))
        scans[cut is None] = pancreas.make_patient(SPEC, plan, 4, style="msd", index=index)
    wide, usual = scans[False], scans[True]
    duct = (wide.hu - usual.hu.astype(int) < -25) & (wide.labels == LABELS["pancreas"])
    assert duct.sum() * np.prod(wide.spacing) > 300
    assert pancreas.region(wide)[duct].all()
    assert (duct & wide.tumour).sum() < 0.1 * duct.sum()
    assert np.array_equal(wide.tumour, usual.tumour)


def test_the_shares_of_the_kinds_are_those_of_the_specification():
    kinds = [kind_of(SPEC, stratum) for stratum in np.linspace(0, 1, 1001)]
    shares = [kinds.count(kind) / len(kinds) for kind in KINDS]
    assert shares == pytest.approx(SPEC.entry("tumours.kinds")["value"], abs=0.002)


def test_fat_between_the_lobules_grows_with_age():
    plan, medians = SPEC.size("smoke"), []
    for age in (30, 80):
        spec = parse_spec(spec_text("pancreas").replace("age: {uniform: [30, 85]", f"age: {{value: {age}"))
        found = [pancreas.make_patient(spec, plan, n, style="btcv") for n in range(3)]
        medians.append(np.mean([np.median(p.hu[p.labels == LABELS["pancreas"]]) for p in found]))
    assert medians[1] < medians[0] - 5
