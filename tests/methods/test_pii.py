"""Poisson image interpolation: what differs from foreign patch interpolation."""

import numpy as np
import pytest
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.pseudo_anomaly.fpi import FPI
from uasbench.methods.pseudo_anomaly.pii import PII, PIIConfig
from uasbench.methods.synthesis.poisson_blend import poisson_blend


@pytest.fixture(scope="module")
def healthy(toy_case):
    return HealthySet.from_cases([toy_case(i)[0] for i in range(3)])


def test_paper_profile_is_that_of_interpolation_but_for_the_tolerance():
    ours, theirs = (vars(resolve(cls.Config, "paper", "liver")) for cls in (PII, FPI))
    assert {k for k in ours if ours[k] != theirs[k]} == {"tolerance"}
    assert ours["tolerance"] == 1e-3
    assert (ours["batch"], ours["epochs"], ours["alpha"], ours["donors"]) == (32, 50, (0.05, 0.95), "patients")
    assert PII(PIIConfig()).blend is poisson_blend
    assert PII.card.slice_score == "mean"


def test_patches_have_no_seam(make_method, healthy):
    """At a patch's rim the blend stays close to the slice, where interpolation jumps."""
    steps = {}
    for cls in (FPI, PII):
        method = make_method(cls, "smoke", {"batch": 24, "half_width": (0.15, 0.25), "alpha": (0.9, 0.95)})
        clean, images, targets, rois = method.batch_source(healthy, FitContext(seed=0), "fit")()
        changed = targets > 0
        inner = changed[:, 1:-1, 1:-1] & changed[:, 2:, 1:-1] & changed[:, :-2, 1:-1]
        inner &= changed[:, 1:-1, 2:] & changed[:, 1:-1, :-2]
        rim = changed[:, 1:-1, 1:-1] & ~inner
        rim &= rois[:, 2:, 1:-1] & rois[:, :-2, 1:-1] & rois[:, 1:-1, 2:] & rois[:, 1:-1, :-2]
        away = np.abs(images - clean)[:, 1:-1, 1:-1]
        steps[cls.card.name] = away[rim].mean() / away[inner].mean()
    assert steps["pii"] < 0.8 * steps["fpi"]


def test_loss_falls(make_method, healthy):
    curve: list[dict[str, float]] = []
    method = make_method(PII, "smoke", {"updates": 60, "lr": 5e-3})
    method.fit(healthy, FitContext(seed=0, on_log=lambda _, v: curve.append(v)))
    assert np.mean([v["bce"] for v in curve[-10:]]) < 0.7 * np.mean([v["bce"] for v in curve[:3]])
