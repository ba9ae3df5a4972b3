"""Foreign patch interpolation: published settings, training, and what it shares with its Poisson sibling."""

import numpy as np
import pytest
import torch
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.context import FitContext
from uasbench.methods.pseudo_anomaly.fpi import FPI
from uasbench.methods.pseudo_anomaly.parts.foreign_patches import masked_cross_entropy


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


def test_scores_are_probabilities(train, toy_case):
    method, _ = train(FPI, limit=1)
    case, _ = toy_case(9, lesion=True)
    scores = method.score(case)[case.roi]
    assert 0 <= scores.min() < scores.max() <= 1
