"""Figures of scores and thresholds: which numbers they draw, and what earlier records lack."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve
from uasbench.benchmark.runs.records import ScoreHistogram, Threshold
from uasbench.benchmark.verification.numbers import Name, numbers
from uasbench.reports.build import build
from uasbench.reports.figures.threshold_plots import SHARES, at_shares, roc_points, score_figure, thresholds_of

HISTOGRAM = ScoreHistogram(
    low=0.0, high=1.0, healthy=[900, 90, 9, 1], lesion=[1, 2, 3, 4], dice=[0.02, 0.16, 0.67, 0.5, 0.0]
)


def with_histogram(record, **changed):
    return record.model_copy(update={"histogram": HISTOGRAM.model_copy(update=changed)})


def test_dice_is_read_at_shares_of_healthy_voxels_and_nowhere_beyond_what_the_map_resolves():
    found = at_shares(HISTOGRAM)
    for share, dice in ((1.0, 0.02), (0.1, 0.16), (0.01, 0.67), (0.001, 0.5)):
        assert found[np.argmin(abs(SHARES - share))] == pytest.approx(dice)
    assert np.isnan(found[SHARES < 0.0009]).all()


def test_roc_and_precision_recall_are_those_of_the_voxels():
    rng = np.random.default_rng(0)
    scores, truth = np.append(rng.normal(0, 1, 40_000), rng.normal(2, 1, 1000)), np.arange(41_000) >= 40_000
    edges = np.linspace(-3, 5, 101)
    healthy, lesion = (np.histogram(np.clip(scores[side], -2.99, 4.99), edges)[0].tolist() for side in (~truth, truth))
    points = roc_points(ScoreHistogram(low=-3, high=5, healthy=healthy, lesion=lesion, dice=[])).set_index("curve")
    roc, pr = (points.loc[name].dropna() for name in ("roc", "pr"))
    false, found, _ = roc_curve(truth, scores)
    assert roc["at"].min() < 1e-4
    roc = roc[roc["at"] > 1e-3]
    np.testing.assert_allclose(roc["value"], np.interp(roc["at"], false, found), atol=0.02)
    precision, found, _ = precision_recall_curve(truth, scores)
    pr = pr[pr["at"] > 0.05]  # where some fifty voxels are called
    np.testing.assert_allclose(pr["value"], np.interp(pr["at"], found[::-1], precision[::-1]), atol=0.03)


@pytest.mark.parametrize("changed", [{"lesion": [0] * 4}, {"healthy": [0] * 4}])
def test_one_class_has_no_curve(changed):
    assert roc_points(HISTOGRAM.model_copy(update=changed))["value"].isna().all()


def test_thresholds_of_folds_stand_together_and_those_of_other_grids_and_undefined_ones_are_left_out(make_record):
    found = [Threshold(protocol="val", fold=f, threshold=0.1 * f) for f in range(3)]
    found += [Threshold(protocol="native", threshold=None), Threshold(protocol="paper-liver", threshold=0.5)]
    record = make_record("ae").model_copy(update={"thresholds": found})
    assert thresholds_of(record, ("val", "native")) == {"val": [0.0, 0.1, 0.2]}


@pytest.mark.parametrize(
    "changed", [{}, {"dice": []}, {"high": 0.0, "healthy": [5], "lesion": [0], "dice": [0.0, 0.0]}]
)
def test_any_histogram_is_drawn_with_thresholds_beyond_it_and_the_same_bytes_again(changed, tmp_path):
    one, thresholds = HISTOGRAM.model_copy(update=changed), {"native": [-1e30], "val": [0.2, 0.4], "oracle": [7.0]}
    first, second = (score_figure(one, thresholds, "t", tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == second


def test_the_report_shows_scores_of_the_first_seed_and_the_mean_over_seeds_against_the_threshold(
    make_record, make_run, tmp_path
):
    twice = [min(1.0, 2 * value) for value in HISTOGRAM.dice]
    records = [with_histogram(make_record("a/b:c")), with_histogram(make_record("a/b:c", seed=1), dice=twice)]
    folder = make_run(tmp_path, [*records, make_record("hu-deviation")])
    build(folder)
    frame = pd.read_csv(folder.figures_dir / "thresholds-lits-btcv.csv")
    assert set(frame["method"]) == {"a/b:c"}
    at_one = frame["dice"][np.argmin(abs(frame["healthy_above"] - 0.1))]
    assert at_one == pytest.approx(1.5 * 0.16)
    both = pd.read_csv(folder.figures_dir / "roc-lits-btcv.csv").set_index(["method", "curve"])
    assert both.loc[("a/b:c", "roc"), "value"].tolist()[-1] == 1
    assert both.loc[("a/b:c", "pr"), "value"].tolist()[-1] == pytest.approx(10 / 1010)
    (path,) = (folder.figures_dir / "scores").glob("*.csv")
    assert path.name == "a-b-c-lits-btcv.csv"
    assert pd.read_csv(path)["lesion"].tolist() == HISTOGRAM.lesion
    page = folder.report_html.read_text()
    assert "Scores of a/b:c, seed 0, lits after btcv" in page
    assert "no figures of scores" not in page


def test_records_of_earlier_versions_have_no_such_figure_and_the_report_says_so(make_record, make_run, tmp_path):
    folder = make_run(tmp_path, [make_record("ae")])
    build(folder)
    assert not (folder.figures_dir / "scores").exists()
    assert "no figures of scores and thresholds" in folder.report_html.read_text()


def test_a_histogram_is_among_the_numbers_that_are_verified(make_record):
    found = numbers(with_histogram(make_record("ae")))
    assert found[Name("", "histogram", "lesion 2")] == ("amount", 3)
    assert found[Name("", "histogram", "dice 4")] == ("share", 0.0)
    assert not [name for name in numbers(make_record("ae")) if name.metric == "histogram"]
