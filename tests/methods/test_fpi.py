"""Foreign patch interpolation: published settings, training, and what it shares with its Poisson sibling."""

import numpy as np
import pytest
import torch
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.pseudo_anomaly.fpi import FPI
from uasbench.methods.pseudo_anomaly.parts.foreign_patches import ForeignPatchConfig, masked_cross_entropy
from uasbench.methods.state import parameter_count
from uasbench.methods.synthesis.foreign_patch import interpolate


@pytest.fixture(scope="module")
def healthy(toy_case):
    return HealthySet.from_cases([toy_case(i)[0] for i in range(3)])


def train(make_method, healthy, limit=None, **values):
    method = make_method(FPI, "smoke", values)
    curve: list[dict[str, float]] = []
    method.fit(healthy, FitContext(seed=0, max_updates=limit, on_log=lambda _, v: curve.append(v)))
    return method, curve


def test_paper_profile_equals_the_published_settings():
    c = resolve(ForeignPatchConfig, "paper", "liver")
    assert FPI.Config is ForeignPatchConfig
    assert (c.alpha, c.half_width, c.centre_share, c.tolerance) == ((0.05, 0.95), (0.05, 0.2), 0.8, 0.0)
    assert (c.depth, c.widen, c.batch, c.epochs, c.updates, c.lr) == (16, 4, 32, 50, None, 1e-3)
    assert (c.size, c.window, c.donors) == (256, (-200, 250), "patients")
    assert FPI(c).min_patients == 2
    assert by_stage(c)[1] == {}
    assert FPI(c).blend is interpolate
    assert FPI(resolve(ForeignPatchConfig, "paper", "lung")).view.window == (-800, 100)
    assert (FPI.card.slice_score, FPI.native_threshold) == ("mean", None)


def test_parameters_of_the_paper_net(make_method):
    def block(i, o, changes):
        return 2 * i + 9 * i * o + 2 * o + 9 * o * o + (i * o if changes else 0)

    levels = [(16, 64), (64, 128), (128, 256), (256, 128), (128, 64)]
    wanted = 9 * 16 + sum(block(i, o, True) + block(o, o, False) for i, o in levels) + 2 * 64 + 64 + 1
    assert parameter_count(make_method(FPI, "paper")) == wanted


def test_length_is_counted_in_epochs(make_method, healthy):
    done = []
    method = make_method(FPI, "smoke", {"updates": None, "epochs": 2, "batch": 10})
    method.fit(healthy, FitContext(seed=0, on_progress=lambda i, n: done.append((i, n))))
    assert done[-1] == (6, 6)  # 24 slices in batches of 10 are 3 updates
    assert method.updates == 6


def test_optimiser_is_adam_with_the_rate_of_the_settings(make_method, healthy, optimisers):
    train(make_method, healthy, limit=1, lr=1e-3)
    assert (optimisers[0].defaults["lr"], optimisers[0].defaults["betas"], optimisers[0].defaults["weight_decay"]) == (
        1e-3,
        (0.9, 0.999),
        0,
    )


def test_loss_is_cross_entropy_with_soft_targets_inside_the_organ():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 1, 5, 5, generator=generator), torch.rand(2, 1, 5, 5, generator=generator)
    roi = (torch.rand(2, 1, 5, 5, generator=generator) < 0.5).float()
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    entropy = -(target.numpy() * np.log(p) + (1 - target.numpy()) * np.log(1 - p))
    assert masked_cross_entropy(logits, target, roi) == pytest.approx(entropy[roi.numpy() > 0].mean(), rel=1e-5)


def test_batches_carry_patches_of_other_patients_inside_the_organ(make_method, healthy):
    method = make_method(FPI, "smoke", {"batch": 24})
    clean, images, targets, rois = method.batch_source(healthy, FitContext(seed=0), "fit")()
    assert np.array_equal(clean != images, targets > 0)
    assert not (targets > 0)[~rois].any()
    assert (targets.reshape(24, -1).max(axis=1) > 0).mean() > 0.9
    assert set(method.preview(healthy, FitContext(seed=0))) == {"healthy", "with foreign patches", "target"}


def test_one_patient_is_refused(make_method, toy_case):
    with pytest.raises(DataError, match="two patients"):
        make_method(FPI, "smoke", {"donors": "patients"}).fit(
            HealthySet.from_cases([toy_case(0)[0]]), FitContext(seed=0)
        )


def test_loss_falls_and_scores_are_probabilities(make_method, healthy, toy_case):
    method, curve = train(make_method, healthy, updates=60, lr=5e-3, half_width=(0.1, 0.3))
    assert np.mean([v["bce"] for v in curve[-10:]]) < 0.7 * np.mean([v["bce"] for v in curve[:3]])
    case, _ = toy_case(9, lesion=True)
    scores = method.score(case)[case.roi]
    assert 0 <= scores.min() < scores.max() <= 1
