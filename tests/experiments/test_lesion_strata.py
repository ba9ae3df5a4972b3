import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.planning.options import validated
from uasbench.experiments.diagnostics import lesion_strata


def test_auroc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 9, 50) / 4, rng.integers(0, 7, 400) / 4
    truth, scores = np.repeat([1, 0], [50, 400]), np.concatenate([inside, outside])
    assert lesion_strata.auroc(inside, outside) == pytest.approx(roc_auc_score(truth, scores))


def test_a_lesion_has_a_volume_and_a_contrast_with_its_surroundings():
    image = np.full((8, 40, 40), 100.0)
    roi, lesion = np.ones(image.shape, bool), np.zeros(image.shape, bool)
    lesion[2:5, 5:11, 5:11] = lesion[2:5, 25:31, 25:31] = True
    lesion[7, 39, 39] = True  # a speck of 8 mm³
    image[lesion] = 60
    image[:, :15, :15] += 50  # the first lies in brighter tissue
    found = lesion_strata.lesions_of(image, roi, lesion, (2.0, 2.0, 2.0))
    assert [(len(voxels), round(ml, 3)) for voxels, ml, _ in found] == [(108, 0.864)] * 2
    assert found[1][2] == pytest.approx(40)
    assert 30 < found[0][2] < 40


def test_thirds_hold_as_many_lesions_each():
    rows = pd.DataFrame(
        [(str(i), float(i), float(-i), m, i / 10 + k) for i in range(6) for k, m in enumerate("ab")],
        columns=["lesion", "ml", "contrast", "method", "auroc"],
    )
    table = lesion_strata.by_thirds(rows)
    assert list(table["method"]) == ["a", "b"]
    np.testing.assert_allclose(table.iloc[0, 1:].astype(float), [0.05, 0.25, 0.45, 0.45, 0.25, 0.05])


@pytest.mark.slow
def test_reads_the_maps_of_a_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    run(validated(methods="random,hu-threshold", datasets=["lits"], phantom=True, profile="smoke", out=folder))
    monkeypatch.setattr(sys, "argv", ["lesion_strata", str(folder), "--methods", "random", "hu-threshold"])
    lesion_strata.main()
    printed = capsys.readouterr().out
    assert "lesions of at least 0.1 ml" in printed
    assert printed.index("hu-threshold") < printed.rindex("random")
