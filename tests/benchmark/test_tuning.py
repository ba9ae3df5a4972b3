"""Optuna studies over look-ups."""

import numpy as np
import optuna
import pytest
from uasbench.benchmark.protocols.tuning import MAX_TRIALS, PLAIN, MeanDice, Studies
from uasbench.benchmark.runs.records import Threshold
from uasbench.benchmark.scoring.bins import count_scores

Pairs = list[tuple[np.ndarray, np.ndarray]]


def journal(path):
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


def asked(protocol: str) -> Threshold:
    return Threshold(protocol=protocol, threshold=None)


def draw(seed: int, cases: int = 3, n: int = 400, prevalence: float = 0.02) -> Pairs:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(cases):
        labels = rng.random(n) < prevalence
        labels[0] = True
        out.append(((rng.normal(size=n) + 1.5 * labels).astype(np.float32), labels))
    return out


def objective(pairs: Pairs):
    bins, counts = count_scores(lambda: pairs)
    patients = [f"p{k}" for k in range(len(counts))]
    found = MeanDice.every_cut(bins, patients, counts).over(set(patients))
    assert found is not None
    return found


def mean_dice(pairs: Pairs, threshold: float) -> float:
    values = []
    for scores, labels in pairs:
        mask = scores > np.float32(threshold)
        values.append(2 * (mask & labels).sum() / (mask.sum() + labels.sum()))
    return float(np.mean(values))


def test_the_exact_optimum_is_the_first_trial(tmp_path):
    path = tmp_path / "tuning" / "cell.log"
    objectives = {PLAIN: objective(draw(0))}
    for _ in range(2):  # a second measurement replaces the journal
        studies = Studies(path, seed=0, trials=12)
        found = studies.search(asked("oracle"), objectives)
        studies.write()
    assert [p.name for p in path.parent.iterdir()] == ["cell.log"]
    study = optuna.load_study(study_name=found.study, storage=journal(path))
    assert found.study == "cell/oracle"
    assert len(study.trials) == found.trials == 12
    assert study.trials[0].value == pytest.approx(objectives[PLAIN].best)
    assert study.best_value == found.value
    assert all(0 <= t.params["quantile"] <= 1 for t in study.trials)


def test_studies_are_seeded_and_sequential(tmp_path):
    objectives = {PLAIN: objective(draw(1))}
    params = []
    for k, seed in enumerate((0, 0, 1)):
        path = tmp_path / f"{k}" / "cell.log"
        studies = Studies(path, seed=seed, trials=20)
        name = studies.search(asked("oracle"), objectives).study
        studies.write()
        params.append([t.params for t in optuna.load_study(study_name=name, storage=journal(path)).trials])
    assert params[0] == params[1]
    assert params[0] != params[2]
    assert [Studies(None, seed=0, trials=asked_for).trials for asked_for in (0, 1000)] == [1, MAX_TRIALS]
    assert [t["quantile"] for t in params[0][:1]] == [t["quantile"] for t in params[2][:1]]


def test_one_trial_is_the_plain_optimum_and_more_choose_post_processing_by_its_shifted_value():
    weak, strong = objective(draw(2)), objective([(s + np.float32(2) * y, y) for s, y in draw(2)])
    posts = {PLAIN: weak, (1.5, 0.0): strong, (0.0, 10.0): weak, (1.5, 10.0): weak}
    one = Studies(None, seed=0, trials=1).search(asked("val"), posts)
    assert (one.smoothing_mm, one.min_size_mm3, one.trials) == (*PLAIN, 1)
    found = Studies(None, seed=0, trials=4).search(asked("val"), posts)
    assert (found.smoothing_mm, found.min_size_mm3) == (1.5, 0.0)
    assert found.value == pytest.approx(strong.best)
    kept = Studies(None, seed=0, trials=4).search(asked("val"), posts, weak.best - strong.best - 0.01)
    assert (kept.smoothing_mm, kept.min_size_mm3) == PLAIN


def test_mean_dice_averages_patients_not_cases():
    pairs = draw(4, cases=3)
    bins, counts = count_scores(lambda: pairs)
    means = MeanDice.every_cut(bins, "aab", counts)
    found = means.over({"a", "b"})
    assert found is not None
    threshold = found.curves.threshold(found.best_cut)
    one, two, three = (mean_dice([p], threshold) for p in pairs)
    assert found.best == pytest.approx(((one + two) / 2 + three) / 2)
    assert means.over({"nobody"}) is None
