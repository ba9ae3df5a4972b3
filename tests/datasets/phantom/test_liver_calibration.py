"""No trivial baseline saturates on the phantom, and none is hopeless (docs/phantom.md, calibration)."""

import numpy as np
import pytest
from uasbench.datasets.case import Case
from uasbench.datasets.phantom.liver import patients
from uasbench.methods.method import Method
from uasbench.methods.trivial.hu_deviation import HuDeviation
from uasbench.methods.trivial.hu_opened import HuOpened, HuOpenedConfig
from uasbench.methods.trivial.hu_threshold import HuThreshold, HuThresholdConfig
from uasbench.methods.trivial.local_residual import LocalResidual

BASELINES: dict[str, Method] = {
    "hu-deviation": HuDeviation(),
    "hu-threshold darker": HuThreshold(HuThresholdConfig(sign="darker")),
    "hu-threshold brighter": HuThreshold(HuThresholdConfig(sign="brighter")),
    "hu-opened darker": HuOpened(HuOpenedConfig(sign="darker")),
    "hu-opened brighter": HuOpened(HuOpenedConfig(sign="brighter")),
    "local-residual": LocalResidual(),
}


def lesion_cases(seed):
    return [
        (Case(name, name, patient.hu.astype(np.float32), patient.spacing, patient.labels == 6), patient.tumour)
        for dataset, name, patient in patients(seed=seed, size="quick")
        if dataset == "lits"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_best_trivial_baseline_stays_inside_the_window(seed, oracle_dice):
    everyone = lesion_cases(seed)
    sick = [(case, tumour) for case, tumour in everyone if tumour.any()]
    assert len(everyone) - len(sick) == 1
    table: dict[str, float] = {}
    for name, method in BASELINES.items():
        scores = [method.score(case)[case.roi] for case, _ in sick]
        table[name] = oracle_dice(scores, [tumour[case.roi] for case, tumour in sick])
    rng = np.random.default_rng(seed)
    truths = [tumour[case.roi] for case, tumour in sick]
    table["random"] = oracle_dice([rng.random(truth.size) for truth in truths], truths)
    table["roi-area"] = oracle_dice([case.roi.sum((1, 2))[np.nonzero(case.roi)[0]] for case, _ in sick], truths)
    print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in table.items()))
    assert 0.15 <= max(table.values()) <= 0.55, table
    assert table["random"] < 0.15


def test_oracle_dice_of_the_truth_is_one(oracle_dice):
    truths = [np.array([True, False, False]), np.array([False, True])]
    assert oracle_dice([truth.astype(float) for truth in truths], truths) == 1
