"""The pictures of a cell: which cases and slices are shown, and what a gallery file holds."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.protocols.measuring import MeasureOptions, measure
from uasbench.benchmark.runs.records import CaseFacts, Threshold
from uasbench.benchmark.scoring.cases import ArrayCase, CaseReader
from uasbench.benchmark.scoring.pictured_series import DENSE, GAP, MISSED, SERIES, errors, from_easy_to_hard, series
from uasbench.benchmark.scoring.pictured_slices import Decisions
from uasbench.datasets.case import Case, Truth

SHAPE, SPACING = (8, 16, 16), (2.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Shown(ArrayCase):
    """A case whose method also made twice the image of it."""

    def restored(self):
        yield "doubled", (2 * self.scan.image).astype(np.float32)


def block(*where):
    found = np.zeros(SHAPE, bool)
    for part in where:
        found[part] = True
    return found


def scan(name, lesion, marked, hu=-300.0, organ=-700.0, kind=Shown, mask=None):
    """Return a case whose organ is all but the border, and whose map is 1 where something is marked."""
    roi = block((slice(1, 7), slice(1, 15), slice(1, 15)))
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    image = (np.where(lesion, hu, organ) + noise).astype(np.float32)
    truth = Truth(name, lesion, lesion.any(axis=(1, 2)))
    return kind(Case(name, name, image, SPACING, roi), marked.astype(np.float32), truth, mask)


LARGE = block((slice(2, 6), slice(2, 8), slice(2, 8)))
SMALL = block((slice(3, 4), slice(10, 12), slice(10, 12)))
NONE = block()


def decisions(*cases, threshold=0.5, own=False):
    of = {case.id: Threshold(protocol="native", threshold=threshold, patients=[case.id]) for case in cases}
    return Decisions(CaseReader(cases, 1 << 20), of, own)


def facts(ml, contrast, noise=10.0):
    return CaseFacts(
        slices=6, lesion_slices=2, spacing=SPACING, organ_ml=1.0, lesion_ml=ml, contrast_hu=contrast, noise_hu=noise
    )


def test_large_lesions_of_high_contrast_come_first_and_scans_without_a_lesion_not_at_all():
    found = {"dim": facts(2, 20), "easy": facts(9, -90), "tiny": facts(0.1, 5), "healthy": facts(0, None)}
    assert from_easy_to_hard(found) == ["easy", "dim", "tiny"]


@given(st.lists(st.tuples(st.floats(0.01, 99), st.floats(1, 99)), min_size=1, max_size=12))
def test_a_case_that_is_larger_and_clearer_is_never_harder(values):
    found = {f"c{i}": facts(*value) for i, value in enumerate(values)}
    order = from_easy_to_hard(found)
    for harder, one in enumerate(order):
        for other in order[:harder]:
            a, b = found[one], found[other]
            assert not (a.lesion_ml > b.lesion_ml and a.contrast_hu > b.contrast_hu)


def test_the_series_spans_easy_to_hard_whatever_the_maps_say():
    cases = [scan(f"c{i}", LARGE if i % 2 else SMALL, NONE) for i in range(9)]
    of = {case.id: facts(9.0 - i, 90 - i) for i, case in enumerate(cases)}
    shown = series(decisions(*cases), of)
    assert [one.case for one in shown] == [0, 2, 4, 6, 8]
    assert [one.name for one in shown] == [f"{SERIES}-{k}" for k in range(1, 6)]
    assert len(series(decisions(*cases[:2]), {k: of[k] for k in ("c0", "c1")})) == 2
    assert series(decisions(*cases, threshold=None), of) == []


def test_the_largest_parts_that_were_missed_and_false_are_named_with_what_they_are():
    wrong = block((slice(2, 4), slice(10, 14), slice(2, 6)), (slice(5, 6), slice(12, 13), slice(12, 13)))
    cases = [scan("a", LARGE | SMALL, SMALL | wrong), scan("b", LARGE, LARGE), scan("c", NONE, SMALL, hu=0.0)]
    shown, told = errors(decisions(*cases), dim_below=-500.0)
    found = {one.name: one for one in shown}
    assert set(found) == {f"{MISSED}-1", f"{DENSE}-1", f"{DENSE}-2"}
    missed, false = found[f"{MISSED}-1"], found[f"{DENSE}-1"]
    assert (missed.case, missed.told["slices"], missed.told["ml"]) == (0, 4, pytest.approx(144 * 2 / 1000))
    assert missed.told["hu"] == pytest.approx(-300, abs=5)
    assert (false.case, false.told["slices"], false.told["ml"]) == (0, 2, pytest.approx(32 * 2 / 1000))
    assert 1 <= false.z <= 2  # slices of the crop
    assert (told["missed_ml"], told["false_ml"]) == (pytest.approx(0.288), pytest.approx((33 + 4) * 2 / 1000))
    assert (told["dim_share_of_missed"], told["missed_share_of_dim"]) == (0, None)
    assert told["missed_share_of_bright"] == pytest.approx(144 / (144 + 4 + 144))
    assert "dim_below_hu" not in errors(decisions(*cases))[1]


def test_false_parts_stand_apart_by_how_far_apart_slices_lie_that_were_trained_on():
    cases = [scan("a", NONE, SMALL), scan("b", NONE, LARGE)]
    thick = replace(cases[1], scan=replace(cases[1].scan, spacing=(5.0, 1.0, 1.0)))

    def kinds(trained):
        shown, told = errors(decisions(cases[0], thick), trained_slice_mm=trained)
        return {one.name: one.case for one in shown}, told.get("gap_ml")

    assert kinds(2.0) == ({f"{DENSE}-1": 0, f"{GAP}-1": 1}, pytest.approx(144 * 5 / 1000))
    assert kinds(1.0)[0] == {f"{GAP}-1": 1, f"{GAP}-2": 0}
    assert kinds(5.0) == ({f"{DENSE}-1": 1, f"{DENSE}-2": 0}, 0)
    assert kinds(None) == (kinds(5.0)[0], None)


def test_dim_lesions_are_counted_apart():
    cases = [scan("a", LARGE, NONE, hu=-650.0), scan("b", LARGE, LARGE)]
    told = errors(decisions(*cases), dim_below=-500.0)[1]
    assert (told["dim_share_of_lesion"], told["dim_share_of_missed"], told["missed_share_of_dim"]) == (0.5, 1, 1)


def test_the_methods_own_mask_decides_where_it_has_one():
    case = scan("a", LARGE, NONE, mask=LARGE)
    assert errors(decisions(case, own=True))[1]["missed_ml"] == 0
    assert errors(decisions(case))[1]["missed_ml"] > 0


@pytest.mark.parametrize(("kept", "native"), [(False, None), (True, None), (True, 0.5)])
def test_a_gallery_holds_the_series_and_what_the_method_made_where_that_is_kept(tmp_path, kept, native):
    cases = [scan(f"c{i}", LARGE, LARGE if i else SMALL, organ=-700.0 - i) for i in range(4)]
    options = MeasureOptions(
        trials=2, anatomy="lung", gallery_path=tmp_path / "g.npz", series=kept, native_threshold=native
    )
    measure(cases, [], options)
    with np.load(tmp_path / "g.npz") as stored:
        meta = json.loads(str(stored["meta"]))
        names = {name.partition("/")[0] for name in stored.files} - {"meta"}
        best = stored["best/restored/0"]
        z, case = meta["best"]["z"], meta["best"]["case"]
    scans = {case.id: case.scan.image for case in cases}
    np.testing.assert_array_equal(best, 2 * scans[case][z])
    assert meta["best"]["restored"] == ["doubled"]
    assert {"best", "median", "worst"} == {n for n in names if "-" not in n}
    assert any(n.startswith(SERIES) for n in names) == kept
    assert ("errors" in meta) == kept
    if kept:
        assert meta[f"{SERIES}-1"]["protocol"] == ("native" if native else "val")
        assert meta["errors"]["missed_ml"] > 0


def test_a_set_without_a_lesion_has_an_empty_gallery(tmp_path):
    cases = [scan(f"c{i}", NONE, SMALL) for i in range(3)]
    measure(cases, [], MeasureOptions(trials=2, gallery_path=tmp_path / "g.npz", series=True))
    with np.load(tmp_path / "g.npz") as stored:
        meta = json.loads(str(stored["meta"]))
    assert list(meta) == ["errors"]
