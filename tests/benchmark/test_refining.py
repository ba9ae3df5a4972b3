"""SAM's answers in place of parts of a thresholded map: which are asked for, which are kept, and from what."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.refinement.prompts import PROMPTS, MarkedSlice, prompts
from uasbench.benchmark.refinement.refining import Healthy, refine, to_bytes

SHAPE = (4, 40, 50)
HEALTHY = Healthy(threshold=1.0, lowest=0.0)


class Discs:
    """Answers with a disc around each point, and remembers what it was shown and asked."""

    def __init__(self, radius: float = 3.0, iou: float = 0.9) -> None:
        self.radius, self.iou = radius, iou
        self.seen: list[np.ndarray] = []
        self.points: list[tuple[float, float]] = []
        self.boxes: list[tuple[float, ...]] = []

    def look(self, pixels):
        self.seen.append(pixels)

    def predict(self, points, boxes):
        self.points += [tuple(map(float, point)) for point in points]
        self.boxes += [] if boxes is None else [tuple(map(float, box)) for box in boxes]
        y, x = np.mgrid[: self.seen[-1].shape[0], : self.seen[-1].shape[1]]
        discs = [(x - px) ** 2 + (y - py) ** 2 <= self.radius**2 for px, py in points]
        return np.array(discs), np.full(len(points), self.iou, np.float32)


@pytest.fixture
def case():
    """Two lesions in slice 1, one of which goes on in slice 2, in a region that leaves out the right end."""
    roi = np.zeros(SHAPE, bool)
    roi[:, 2:38, 2:40] = True
    scores = np.zeros(SHAPE, np.float32)
    scores[1:3, 10:15, 8:14] = 2.0
    scores[1, 12, 9] = 5.0
    scores[2, 14, 13] = 4.0
    scores[1, 28:32, 30:34] = 3.0
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    return pixels, roi, scores


def test_each_component_is_asked_for_at_its_highest_score_and_in_its_box(case):
    predictor = Discs()
    found = refine(*case, HEALTHY, predictor, "sam")
    assert predictor.points == [(9.0, 12.0), (30.0, 28.0), (13.0, 14.0)]
    # Columns 8 to 13 and rows 10 to 14: a tenth of 6 and of 5 pixels wider.
    assert predictor.boxes[0] == pytest.approx((7.4, 9.5, 13.6, 14.5))
    assert predictor.boxes[2] == predictor.boxes[0]
    assert (found.asked, found.kept) == (3, 3)
    assert len(predictor.seen) == 2  # slices without a voxel above the threshold are not shown
    assert np.array_equal(predictor.seen[0], case[0][1])
    y, x = np.mgrid[:40, :50]
    discs = ((x - 9) ** 2 + (y - 12) ** 2 <= 9) | ((x - 30) ** 2 + (y - 28) ** 2 <= 9)
    assert np.array_equal(found.mask[1], discs)
    assert not found.mask[[0, 3]].any()


def test_a_box_ends_at_the_edge_of_the_slice():
    labels = np.zeros((20, 30), int)
    labels[0:10, 10:30] = 1
    (asked,) = prompts("sam", MarkedSlice(0, labels.astype(np.float32), labels > 0, labels, 0.0, 0))
    assert asked.box == (8.0, 0.0, 29.0, 10.0)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_map_that_is_nowhere_above_the_threshold_gives_an_empty_mask(case, prompt):
    pixels, roi, scores = case
    predictor = Discs()
    found = refine(pixels, roi, np.minimum(scores, 1.0), HEALTHY, predictor, prompt)
    assert not found.mask.any()
    assert not predictor.seen
    outside = np.where(roi, 0, np.float32(9))
    assert not refine(pixels, roi, outside, HEALTHY, predictor, prompt).mask.any()


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(
    ("radius", "iou"),
    [(3.0, 0.69), (40.0, 0.99), (-1.0, 0.99), (3.0, float("nan"))],
    ids=["unsure", "too large", "empty", "no number"],
)
def test_an_answer_that_is_not_trusted_leaves_the_map_as_it_was(case, prompt, radius, iou):
    pixels, roi, scores = case
    predictor = Discs(radius=0.5, iou=iou) if radius < 0 else Discs(radius, iou)
    if radius < 0:
        predictor.predict = lambda points, boxes: (np.zeros((len(points), 40, 50), bool), np.full(len(points), iou))
    found = refine(pixels, roi, scores, HEALTHY, predictor, prompt)
    assert np.array_equal(found.mask, (scores > 1) & roi)
    assert found.kept == 0 < found.asked


@pytest.mark.parametrize(("pixels_of_mask", "kept"), [(64, True), (65, False)])
def test_an_answer_may_be_four_times_as_large_as_its_part(pixels_of_mask, kept):
    scores = np.zeros((1, 20, 20), np.float32)
    scores[0, 5:9, 5:9] = 2
    answer = np.zeros((1, 20, 20), bool)
    answer.reshape(-1)[:pixels_of_mask] = True

    class Fixed(Discs):
        def predict(self, points, boxes):
            return answer, np.array([0.7], np.float32)

    roi = np.ones((1, 20, 20), bool)
    found = refine(np.zeros((1, 20, 20), np.uint8), roi, scores, HEALTHY, Fixed(), "sam")
    assert found.kept == kept
    assert np.array_equal(found.mask, answer if kept else scores > 1)


@pytest.mark.parametrize("prompt", PROMPTS)
@given(seed=st.integers(0, 2**31), radius=st.floats(1, 12))
def test_nothing_reaches_beyond_the_region_or_into_slices_without_a_part(prompt, seed, radius):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 16, 18)).astype(np.float32)
    roi = rng.random((3, 16, 18)) < 0.7
    scores[2] = 0
    found = refine(np.zeros(roi.shape, np.uint8), roi, scores, HEALTHY, Discs(radius), prompt, seed)
    assert not (found.mask & ~roi).any()
    assert not found.mask[~((scores > 1) & roi).any(axis=(1, 2))].any()


def test_controls_do_not_see_where_the_map_is_high(case):
    pixels, roi, scores = case
    moved = np.where(scores > 1, scores[:, ::-1, ::-1] + 2 * scores.max() - scores, scores)
    for prompt in ("sam-centre", "sam-random"):
        one, other = Discs(), Discs()
        refine(pixels, roi, scores, HEALTHY, one, prompt, 3)
        refine(pixels, roi, moved, HEALTHY, other, prompt, 3)
        assert one.points == other.points
        assert not one.boxes
        assert len(one.points) == 2  # one for each slice that has a part
        assert all(roi[0, int(y), int(x)] for x, y in one.points)
    changed = Discs()
    refine(pixels, roi, moved, HEALTHY, changed, "sam")
    assert changed.points[0] != (9.0, 12.0)


def test_the_centre_lies_in_the_region_where_that_has_two_parts():
    roi = np.zeros((30, 41), bool)
    roi[10:20, 2:10] = roi[10:20, 32:40] = True
    labels = np.zeros(roi.shape, int)
    labels[12, 4] = 1
    (asked,) = prompts("sam-centre", MarkedSlice(0, labels.astype(np.float32), roi, labels, 0.0, 0))
    assert asked.point in {(9.0, 14.0), (9.0, 15.0), (32.0, 14.0), (32.0, 15.0)}


def test_drawn_points_follow_the_seed_and_the_slice_alone(case):
    pixels, roi, scores = case
    runs = []
    for seed in (0, 0, 1):
        predictor = Discs()
        mask = refine(pixels, roi, scores, HEALTHY, predictor, "sam-random", seed).mask
        runs.append((predictor.points, mask))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert np.array_equal(runs[0][1], runs[1][1])
    assert runs[0][0][0] != runs[0][0][1]
    later = Discs()
    refine(pixels, roi, np.where(np.arange(4)[:, None, None] == 1, 0, scores), HEALTHY, later, "sam-random", 0)
    assert later.points == runs[0][0][1:]


def test_the_point_of_the_paper_is_the_centre_of_gravity_of_the_fifth_power(case):
    pixels, roi, scores = case
    predictor = Discs()
    lowest = -0.5
    refine(pixels, roi, scores, Healthy(1.0, lowest), predictor, "sam-point")
    total, at = 0.0, np.zeros(2)
    for y, x in np.argwhere(roi[1]):
        weight = (float(scores[1, y, x]) - lowest) ** 5
        total, at = total + weight, at + weight * np.array([x, y])
    assert predictor.points[0] == pytest.approx(at / total, rel=1e-5)
    assert not predictor.boxes


@given(st.floats(-2000, 2000))
def test_grey_values_are_those_of_the_window(hu):
    (grey,) = to_bytes(np.array([hu]), (-200.0, 250.0))
    assert grey == round(min(max((hu + 200) / 450, 0), 1) * 255)
