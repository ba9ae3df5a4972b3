"""Lesion sets with another region of interest: what changes, what does not, and who counts them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.commands.listing import dataset_adapters
from uasbench.benchmark.planning.scans import Scans, other_lesions
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.case import Case, Trust
from uasbench.datasets.check import check
from uasbench.datasets.phantom.disk import write_phantom
from uasbench.datasets.phantom.predicted import lay_masks
from uasbench.datasets.regions.sets import (
    RADIUS_MM,
    CoronacasesDilated,
    CoronacasesEroded,
    CoronacasesPredicted,
    LiTSDilated,
    LiTSEroded,
    LiTSPredicted,
)
from uasbench.datasets.roi.lungs import segment_lungs
from uasbench.datasets.storing.store import Store, reading_source

LIVER, LUNG = (LiTSEroded, LiTSDilated, LiTSPredicted), (CoronacasesEroded, CoronacasesDilated, CoronacasesPredicted)
MASKS = arrays.arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3)).filter(np.any)
SPACINGS = st.tuples(*[st.floats(0.6, 7)] * 3)


@pytest.fixture(scope="module")
def livers(tmp_path_factory):
    root = tmp_path_factory.mktemp("livers")
    write_phantom(root, anatomy="liver", seed=3, size="smoke")
    lay_masks(root, LIVER)
    return root


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    root = tmp_path_factory.mktemp("chests")
    write_phantom(root, anatomy="lung", seed=3, size="smoke")
    return root


def _case(roi, spacing, trust=None):
    return Case("a", "a", np.zeros(roi.shape, np.float32), spacing, roi, trust=trust or Trust())


@given(MASKS, SPACINGS)
def test_eroded_lies_in_the_organ_and_the_organ_in_the_dilated_one(roi, spacing):
    case = _case(roi, spacing)
    less, more = LiTSEroded().changed(case), LiTSDilated().changed(case)
    assert not (less.roi & ~roi).any()
    assert not (roi & ~more.roi).any()
    for other in (less, more):
        unchanged = replace(other, roi=case.roi, roi_source=case.roi_source, notes=case.notes)
        assert all(getattr(unchanged, name) is getattr(case, name) for name in ("image", "spacing", "roi", "id"))


@given(MASKS, SPACINGS)
def test_the_ball_is_one_of_millimetres_whatever_the_voxels(roi, spacing):
    """SciPy's exact distances say the same, apart from voxels just at the radius."""
    case = _case(roi, spacing)
    outside = np.asarray(ndimage.distance_transform_edt(~roi, spacing))
    clear = np.abs(outside - RADIUS_MM) > 1e-3
    assert np.array_equal(LiTSDilated().changed(case).roi[clear], (outside <= RADIUS_MM)[clear])
    if not roi.all():
        inside = np.asarray(ndimage.distance_transform_edt(roi, spacing))
        clear = np.abs(inside - RADIUS_MM) > 1e-3
        assert np.array_equal(LiTSEroded().changed(case).roi[clear], (inside > RADIUS_MM)[clear])


@pytest.mark.parametrize("cls", [*LIVER, *LUNG])
def test_only_the_region_differs_from_the_whole_set_and_it_does_so_again(cls, livers, chests):
    root = livers if cls in LIVER else chests
    other, whole, again = cls(), cls.whole(), cls()
    refs, before = other.discover(root), whole.discover(root)
    again.discover(root)
    assert [(ref.id, ref.patient, ref.image) for ref in refs] == [(ref.id, ref.patient, ref.image) for ref in before]
    for ref in refs:
        case, known, twice = other.load(ref.id), whole.load(ref.id), again.load(ref.id)
        assert np.array_equal(case.image, known.image)
        assert (case.spacing, case.trust, case.patient) == (known.spacing, known.trust, known.patient)
        assert np.array_equal(other.load_truth(ref.id).lesion, whole.load_truth(ref.id).lesion)
        assert np.array_equal(case.roi, twice.roi)
        assert (case.roi_source, case.notes) == (twice.roi_source, twice.notes)
        assert case.roi_source != known.roi_source


def test_what_cannot_be_trusted_or_does_nothing_is_a_warning():
    roi = np.zeros((5, 12, 12), bool)
    roi[1:4, 2:10, 2:10] = True
    noted = LiTSEroded().changed(_case(roi, (1.0, 1.0, 1.0), Trust(spacing_trusted=False))).notes
    assert [note.level for note in noted] == ["warning"]
    assert "not trusted" in noted[0].text
    (unmoved,) = LiTSEroded().changed(_case(roi, (12.0, 6.0, 6.0))).notes
    assert "the voxels are too large" in unmoved.text
    assert LiTSEroded().changed(_case(roi, (1.0, 1.0, 1.0))).notes == ()


def test_an_organ_that_is_eroded_to_nothing_is_refused_with_the_way_out(tmp_path, put_lits_case, opened):
    put_lits_case(tmp_path, 1, spacing=(0.1, 0.1, 0.1))
    with pytest.raises(DataError, match=r"--exclude lits-eroded:volume-1"):
        opened(LiTSEroded, tmp_path).load("volume-1")


def test_predicted_lungs_come_from_the_scan_alone(chests, opened):
    other = opened(CoronacasesPredicted, chests)
    case = other.load(other.discover(chests)[0].id)
    assert np.array_equal(case.roi, segment_lungs(case.image, case.spacing))
    assert case.roi_source == "classical segmentation"


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAI"])
@pytest.mark.parametrize("lost", [False, True])
def test_laid_masks_are_placed_as_other_labels_are(tmp_path, put_lits_case, put_nifti, opened, codes, lost):
    """Under a sound header a mask may have axes of its own; where the header is lost it goes with its scan."""
    header = {"affine": np.eye(4)} if lost else {}
    scan = put_lits_case(tmp_path, 32, codes=codes, **header)
    organ = (scan.labels > 0).astype(np.uint8)
    organ[:2] = 0
    put_nifti(tmp_path / "rois/lits/volume-32.nii.gz", organ, codes=codes if lost else "RPS", **header)
    case = opened(LiTSPredicted, tmp_path).load("volume-32")
    assert np.array_equal(case.roi, organ > 0)
    assert np.array_equal(case.image, scan.image)
    assert case.roi_source == "mask file rois/lits/volume-32.nii.gz, maker unknown"


def test_masks_of_networks_that_know_lesions_count_whole_and_their_maker_is_named(tmp_path, put_lits_case, put_nifti):
    scan = put_lits_case(tmp_path, 1)
    put_nifti(tmp_path / "rois/lits/volume-1.nii.gz", scan.labels)
    (tmp_path / "rois/lits/source.txt").write_text("TotalSegmentator 2.4\nsecond line")
    dataset = LiTSPredicted()
    (ref,) = dataset.discover(tmp_path)
    assert {path.name for path in ref.extra} == {"volume-1.nii.gz", "source.txt"}
    case = dataset.load("volume-1")
    assert np.array_equal(case.roi, scan.labels > 0)
    assert case.roi_source.endswith("by TotalSegmentator 2.4")


def test_missing_masks_say_what_where_and_how(tmp_path, put_lits_case, put_nifti, opened):
    scan = put_lits_case(tmp_path, 1)
    put_lits_case(tmp_path, 2)
    wanted = r"rois/lits: no predicted liver masks.*such as volume-1\.nii\.gz.*TotalSegmentator"
    with pytest.raises(DataError, match=wanted):
        LiTSPredicted().discover(tmp_path)
    report = check(tmp_path, {"lits-predicted": LiTSPredicted()})
    assert any("no predicted liver masks" in error for error in report.errors)
    put_nifti(tmp_path / "rois/lits/volume-1.nii.gz", scan.labels)
    dataset = opened(LiTSPredicted, tmp_path)
    dataset.load("volume-1")
    with pytest.raises(DataError, match=r"volume-2\.nii\.gz: no predicted mask.*--exclude lits-predicted:volume-2"):
        dataset.load("volume-2")
    put_nifti(tmp_path / "rois/lits/volume-2.nii.gz", scan.labels * 5)
    with pytest.raises(DataError, match=r"volume-2\.nii\.gz.*5"):
        opened(LiTSPredicted, tmp_path).load("volume-2")


def test_laid_masks_are_no_scans_of_the_set(tmp_path, put_lits_case):
    put_lits_case(tmp_path, 1)
    (tmp_path / "rois/lits").mkdir(parents=True)
    shutil.copy(tmp_path / "volume-1.nii", tmp_path / "rois/lits/volume-1.nii")
    assert [ref.id for ref in LiTS().discover(tmp_path)] == ["volume-1"]


def test_sets_of_one_module_do_not_share_entries_of_the_store(livers, tmp_path):
    less, more = LiTSEroded(), LiTSDilated()
    found = [Store(tmp_path).prepare(one, one.discover(livers), truth=True) for one in (less, more)]
    assert reading_source(less) != reading_source(more)
    assert {case.path for case in found[0].cases}.isdisjoint(case.path for case in found[1].cases)
    truths = [[ref.fingerprint for ref in one.truths.values()] for one in found]
    assert truths[0] == truths[1]


def test_no_list_of_sets_counts_a_patient_twice(livers):
    cards = registry.datasets().cards()
    wrapping = {name: card for name, card in cards.items() if card.wraps}
    assert not wrapping.keys() & dataset_adapters().keys()
    regions = {name: card for name, card in wrapping.items() if card.role == "lesion"}
    assert regions.keys() == {cls.card.name for cls in (*LIVER, *LUNG)}
    for card in regions.values():
        of = cards[card.wraps]
        assert (card.partner, card.anatomy, card.reference, card.truth) == (
            of.partner,
            of.anatomy,
            of.reference,
            of.truth,
        )
    together = check(livers, dataset_adapters("lits,lits-eroded,lits-dilated"))
    assert together.ok
    assert not together.general_warnings


@pytest.mark.parametrize(
    ("target", "sought"),
    [
        ("msd-lung", set()),
        ("coronacases", {"radiopaedia"}),
        ("coronacases-eroded", {"radiopaedia"}),
        ("radiopaedia", {"coronacases"}),
        ("lits-predicted", {"msd-vessels"}),
    ],
)
def test_unseen_top_lines_learn_from_other_patients(target, sought):
    class Source:
        registry = registry.datasets()

        @staticmethod
        def scans_if_there(name):
            return Scans()

    looked = set(other_lesions(target, Source(), [], []).looked_for)  # pyright: ignore[reportArgumentType]
    assert sought <= looked
    cards = registry.datasets().cards()
    assert all(cards[name].finding == cards[target].finding for name in looked)
    assert not looked & {target, *(cls.card.name for cls in (*LIVER, *LUNG)), target.partition("-")[0]}


@pytest.mark.slow
def test_one_run_tests_all_regions_after_one_training(quick_run, livers, cache, tmp_path):
    sets = ["lits", *(cls.card.name for cls in LIVER)]
    options = {"data_root": livers, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    done = quick_run("hu-deviation", ",".join(sets), out=tmp_path / "run", **options)
    records = {record.cell.dataset: record for record in done.records}
    assert records.keys() == set(sets)
    assert len({record.ids.fit for record in records.values()}) == 1
    assert len({str(record.data.truth) for record in records.values()}) == 1
    assert set(done.tables.summary["dataset"]) == set(sets)
    source = records["lits-predicted"].data.roi_sources["volume-0"]
    assert "mistakes drawn for the phantom, seed 3" in source
    assert Coronacases.card.wraps is None
