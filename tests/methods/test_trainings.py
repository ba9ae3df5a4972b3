"""That every kind of training lowers its loss, and how epochs become updates.

One method stands for those that share its loop and differ in a term of the loss; ``test_learning.py`` trains them all.
"""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from uasbench.benchmark.catalogue import registry
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import ConfigError, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.reconstruction.parts.base import ReconstructionConfig

KNOWN = registry.runnable()
VOLUMES: dict[str, Any] = {"spacing": (2.5, 3.0, 3.0), "size": 24}
FALLS: dict[str, tuple[dict[str, Any], str, float]] = {  # settings, curve, share of its start that is left
    "ae": ({"updates": 24, "lr": 5e-3, "norm": "affine"}, "l1", 0.6),
    "ae-u": ({"updates": 24, "lr": 5e-3}, "l2", 0.6),
    "anoddpm": ({"updates": 20, "lr": 5e-3}, "mse", 0.6),
    "asc-net": ({"updates": 15, "lr": 1e-2, "dropout": 0.0}, "mse", 0.9),
    "cddpm": ({"pretrain_updates": 4, "updates": 24, "lr": 5e-3}, "denoising/l1", 0.6),
    "cutpaste": ({"epochs": 60, "batch": 8, "jitter": 0.5, "area": (0.1, 0.2)}, "cross-entropy", 1.0),
    "dae": ({"epoch_updates": 10, "epochs": 2, "t_max": 10}, "mse", 0.6),
    "disyre": ({"updates": 24, "lr": 5e-3, "augment": False}, "mse", 0.6),
    "dinomaly": ({"updates": 20}, "loss", 0.8),
    "dinomaly2": ({"updates": 20}, "loss", 0.9),
    "draem": ({"updates": 30, "lr": 3e-3}, "l2", 0.6),
    "f-anogan": ({"updates": 5, "encoder_updates": 60, "encoder_lr": 3e-3, "batch": 8}, "encoder/image", 0.9),
    "fae": ({"updates": 30, "lr": 1e-2}, "1 - ssim", 0.9),
    "fpi": ({"updates": 30, "lr": 1e-2, "half_width": (0.1, 0.3)}, "bce", 0.7),
    "glass": ({"updates": 30, "lr": 1e-3}, "loss", 0.9),
    "gmvae": ({"updates": 24, "lr": 5e-3, "norm": "affine"}, "loss", 0.6),
    "layer-decomposition": (VOLUMES | {"volume": (100.0, 3000.0), "updates": 30}, "decomposition/loss", 0.9),
    "mood-unet": (VOLUMES | {"updates": 20, "lr": 2e-2, "sides": (3, 8)}, "bce", 0.8),
    "normnet": ({"updates": 20, "lr": 2e-2, "bright_lesions": True}, "dice + ce", 0.8),
    "pddpm": ({"updates": 24, "lr": 5e-3}, "l1", 0.6),
    "nsa": ({"updates": 40, "lr": 1e-2}, "bce", 0.7),
    "random-shape": (
        {"updates": 30, "lr": 5e-3, "rejection": True, "placement": "roi", "threshold": 180},
        *("bce", 0.6),
    ),
    "reverse-distillation": ({"updates": 15}, "loss", 0.7),
    "screener-lite": (VOLUMES | {"updates": 20, "lr": 1e-2, "density_updates": 1}, "descriptor/loss", 0.95),
    "simplenet": ({"updates": 60, "lr": 1e-2, "adaptor_lr": 1e-2, "noise": 1.0}, "loss", 0.7),
    "stfpm": ({"updates": 15}, "loss", 0.6),
    "synthetic-tumors": (VOLUMES | {"updates": 20, "lr": 2e-2, "kinds": ("small",)}, "dice + ce", 0.8),
    "two-stage": ({"restoration_updates": 30, "segmentation_updates": 1, "lr": 3e-3}, "restoration/l1", 0.5),
    "vqvae-prior": ({"updates": 30, "lr": 3e-3, "prior_updates": 2}, "codes/l1", 0.8),
}
LENGTHS: dict[str, tuple[dict[str, Any], int]] = {  # settings; updates over three scans or 24 slices
    "ae-u": ({"epochs": 7, "batch": 5}, 7 * 5),
    "draem": ({"epochs": 7, "batch": 5}, 7 * 5),
    "fpi": ({"epochs": 2, "batch": 10}, 2 * 3),
    "pddpm": ({"epochs": 3, "batch": 10}, 3 * 3),
    "glass": ({"epochs": 7, "batch": 5, "epoch_updates": 4}, 7 * 4),
    "nsa": ({"epochs": 2, "batch": 10}, 2 * 3),
    "random-shape": ({"epochs": 2, "batch": 10}, 2 * 3),
    "reverse-distillation": ({"epochs": 7, "batch": 5}, 7 * 5),
    "simplenet": ({"epochs": 7, "batch": 5}, 7 * 5),
    "stfpm": ({"epochs": 7, "batch": 5}, 7 * 5),
    "synthetic-tumors": (VOLUMES | {"epochs": 3, "epoch_updates": 2}, 3 * 2),
}


def scans_for(settings: dict[str, Any], healthy: HealthySet, healthy_volumes: HealthySet) -> HealthySet:
    return healthy_volumes if {"spacing", "bright_lesions"} & settings.keys() else healthy


# Those whose networks take seconds for it; the contract trains each of them in the default suite.
HEAVY = {
    *("anoddpm", "asc-net", "cddpm", "cutpaste", "disyre", "draem", "f-anogan", "fpi", "glass", "nsa", "pddpm"),
    *("random-shape", "screener-lite"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in FALLS])
def test_the_loss_falls(train, healthy, healthy_volumes, name):
    settings, curve, share = FALLS[name]
    unlabelled = healthy if KNOWN.card(name).uses == "unlabelled-test" else None
    _, values = train(KNOWN.get(name), scans_for(settings, healthy, healthy_volumes), unlabelled=unlabelled, **settings)
    losses = [v[curve] for v in values if curve in v]
    assert np.mean(losses[-5:]) < share * np.mean(losses[:3])


class Told(Exception):
    """Carries the planned length out of a training that has just begun."""


@pytest.mark.parametrize("name", LENGTHS)
def test_epochs_become_updates(make_method, healthy, healthy_volumes, name):
    settings, wanted = LENGTHS[name]

    def stop(_: int, total: int) -> None:
        raise Told(total)

    method = make_method(KNOWN.get(name), "smoke", settings | {"updates": None})
    with pytest.raises(Told) as told:
        method.fit(scans_for(settings, healthy, healthy_volumes), FitContext(0, on_progress=stop))
    assert told.value.args == (wanted,)


RATES: dict[str, tuple[dict[str, Any], list[int]]] = {  # settings, and updates of each optimiser
    "ae": ({"updates": 6}, [6]),
    "draem": ({"updates": 5, "lr_decay_at": ()}, [5]),
    "normnet": ({"updates": 4, "bright_lesions": True}, [4]),
    "random-shape": ({"updates": 6}, [6]),
    "two-stage": ({"restoration_updates": 6, "segmentation_updates": 4}, [6, 4]),
}


def test_these_methods_can_begin_faster():
    configs = {name: KNOWN.get(name).Config for name in KNOWN.names()}
    quick = {name for name, config in configs.items() if "first_lr" in {f.name for f in fields(config)}}
    assert {name for name in quick if not issubclass(configs[name], ReconstructionConfig)} | {"ae"} == set(RATES)


@pytest.mark.parametrize("name", RATES)
def test_the_first_half_of_the_updates_has_a_rate_of_its_own(train, healthy, healthy_volumes, name):
    settings, updates = RATES[name]
    rates: dict[int, list[float]] = {}

    def note(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        rates.setdefault(id(optimiser), []).append(optimiser.param_groups[0]["lr"])

    hook = register_optimizer_step_pre_hook(note)
    try:
        train(KNOWN.get(name), scans_for(settings, healthy, healthy_volumes), lr=1e-5, first_lr=1e-4, **settings)
    finally:
        hook.remove()
    assert list(rates.values()) == [[1e-4] * (n // 2) + [1e-5] * (n - n // 2) for n in updates]


def test_half_of_a_training_without_an_end_is_refused():
    with pytest.raises(ConfigError, match="first_lr"):
        resolve(KNOWN.get("ae").Config, "paper", "liver", {"budget": "baur", "first_lr": 1e-3})
