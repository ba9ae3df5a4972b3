"""No trivial baseline saturates on a phantom, and none is hopeless (docs/phantom.md, calibration)."""

import numpy as np
import pytest
from uasbench.datasets.case import Case
from uasbench.datasets.phantom.liver import patients
from uasbench.datasets.phantom.lung import lesion_patients
from uasbench.methods.trivial.baselines import HuDeviation, HuOpened, HuThreshold, LocalResidual

SIGNED = {"hu-opened": HuOpened, "hu-threshold": HuThreshold}
OTHERS = {"hu-deviation": HuDeviation, "local-residual": LocalResidual}


def baselines(anatomy):
    if anatomy == "lung":
        methods = {**SIGNED, **OTHERS}
        return {n: m(m.Config(**getattr(m.Config, "anatomies", {}).get("lung", {}))) for n, m in methods.items()}
    signed = {f"{n} {sign}": m(m.Config(sign=sign)) for n, m in SIGNED.items() for sign in ("darker", "brighter")}
    return signed | {name: method() for name, method in OTHERS.items()}


def lesion_cases(anatomy, seed):
    if anatomy == "liver":
        sets = patients(seed=seed, size="quick")
        found = [(p, p.labels == 6, p.tumour) for dataset, _, p in sets if dataset == "lits"]
    else:
        found = [(p, np.isin(p.labels, (1, 2)), p.lesion) for _, p in lesion_patients(seed=seed, size="quick")]
    return [(Case("a", "a", p.hu.astype(np.float32), p.spacing, roi), truth) for p, roi, truth in found]


def oracle_dice(scores, truths):
    """Mean over patients of their Dice at the one threshold that is best for that mean."""
    edges = np.append(np.unique(np.quantile(np.concatenate(scores), np.linspace(0, 1, 2001))), np.inf)
    dice = []
    for score, truth in zip(scores, truths, strict=True):
        hit = np.histogram(score[truth], edges)[0][::-1].cumsum()[::-1]
        miss = np.histogram(score[~truth], edges)[0][::-1].cumsum()[::-1]
        dice.append(2 * hit / (hit + miss + truth.sum()))
    return float(np.mean(dice, axis=0).max())


@pytest.mark.parametrize(
    ("anatomy", "seed"),
    [pytest.param(a, seed, marks=pytest.mark.slow if seed else ()) for a in ("liver", "lung") for seed in range(5)],
)
def test_trivial_baselines_stay_inside_the_window(anatomy, seed):
    everyone = lesion_cases(anatomy, seed)
    sick = [(case, lesion) for case, lesion in everyone if lesion.any()]
    assert len(everyone) - len(sick) == 1
    truths = [lesion[case.roi] for case, lesion in sick]
    table = {
        name: oracle_dice([method.score(case)[case.roi] for case, _ in sick], truths)
        for name, method in baselines(anatomy).items()
    }
    rng = np.random.default_rng(seed)
    random = oracle_dice([rng.random(truth.size) for truth in truths], truths)
    table["roi-area"] = oracle_dice([case.roi.sum((1, 2))[np.nonzero(case.roi)[0]] for case, _ in sick], truths)
    print(f"seed {seed}: random {random:.3f}, " + ", ".join(f"{name} {value:.3f}" for name, value in table.items()))
    if anatomy == "liver":
        assert 0.15 <= max(table.values()) <= 0.45, table
        assert random < 0.15
    else:
        assert 0.25 <= table["hu-opened"] <= 0.6, table
        assert max(table.values()) <= 0.6, table


def test_oracle_dice_of_the_truth_is_one():
    truths = [np.array([True, False, False]), np.array([False, True])]
    assert oracle_dice([truth.astype(float) for truth in truths], truths) == 1
