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


def train(make_method, healthy, seed=0, limit=None, **values):
    method = make_method(PII, "smoke", values, seed=seed)
    curve: list[dict[str, float]] = []
    method.fit(healthy, FitContext(seed=seed, max_updates=limit, on_log=lambda _, v: curve.append(v)))
    return method, curve


def test_paper_profile_is_that_of_interpolation_but_for_the_tolerance():
    ours, theirs = (vars(resolve(cls.Config, "paper", "liver")) for cls in (PII, FPI))
    assert {k for k in ours if ours[k] != theirs[k]} == {"tolerance"}
    assert ours["tolerance"] == 1e-3
    assert (ours["batch"], ours["epochs"], ours["alpha"]) == (32, 50, (0.05, 0.95))
    assert PII(PIIConfig()).blend is poisson_blend
    assert PII.card.slice_score == "mean"


def test_patches_have_no_seam(make_method, healthy):
    """At a patch's rim the blend stays close to the slice, where interpolation jumps."""
    steps = {}
    for cls in (FPI, PII):
        method = make_method(cls, "smoke", {"batch": 24, "half_width": (0.15, 0.25), "alpha": (0.9, 0.95)})
        clean, images, targets, rois = method.next_batch(healthy, FitContext(seed=0), "fit")()
        changed = targets > 0
        inner = changed[:, 1:-1, 1:-1] & changed[:, 2:, 1:-1] & changed[:, :-2, 1:-1]
        inner &= changed[:, 1:-1, 2:] & changed[:, 1:-1, :-2]
        rim = changed[:, 1:-1, 1:-1] & ~inner
        rim &= rois[:, 2:, 1:-1] & rois[:, :-2, 1:-1] & rois[:, 1:-1, 2:] & rois[:, 1:-1, :-2]
        away = np.abs(images - clean)[:, 1:-1, 1:-1]
        steps[cls.card.name] = away[rim].mean() / away[inner].mean()
    assert steps["pii"] < 0.8 * steps["fpi"]


def test_same_seed_same_map_other_seed_other_map(make_method, healthy, toy_case):
    case, _ = toy_case(9, lesion=True)
    first, again, other = (train(make_method, healthy, s)[0].score(case) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.isfinite(first).all()


def test_save_and_load_give_the_same_map(make_method, healthy, toy_case, tmp_path):
    case, _ = toy_case(9, lesion=True)
    method, _ = train(make_method, healthy)
    method.save(tmp_path / "pii.pt")
    restored = PII(method.config)
    restored.load(tmp_path / "pii.pt")
    assert np.array_equal(restored.score(case), method.score(case))


def test_loss_falls(make_method, healthy):
    _, curve = train(make_method, healthy, updates=60, lr=5e-3)
    assert np.mean([v["bce"] for v in curve[-10:]]) < 0.7 * np.mean([v["bce"] for v in curve[:3]])


@pytest.mark.slow
def test_paper_profile_takes_a_step_and_scores_a_slice(make_method, toy_case):
    method = make_method(PII, "paper", {"batch": 2})
    cases = [toy_case(i, slices=1, size=256)[0] for i in range(2)]
    method.fit(HealthySet.from_cases(cases), FitContext(seed=0, max_updates=1))
    assert method.updates == 1
    assert np.isfinite(method.score(cases[0])).all()
