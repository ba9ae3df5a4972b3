"""The lung phantom: what it writes, what a chest looks like, and how hard it is."""

import csv
from dataclasses import replace
from itertools import combinations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.luna16 import LUNA16
from uasbench.datasets.phantom.canvas import deformed_space
from uasbench.datasets.phantom.files import world, write_metaimage
from uasbench.datasets.phantom.lung import AIRWAY, LEFT, RIGHT, make_chest
from uasbench.datasets.phantom.lung_opacities import Burden
from uasbench.datasets.phantom.spec import read_spec
from uasbench.datasets.phantom.vessels import filled_share, grow, occupy

SPEC = read_spec("lung")
NAMES = ("COVID-19-CT-Seg_20cases", "Lung_Mask", "Infection_Mask")


@pytest.fixture(scope="module")
def quick():
    """One chest of every set at the size that tables use."""
    plan = SPEC.size("quick")
    return {
        "luna16": make_chest(SPEC, plan, 11, style="luna16"),
        "coronacases": make_chest(
            SPEC, plan, 12, style="coronacases", burden=Burden(extent=0.7, count=0.8, kind=0.5, glass=0.6)
        ),
    }


def coarse():
    """A grid between smoke and quick, for tests that need several chests."""
    return replace(SPEC.size("quick"), pixels=92, slices=30, spacing_mm=8.8)


def lung(patient):
    return (patient.labels == LEFT) | (patient.labels == RIGHT)


def read_lps(path):
    image = sitk.ReadImage(str(path))
    flips = [axis for axis, sign in enumerate(np.diag(np.reshape(image.GetDirection(), (3, 3)))[::-1]) if sign < 0]
    return np.flip(sitk.GetArrayFromImage(image), tuple(flips)), image


def test_layout_is_the_published_one(lung_root, smoke_chests, digests):
    expected = {"phantom.json", "luna16/annotations.csv"}
    for folder in ("subset0", "seg-lungs-LUNA16"):
        expected |= {f"luna16/{folder}/{uid}{end}" for uid in smoke_chests["luna16"] for end in (".mhd", ".raw")}
    expected |= {f"coronacases/{folder}/coronacases_{k:03d}.nii.gz" for folder in NAMES for k in (1, 2, 3)}
    assert set(digests(lung_root)) == expected


def test_luna_files_read_back_whichever_way_they_are_stored(lung_root, smoke_chests):
    directions = set()
    for uid, patient in smoke_chests["luna16"].items():
        stored, image = read_lps(lung_root / "luna16" / "subset0" / f"{uid}.mhd")
        labels, mask = read_lps(lung_root / "luna16" / "seg-lungs-LUNA16" / f"{uid}.mhd")
        assert np.array_equal(stored, patient.hu)
        assert np.allclose(image.GetSpacing()[::-1], patient.spacing, atol=1e-4)
        assert set(np.unique(labels).tolist()) == {0, 3, 4, 5}
        assert np.array_equal(labels == 3, patient.labels == LEFT)
        assert np.array_equal(labels == 5, patient.labels == AIRWAY)
        assert (image.GetOrigin(), image.GetDirection()) == (mask.GetOrigin(), mask.GetDirection())
        directions.add(image.GetDirection()[0])
    assert directions == {1.0, -1.0}


def test_corona_files_read_back_with_the_published_labels(lung_root, smoke_chests, as_lps):
    for case, patient in smoke_chests["coronacases"].items():
        image, mask, lesion = (lung_root / "coronacases" / name / f"{case}.nii.gz" for name in NAMES)
        assert "".join(nib.aff2axcodes(nib.load(image).affine)) == patient.scanner.orientation
        assert np.array_equal(as_lps(image), patient.hu)
        assert np.array_equal(as_lps(mask), np.where(lung(patient), patient.labels, 0))
        assert np.array_equal(as_lps(lesion) == 1, patient.lesion)
        assert set(np.unique(as_lps(mask)).tolist()) == {0, 1, 2}


def test_annotations_point_at_nodules_in_a_minority_of_scans(lung_root, smoke_chests):
    with (lung_root / "luna16" / "annotations.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        assert reader.fieldnames == ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    assert len({row["seriesuid"] for row in rows}) == SPEC.size("smoke").nodules
    for row in rows:
        image = sitk.ReadImage(str(lung_root / "luna16" / "subset0" / f"{row['seriesuid']}.mhd"))
        point = [float(row[f"coord{axis}"]) for axis in "XYZ"]
        x, y, z = image.TransformPhysicalPointToIndex(point)
        mask = sitk.ReadImage(str(lung_root / "luna16" / "seg-lungs-LUNA16" / f"{row['seriesuid']}.mhd"))
        assert mask[x, y, z] in (3, 4)
        assert 4 <= float(row["diameter_mm"]) <= 12
    assert sum(len(p.nodules) for p in smoke_chests["luna16"].values()) == len(rows)


def test_a_nodule_is_denser_than_its_surroundings():
    with_nodules, without = (
        make_chest(SPEC, coarse(), 5, style="luna16", nodules=nodules) for nodules in (True, False)
    )
    change = with_nodules.hu.astype(int) - without.hu
    assert -60 < change.min() < 15 < change.max()
    for nodule in with_nodules.nodules:
        z, y, x = np.rint(nodule.centre_mm).astype(int)
        assert np.abs(change[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3]).max() > 15


@pytest.mark.parametrize("orientation", ["LPS", "RPS", "LAS", "RAI"])
def test_metaimage_keeps_points_where_they_are(tmp_path, orientation):
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    spacing = (5.0, 2.0, 3.0)
    write_metaimage(tmp_path / "a.mhd", array, spacing, orientation=orientation)
    stored, image = read_lps(tmp_path / "a.mhd")
    assert np.array_equal(stored, array)
    point = world(np.array([3, 1, 4]), array.shape, spacing)
    assert image[image.TransformPhysicalPointToIndex(point.tolist())] == array[3, 1, 4]


def test_lungs_have_an_adult_volume_and_lie_on_their_sides(smoke_chests, quick):
    everyone = [p for group in smoke_chests.values() for p in group.values()] + list(quick.values())
    for patient in everyone:
        litres = [float((patient.labels == side).sum() * np.prod(patient.spacing) / 1e6) for side in (LEFT, RIGHT)]
        assert all(0.9 < volume < 3.5 for volume in litres)
        x_left, x_right = (np.nonzero(patient.labels == side)[2].mean() for side in (LEFT, RIGHT))
        assert x_left > x_right + 0.2 * patient.hu.shape[2]
        for side in (LEFT, RIGHT):
            parts = ndimage.sum_labels(patient.labels == side, *ndimage.label(patient.labels == side))
            assert np.max(parts) > 0.95 * np.sum(parts)


def test_organs_vary_between_patients(smoke_chests, smoke_patients):
    livers = [patient.labels == 6 for group in smoke_patients.values() for patient in group]
    for organs, least in (([lung(p) for p in smoke_chests["luna16"].values()], 0.6), (livers, 0.5)):
        for a, b in combinations(organs, 2):
            assert least < 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.97


def test_healthy_parenchyma_is_darker_in_front(quick):
    patient = quick["luna16"]
    assert not patient.lesion.any()
    vessels = ndimage.binary_dilation(patient.vessels, iterations=2)
    inner = ndimage.binary_erosion(lung(patient), iterations=2) & ~vessels
    y, values = np.nonzero(inner)[1], patient.hu[inner]
    front, back = (np.median(values[part]) for part in (y < np.quantile(y, 0.2), y > np.quantile(y, 0.8)))
    assert -940 < front < -820
    assert 25 < back - front < 320


def test_vessels_and_airways_stand_out_among_bone_soft_tissue_and_air_outside(quick):
    for patient in quick.values():
        inside = lung(patient) & ~patient.lesion
        assert (patient.vessels & inside).sum() > 300
        assert patient.hu[patient.vessels & inside].mean() > -350
        plain = np.median(patient.hu[ndimage.binary_erosion(inside, iterations=2)])
        assert patient.airways.sum() > 10
        assert patient.hu[patient.airways].mean() < plain + 160
        trachea = patient.labels == AIRWAY
        assert np.percentile(patient.hu[trachea], 20) < -900
        assert int(patient.hu.min()) in (-2000, -1024)
        share = [float((patient.hu > 250).mean()), float(((patient.hu > -50) & (patient.hu < 120)).mean())]
        assert 0.002 < share[0] < 0.05
        assert 0.15 < share[1] < 0.5


def test_opacities_lie_in_the_lung_and_are_whole_lobules(smoke_chests, quick):
    for patient in [*smoke_chests["coronacases"].values(), quick["coronacases"]]:
        inside = lung(patient)
        assert patient.lesion.any()
        assert not (patient.lesion & ~inside).any()
        assert patient.lesion.sum() == sum(opacity.voxels for opacity in patient.opacities)
        assert not set(patient.lobules[patient.lesion]) & set(patient.lobules[inside & ~patient.lesion])
        assert 0.015 < patient.lesion.sum() / inside.sum() < 0.2
        for opacity in patient.opacities:
            assert opacity.kind == "consolidation" or -700 <= opacity.hu <= -300
            assert opacity.voxels == 0 or -800 < opacity.mean_hu < 160


@pytest.fixture(scope="module")
def ill():
    """The foci of four patients whose first kinds differ."""
    found = {}
    for kind in (0.1, 0.55, 0.7, 0.88):
        burden = Burden(extent=0.9, count=0.3, kind=kind, glass=0.5)
        for opacity in make_chest(SPEC, coarse(), 21, style="coronacases", burden=burden).opacities:
            if opacity.volume_ml > 8:
                found.setdefault(opacity.kind, []).append(opacity.mean_hu)
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def test_measured_hu_follow_the_kind(ill):
    assert -750 < ill["glass"] < -480
    assert -750 < ill["paving"] < -350
    assert ill["glass"] + 100 < ill["halo"] < ill["consolidation"]
    assert -300 < ill["consolidation"] < 60


def test_fluid_replaces_air_so_vessels_run_through_and_borders_are_soft():
    sick = make_chest(SPEC, coarse(), 24, style="coronacases", burden=Burden(0.9, 0.3, 0.0, 0.9))
    well = make_chest(SPEC, coarse(), 24, style="coronacases")
    dense = (well.hu > -450) & sick.lesion
    assert (dense & sick.vessels).sum() > 3
    change = sick.hu.astype(int) - well.hu
    assert change[dense].mean() < 0.7 * change[sick.lesion & ~dense].mean()
    assert np.corrcoef(change[sick.lesion], well.hu[sick.lesion])[0, 1] < -0.1
    rim = ndimage.binary_dilation(sick.lesion) & ~sick.lesion & lung(sick)
    core = ndimage.binary_erosion(sick.lesion)
    assert 10 < change[rim].mean() < 0.7 * change[core].mean()
    far = ~ndimage.binary_dilation(sick.lesion, iterations=8)
    assert np.abs(change[far]).max() <= 2


def test_healthy_lungs_have_what_a_threshold_takes_for_ground_glass(smoke_chests, quick):
    """Shares of lung above the HU of ground glass, and a patient mean that differs by more than faint glass raises."""
    everyone = [*smoke_chests["luna16"].values(), quick["luna16"]]
    share = [float((p.hu[ndimage.binary_erosion(lung(p))] > -700).mean()) for p in everyone]
    assert 0.05 < np.mean(share) < 0.4
    means = [
        np.median(p.hu[lung(p)]) for p in (make_chest(SPEC, SPEC.size("smoke"), s, style="luna16") for s in range(6))
    ]
    assert np.ptp(means) > 60


def test_opacities_prefer_the_pleura_the_back_and_the_base():
    opacities = []
    for seed, burden in enumerate(Burden.strata(np.random.default_rng(0), 30)):
        patient = make_chest(SPEC, SPEC.size("smoke"), 500 + seed, style="coronacases", burden=burden)
        opacities += patient.opacities
    _, y, z = np.mean([opacity.centre_mm for opacity in opacities], axis=0)
    assert z < -5 < 5 < y
    assert 0.6 < np.mean([opacity.peripheral for opacity in opacities]) < 0.95


def test_styles_differ_and_orientations_take_turns(smoke_chests):
    noise = {name: np.mean([p.scanner.noise for p in group.values()]) for name, group in smoke_chests.items()}
    assert noise["coronacases"] > noise["luna16"] + 4
    assert [p.scanner.orientation for p in smoke_chests["luna16"].values()] == ["LPS", "RAS", "LPS"]
    for group in smoke_chests.values():
        for patient in group.values():
            assert patient.noise[lung(patient)].std() == pytest.approx(patient.scanner.noise, rel=0.2)


def test_adapters_read_the_phantom(lung_root, smoke_chests):
    healthy, sick = LUNA16(), Coronacases()
    assert {ref.id for ref in healthy.discover(lung_root)} == set(smoke_chests["luna16"])
    assert {ref.id for ref in sick.discover(lung_root)} == set(smoke_chests["coronacases"])
    for uid, patient in smoke_chests["luna16"].items():
        case = healthy.load(uid)
        inside = lung(patient)
        assert not (case.roi & ~inside).any()
        lost = inside.any((1, 2)) & ~case.roi.any((1, 2))
        assert lost.any() == bool(patient.nodules)
        assert all(lost[round(nodule.centre_mm[0])] for nodule in patient.nodules)
        assert np.array_equal(case.image[inside], patient.hu[inside])
        assert np.allclose(case.spacing, patient.spacing, atol=1e-4)
    for name, patient in smoke_chests["coronacases"].items():
        case, truth = sick.load(name), sick.load_truth(name)
        assert np.array_equal(case.roi, lung(patient))
        assert np.array_equal(case.image, patient.hu)
        assert truth.lesion is not None
        assert np.array_equal(truth.lesion, patient.lesion)


def test_compiled_pipes_are_the_vessels_of_the_reference():
    rng = np.random.default_rng(0)
    space = deformed_space(rng, 8, 48, (9.0, 5.0, 5.0))
    ends = rng.uniform(-50, 50, (30, 3)) * (1, 1, 0.5)
    tree = grow(rng, [(0, 0, -30), (0, 0, 0)], [(20, 0, 10)], ends, root_radius=6, leaf_radius=0.6, exponent=3.0)
    expected = occupy(space, tree)[0]
    assert expected.max() == 1
    assert np.allclose(filled_share(space, tree), expected, atol=1e-5)
