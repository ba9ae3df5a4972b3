"""Lesions and components of a mask matched one to one, FROC, strata."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.benchmark.scoring.detection import (
    CONTRAST_BINS,
    CURVE_RATES,
    FROC_RATES,
    VOLUME_BINS,
    LesionWise,
    match,
)
from uasbench.benchmark.scoring.lesions import Components
from uasbench.benchmark.scoring.metrics import METRICS, NO_LESION, Undefined, computed

SHAPE = (6, 14, 14)
seeds = st.integers(0, 2**32 - 1)


def blobs(seed: int, share: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 0.8)
    return noise > np.quantile(noise, 1 - share)


def lesion_wise(truth, mask, map_=None, ml=None, contrast=None) -> LesionWise:
    lesions = Components.of(truth)
    given = (np.ones(len(lesions)) if values is None else np.array(values, float) for values in (ml, contrast))
    return LesionWise.of(lesions, Components.of(mask), mask.astype(np.float32) if map_ is None else map_, *given)


def values(lesions: LesionWise) -> dict:
    return {metric.id: value for metric, value in computed("lesions", lesions, "pooled")}


def box(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """One slice with rectangles: rows and columns, from and to."""
    out = np.zeros((1, 20, 20), bool)
    for top, bottom, left, right in corners:
        out[0, top:bottom, left:right] = True
    return out


@given(seeds, seeds, st.floats(0.02, 0.3), st.floats(0.02, 0.5))
def test_what_is_found_is_what_panoptica_matches(one, two, share, called):
    panoptica = pytest.importorskip("panoptica", reason="just peers lays it beside the environment")
    truth, mask = blobs(one, share), blobs(two, called)
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.1),
        instance_metrics=[panoptica.Metric.IOU],
        global_metrics=[],
    )
    theirs = evaluator.evaluate(mask.astype(np.uint8), truth.astype(np.uint8), verbose=False)["ungrouped"]
    found = values(lesion_wise(truth, mask))
    assert found["lesion_recall"] == pytest.approx(theirs.tp / (theirs.tp + theirs.fn))
    assert found["lesion_fp"] == theirs.fp
    assert found["lesion_f1"] == pytest.approx(theirs.rq)


@given(seeds, seeds, st.floats(0.02, 0.3), st.floats(0.02, 0.5))
def test_pairs_are_those_of_a_table_of_overlaps(one, two, share, called):
    truth, parts = Components.of(blobs(one, share)), Components.of(blobs(two, called))
    whole = [np.zeros(SHAPE, int) for _ in range(2)]
    for out, part in zip(whole, (truth, parts), strict=True):
        out[part.box] = part.labels
    iou = np.zeros((len(truth), len(parts)))
    for k, j in product(range(len(truth)), range(len(parts))):
        a, b = whole[0] == k + 1, whole[1] == j + 1
        iou[k, j] = (a & b).sum() / (a | b).sum()
    by, dice = match(truth, parts, np.zeros(len(parts)))
    for k in range(len(truth)):
        a = whole[0] == k + 1
        touching = np.isin(whole[1], np.setdiff1d(whole[1][a], [0]))
        assert dice[k] == pytest.approx(2 * (a & touching).sum() / (a.sum() + touching.sum()))
        assert by[k] < 0 or iou[k, by[k]] >= 0.1
    used = by[by >= 0]
    assert len(set(used)) == len(used)
    free = np.setdiff1d(np.arange(len(parts)), used)
    assert iou[np.ix_(by < 0, free)].max(initial=0.0) < 0.1


@given(seeds, st.floats(0.02, 0.5))
def test_the_truth_as_mask_is_the_best(seed, share):
    truth = blobs(seed, share)
    best = {"lesion_f1": 1.0, "lesion_recall": 1.0, "lesion_fp": 0.0, "lesion_dice": 1.0, "froc": 1.0}
    assert values(lesion_wise(truth, truth)) == best


@given(seeds, seeds, st.floats(0.02, 0.5), st.sampled_from([*product((1, -1), repeat=3)]))
def test_numbers_lie_in_their_range_and_flips_change_nothing(one, two, called, signs):
    flip = tuple(slice(None, None, sign) for sign in signs)
    truth, mask = blobs(one, 0.1), blobs(two, called)
    map_ = np.random.default_rng(one).random(SHAPE).astype(np.float32)
    found = values(lesion_wise(truth, mask, map_))
    assert all(value >= 0 for value in found.values())
    assert all(found[name] <= 1 for name in found if METRICS[name].unit == "share")
    assert values(lesion_wise(truth[flip], mask[flip], map_[flip])) == pytest.approx(found)


def test_one_component_finds_one_lesion_and_a_touched_voxel_is_not_enough():
    truth = box((0, 6, 0, 6), (0, 6, 8, 14), (10, 16, 0, 6))
    # The first rectangle covers two lesions, the second a corner of the third, the last finds nothing.
    mask = box((0, 6, 0, 14), (15, 20, 5, 10), (18, 20, 15, 18))
    found = lesion_wise(truth, mask)
    assert list(found.found) == [True, False, False]
    assert len(found.false) == 2
    assert found.dice == pytest.approx([72 / 120, 72 / 120, 2 / 61])
    assert values(found)["lesion_f1"] == pytest.approx(2 / (2 + 2 + 2))


def test_calling_everything_finds_nothing():
    truth = np.zeros((6, 40, 40), bool)
    truth[2:4, 3:9, 3:9] = True
    found = values(lesion_wise(truth, np.ones(truth.shape, bool)))
    assert found == {"lesion_f1": 0, "lesion_recall": 0, "lesion_fp": 1, "lesion_dice": pytest.approx(144 / 9672),
                     "froc": 0}  # fmt: skip


def test_without_a_lesion_there_is_no_rate_but_false_components_count():
    empty = np.zeros(SHAPE, bool)
    found = values(lesion_wise(empty, blobs(3, 0.1)))
    assert found.pop("lesion_fp") == len(Components.of(blobs(3, 0.1)))
    assert set(found.values()) == {Undefined(NO_LESION)}
    none = values(lesion_wise(blobs(3, 0.1), empty))
    assert none == {"lesion_f1": 0, "lesion_recall": 0, "lesion_fp": 0, "lesion_dice": 0, "froc": 0}


def by_thresholds(hits: np.ndarray, false: np.ndarray, cases: int, rate: float) -> float:
    """The best recall of all thresholds that leave at most ``rate`` false components per scan."""
    levels = [-np.inf, *hits, *false]
    allowed = [t for t in levels if (false > t).sum() <= rate * cases]
    return max((float((hits > t).mean()) for t in allowed), default=0.0)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), max_size=40),
    st.integers(0, 4),
    st.integers(1, 5),
)
def test_froc_is_that_of_every_threshold(hits, false, missed, cases):
    scores = np.array([*hits, *[-np.inf] * missed], float)
    blank = np.zeros(len(scores))
    lesions = LesionWise(scores, blank, blank, blank, np.array(false, float), cases)
    expected = [by_thresholds(scores, lesions.false, cases, rate) for rate in CURVE_RATES]
    rates, recalls = zip(*lesions.curve(), strict=True)
    assert rates == CURVE_RATES
    assert recalls == pytest.approx(expected)
    assert list(recalls) == sorted(recalls)
    froc = [by_thresholds(scores, lesions.false, cases, rate) for rate in FROC_RATES]
    assert values(lesions)["froc"] == pytest.approx(np.mean(froc))


def test_a_component_has_its_highest_score():
    truth, mask = box((0, 6, 0, 6)), box((0, 6, 0, 6), (10, 16, 10, 16))
    map_ = mask.astype(np.float32)
    map_[0, 2, 2], map_[0, 12, 12] = 5, 3
    found = lesion_wise(truth, mask, map_)
    assert (found.scores, found.false) == ([5], [3])


def test_lesions_fall_into_one_bin_each_of_volume_and_of_contrast():
    for bins in (VOLUME_BINS, CONTRAST_BINS):
        edges = np.array([part.low for part in bins])
        assert [part.high for part in bins] == [*edges[1:], np.inf]
        assert (sum(part.holds(np.array([0.0, *edges, 1e9])) for part in bins) == 1).all()
        assert not any(part.holds(np.array([np.nan])).any() for part in bins)
    ml, contrast = np.array([0.1, 5.0, 5.0, 50.0]), np.array([0.5, np.nan, 3.0, 3.0])
    scores, dice = np.array([-np.inf, 1.0, -np.inf, 1.0]), np.array([0.0, 0.6, 0.2, 0.8])
    lesions = LesionWise(scores, dice, ml, contrast, np.empty(0))
    found = {metric.id: value for metric, value in computed("strata", lesions, "pooled")}
    assert found["lesion_recall_below_1ml"] == 0
    assert (found["lesion_recall_1_to_10ml"], found["lesion_dice_1_to_10ml"]) == (0.5, pytest.approx(0.4))
    assert (found["lesion_recall_from_10ml"], found["lesion_dice_from_10ml"]) == (1, pytest.approx(0.8))
    assert (found["lesion_recall_from_2sd"], found["lesion_dice_from_2sd"]) == (0.5, pytest.approx(0.5))
    assert isinstance(found["lesion_dice_1_to_2sd"], Undefined)
    assert len(found) == 2 * (len(VOLUME_BINS) + len(CONTRAST_BINS))


STRATA = {
    "ml": {"below_1ml": (0, 1), "1_to_10ml": (1, 10), "from_10ml": (10, np.inf)},
    "contrast": {"below_1sd": (0, 1), "1_to_2sd": (1, 2), "from_2sd": (2, np.inf)},
}
amounts = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0]), st.floats(0, 50))


@given(st.lists(st.tuples(seeds, st.floats(0.02, 0.3), st.floats(0.02, 0.5)), min_size=1, max_size=3), st.data())
def test_strata_are_those_of_a_search_lesion_by_lesion(cases, data):
    parts, all_lesions = [], []
    for seed, share, called in cases:
        truth, mask = blobs(seed, share), blobs(seed // 2, called)
        number, whole = len(Components.of(truth)), lesion_wise(truth, mask)
        columns = {"ml": amounts, "contrast": st.one_of(amounts, st.just(np.nan))}
        facts = {name: data.draw(st.lists(of, min_size=number, max_size=number)) for name, of in columns.items()}
        parts.append(lesion_wise(truth, mask, **facts))
        all_lesions += [
            {"recall": bool(whole.found[k]), "dice": whole.dice[k], **{name: facts[name][k] for name in facts}}
            for k in range(number)
        ]
    found = {metric.id: value for metric, value in computed("strata", LesionWise.joined(parts), "pooled")}
    for kind, bins in STRATA.items():
        for name, (low, high) in bins.items():
            chosen = [lesion for lesion in all_lesions if low <= lesion[kind] < high]
            for value in ("recall", "dice"):
                ours = found.pop(f"lesion_{value}_{name}")
                assert isinstance(ours, Undefined) == (not chosen)
                assert not chosen or ours == pytest.approx(sum(lesion[value] for lesion in chosen) / len(chosen))
    assert not found


def test_cases_are_put_together():
    parts = [lesion_wise(blobs(k, 0.1), blobs(k + 9, 0.2)) for k in range(3)]
    joined = values(LesionWise.joined(parts))
    found, number = sum(int(p.found.sum()) for p in parts), sum(map(len, parts))
    assert joined["lesion_recall"] == pytest.approx(found / number)
    assert joined["lesion_fp"] == pytest.approx(np.mean([len(p.false) for p in parts]))
