"""No trivial baseline does well on a phantom, and none is hopeless (docs/phantom.md, calibration)."""

from itertools import product

import numpy as np
import pytest
from uasbench.benchmark.protocols.evidence import MIN_SIZE_MM3, SMOOTHING_MM
from uasbench.benchmark.scoring.smoothing import area_openings, least_voxels, smooth
from uasbench.datasets.case import Case
from uasbench.datasets.phantom import kidney, liver, lung, pancreas
from uasbench.datasets.phantom.spec import read_spec
from uasbench.methods.trivial.baselines import HuDeviation, HuOpened, HuThreshold, LocalResidual, RoiArea

SIGNED = {"hu-opened": HuOpened, "hu-threshold": HuThreshold}
OTHERS = {"hu-deviation": HuDeviation, "local-residual": LocalResidual, "roi-area": RoiArea}
# No number of a specification was chosen with these.
FRESH = {"liver": range(25, 30), "lung": range(50, 55), "kidney": range(80, 85), "pancreas": range(80, 85)}
ABDOMINAL = {
    "liver": ("lits", liver, lambda patient: patient.labels == 6),
    "kidney": ("kits23", kidney, kidney.region),
    "pancreas": ("msd-pancreas", pancreas, pancreas.region),
}
WINDOW = (0.15, 0.45)


def baselines(anatomy):
    def made(method, **settings):
        return method(method.Config(**getattr(method.Config, "anatomies", {}).get(anatomy, {}), **settings))

    signed = {name: made(method) for name, method in SIGNED.items()}
    if anatomy != "lung":
        signed = {f"{n} {sign}": made(m, sign=sign) for n, m in SIGNED.items() for sign in ("darker", "brighter")}
    return signed | {name: made(method) for name, method in OTHERS.items()}


def lesion_cases(anatomy, seed, size="quick"):
    if anatomy == "lung":
        found = [(p, np.isin(p.labels, (1, 2)), p.lesion) for _, p in lung.lesion_patients(seed=seed, size=size)]
    else:
        tested, phantom, region = ABDOMINAL[anatomy]
        sets = phantom.patients(seed=seed, size=size)
        found = [(p, region(p), p.tumour) for dataset, _, p in sets if dataset == tested]
    return [(Case("a", "a", p.hu.astype(np.float32), p.spacing, roi), truth & roi) for p, roi, truth in found]


def oracle_dice(scores, truths):
    """Mean over patients of their Dice at the one threshold that is best for that mean."""
    edges = np.append(np.unique(np.quantile(np.concatenate(scores), np.linspace(0, 1, 2001))), np.inf)
    dice = []
    for score, truth in zip(scores, truths, strict=True):
        hit = np.histogram(score[truth], edges)[0][::-1].cumsum()[::-1]
        miss = np.histogram(score[~truth], edges)[0][::-1].cumsum()[::-1]
        dice.append(2 * hit / (hit + miss + truth.sum()))
    return float(np.mean(dice, axis=0).max())


def processed_dice(maps, cases, truths):
    """The best oracle Dice over the smoothings of each baseline that the protocol may choose.

    The least sizes come on top, which add little, for smoothed maps that come within 0.05 of the best.
    """

    def smoothed(name, sigma):
        return [smooth(a, c.roi, c.spacing, sigma) for a, c in zip(maps[name], cases, strict=True)]

    def dice(found):
        return oracle_dice([a[c.roi] for a, c in zip(found, cases, strict=True)], truths)

    plain = {(name, sigma): dice(smoothed(name, sigma)) for name, sigma in product(maps, SMOOTHING_MM)}
    best = {name: max(plain[name, sigma] for sigma in SMOOTHING_MM) for name in maps}
    for name, sigma in (at for at, value in plain.items() if value > max(plain.values()) - 0.05):
        opened = [
            area_openings(a, c.roi, [least_voxels(size, c.spacing) for size in MIN_SIZE_MM3[1:]])
            for a, c in zip(smoothed(name, sigma), cases, strict=True)
        ]
        best[name] = max(best[name], *(oracle_dice(scores, truths) for scores in zip(*opened, strict=True)))
    return best


def plain_dice(maps, cases, truths):
    return {n: oracle_dice([a[c.roi] for a, c in zip(m, cases, strict=True)], truths) for n, m in maps.items()}


def trivial_dice(anatomy, size, seed, dice=processed_dice):
    """Each trivial baseline's oracle Dice on the patients with a lesion."""
    everyone = lesion_cases(anatomy, seed, size)
    cases, truths = [c for c, t in everyone if t.any()], [t[c.roi] for c, t in everyone if t.any()]
    assert len(everyone) - len(cases) == read_spec(anatomy).size(size).free
    return dice(
        {n: [m.score(c).astype(np.float32) for c in cases] for n, m in baselines(anatomy).items()}, cases, truths
    )


@pytest.mark.slow
@pytest.mark.parametrize(("anatomy", "seed"), [(anatomy, seed) for anatomy in FRESH for seed in FRESH[anatomy]])
@pytest.mark.parametrize("size", ["quick", "standard", "full"])
def test_no_trivial_baseline_leaves_the_window(size, anatomy, seed):
    table = trivial_dice(anatomy, size, seed)
    print(f"{anatomy}, {size}, seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in table.items()))
    assert WINDOW[0] <= max(table.values()) <= WINDOW[1], table


@pytest.mark.slow
@pytest.mark.parametrize("anatomy", FRESH)
def test_the_window_holds_without_post_processing(anatomy):
    table = trivial_dice(anatomy, "quick", 0, plain_dice)
    assert WINDOW[0] <= max(table.values()) <= WINDOW[1], table


def test_oracle_dice_of_the_truth_is_one():
    truths = [np.array([True, False, False]), np.array([False, True])]
    assert oracle_dice([truth.astype(float) for truth in truths], truths) == 1
