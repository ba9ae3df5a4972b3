"""The paper profile of every method against ``published_settings.yaml``, field by field; marks and search spaces."""

from dataclasses import MISSING, fields
from typing import Any

import optuna
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.methods.config import PROFILES, ConfigError, SliceConfig, by_stage, resolve
from uasbench.methods.features.parts.backbone import LITE0, FeatureMethod
from uasbench.methods.features.parts.patches import TINY

KNOWN = registry.runnable()
NAMES = [name for name in KNOWN.names() if KNOWN.entry(name).built_in]
PUBLISHED_ON = ("liver", "lung")
"""Organs of the tasks of the papers; settings for others are choices of this benchmark."""
TRAITS_OF_THE_CARD = ("slice_score", "uses", "supervision", "trainer", "deterministic")


def plain(value: Any) -> Any:
    """Data files have lists where settings have tuples, and no rounding errors."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return round(value, 12) if isinstance(value, float) else value


def others_than_default(of: Any, names: Any) -> dict[str, Any]:
    return {f.name: getattr(of, f.name) for f in fields(of) if f.name in names and getattr(of, f.name) != f.default}


def traits(name: str, anatomy: str) -> dict[str, Any]:
    """What a method is beside its settings, where it differs from the contract's defaults."""
    method = KNOWN.get(name)(resolve(KNOWN.get(name).Config, "paper", anatomy))
    plainest = {"native_threshold": None, "members": None, "min_patients": 1, "training": None}
    found = {k: getattr(method, k, v) for k, v in plainest.items() if getattr(method, k, v) != v}
    found |= others_than_default(method.card, TRAITS_OF_THE_CARD)
    if method.view is not None:
        settings = vars(method.config)
        own = [f.name for f in fields(method.view) if f.name not in settings and f.default is not MISSING]
        if getattr(method.config, "frame", "slice") == "volume":
            own.remove("reduce")
            assert method.view.reduce * method.config.size == method.config.canvas
        found |= {f"view_{key}": value for key, value in others_than_default(method.view, own).items()}
        found |= {
            f"view_{f.name}": getattr(method.view, f.name)
            for f in fields(method.view)
            if f.name in settings and getattr(method.view, f.name) != settings[f.name]
        }
    return found


def differences(where: str, found: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """One line for each field with another value."""
    found, published = ({key: plain(value) for key, value in d.items()} for d in (found, published))
    return [
        f"{where}: {key} is {found.get(key, 'missing')!r}, published {published.get(key, 'missing')!r}"
        for key in dict.fromkeys((*published, *found))
        if found.get(key, "missing") != published.get(key, "missing")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_paper_profile_has_the_published_settings(name, published):
    card, config = KNOWN.card(name), KNOWN.get(name).Config
    block = published[name]
    organs = [anatomy for anatomy in card.anatomy if anatomy in PUBLISHED_ON]
    assert set(block) - {"source", "score_stage", "traits", "optimisers"} == set(organs)
    wrong, marks = [], block.get("traits", {})
    for anatomy in organs:
        here = {key: mark[anatomy] if isinstance(mark, dict) else mark for key, mark in marks.items()}
        wrong += differences(f"{name}, {anatomy}", vars(resolve(config, "paper", anatomy)), block[anatomy])
        wrong += differences(f"{name}, {anatomy}", traits(name, anatomy), here)
    score_stage = {"score_stage": list(by_stage(resolve(config, "paper"))[1])}
    wrong += differences(name, score_stage, {"score_stage": block.get("score_stage", [])})
    assert not wrong, "\n".join(["", *wrong])


def test_every_block_has_a_source_and_a_method(published):
    assert set(published) == set(NAMES)
    assert all(block["source"] for block in published.values())


def test_a_changed_default_is_told_with_method_organ_field_and_both_values():
    told = differences("fpi, lung", {"lr": 2e-3, "alpha": (0.05, 0.95)}, {"lr": 1e-3, "alpha": [0.05, 0.95], "new": 1})
    assert told == ["fpi, lung: lr is 0.002, published 0.001", "fpi, lung: new is 'missing', published 1"]


@pytest.mark.parametrize("name", [name for name in NAMES if KNOWN.card(name).trainer])
def test_methods_that_share_a_training_have_its_settings_and_its_code(name):
    own, shared = KNOWN.get(name), KNOWN.get(KNOWN.card(name).trainer)
    assert own.__module__ == shared.__module__
    assert own.fit is shared.fit
    for profile in PROFILES:
        for anatomy in own.card.anatomy:
            fit, score = by_stage(resolve(own.Config, profile, anatomy))
            wanted, at_least = by_stage(resolve(shared.Config, profile, anatomy))
            assert fit == wanted
            assert set(score) >= set(at_least)


def test_small_profiles_use_the_backbone_of_the_package():
    for cls in (KNOWN.get(name) for name in NAMES):
        if issubclass(cls, FeatureMethod):
            smoke, *rest = (resolve(cls.Config, profile) for profile in ("smoke", "quick", "standard"))
            assert {config.backbone for config in rest} == {LITE0}
            assert smoke.backbone == LITE0 or (smoke.backbone, smoke.weights) == (TINY, "random")


@pytest.mark.parametrize("name", [name for name in NAMES if KNOWN.card(name).family != "trivial"])
def test_every_learned_method_has_standard_settings_that_follow_the_rules(name):
    config = KNOWN.get(name).Config
    assert "standard" in config.profiles
    for anatomy in KNOWN.card(name).anatomy:
        standard, paper = (resolve(config, profile, anatomy) for profile in ("standard", "paper"))
        for rate in ("lr", "encoder_lr"):
            if published := getattr(paper, rate, None):
                allowed = max(published, min(10 * published, 1e-3))
                first = getattr(standard, "first_lr", None) or getattr(standard, rate)
                assert any(first == pytest.approx(allowed / 3**k, rel=0.15) for k in range(3)), rate
                assert getattr(standard, rate) == (published if hasattr(standard, "first_lr") else first)
        if isinstance(standard, SliceConfig):
            assert standard.size >= 128
            assert standard.window == paper.window


REFUSED = {
    "anoddpm": [
        *(({key: 0}, key) for key in ("distance", "jumps", "repeats")),
        *(({key: value}, key) for key, value in (("distance", 1001), ("train_steps", 2000))),
    ],
    "anomaly-dino": [
        ({"size": 500}, "size=500: vit_small_patch14_dinov2.lvd142m has patches of 14 pixels; use 490 or 504"),
        *(({"coverage": share}, "coverage") for share in (0.0, 1.1)),
    ],
    "asc-net-post": [({"kernel": k}, "odd number") for k in (0, 2, -1)],
    "bayesian-vae": [(values, "set dropout above 0") for values in ({"dropout": 0.0}, {"samples": 0})],
    "cddpm": [({"layers": (1, 1)}, "layers="), ({"patch": 48}, "cells of 32"), ({"hidden": 1.0}, "hidden=1.0")],
    "dpmm": [({key: 0}, key) for key in ("components", "slices", "step", "epsilon", "alpha")],
    "disyre": [({"calls": calls}, "calls=") for calls in (0, 101)],
    "vqvae-prior": [({"patch": p}, "multiple of 8") for p in (8, 100)]
    + [({"orders": ()}, "at least one"), ({"rate": 0.0}, "rate=0.0"), ({"lsr_rate": 1.0}, "lsr_rate=1.0")],
    "local-residual": [({"size": "4"}, "odd")],
    "pddpm": [({"box": 36}, "box=36"), ({"box": 0}, "box=0"), *(({"distances": d}, "1 to") for d in ("", "0", "1001"))],
    "normnet": [({"votes": votes}, f"votes={votes}: only an odd number") for votes in ("-1", "0", "2")]
    + [({"member": member}, f"member={member}: choose one of the 5 members") for member in ("0", "6")]
    + [({"edge_share": "50.0"}, "edge_share=50.0: choose a share")],
    "screener-lite": [
        *(({"crop": crop}, "multiples of 16") for crop in ((32, 64, 40), (16, 16, 16))),
        *(({"blocks": sides}, "blocks=") for sides in ((0, 8), (9, 8), (8, 33))),
        *(({"masked": share}, "masked=") for share in ((0.5, 0.2), (0.5, 1.0))),
    ],
    "subspace-ad": [({"explained": 0.0}, "explained"), ({"kernel": 4}, "odd number")],
    "synthetic-tumors": [({"crop": (96, 96, 64)}, "crop")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_settings_are_refused(name):
    config = KNOWN.get(name).Config
    for values, said in REFUSED[name]:
        with pytest.raises(ConfigError, match=said):
            resolve(config, "paper", None, values)


def marked(field: str) -> dict[str, set[str]]:
    cards = map(KNOWN.card, NAMES)
    return {card.name: set(getattr(card, field)) for card in cards if getattr(card, field)}


def test_only_these_are_near_chance_in_the_literature_or_do_not_learn_in_their_quick_profile():
    lung = ["ae", "bayesian-vae", "constrained-vae", "cutpaste", "fpi", "gmvae", "padim", "reverse-distillation"]
    lung += ["vae", "vae-original", "vae-spatial"]
    both = ["asc-net", "asc-net-post", "nsa"]
    chance = ("kl-grad", "kl-grad-combi", "vae-restoration")
    assert marked("near_chance") == {name: {"liver", "lung"} for name in chance}
    undertrained = {name: {"lung"} for name in lung} | {name: {"liver", "lung"} for name in both}
    assert marked("undertrained") == undertrained | {"vqvae-prior": {"liver"}}


class Recorder(optuna.trial.FixedTrial):
    """A trial that takes the first choice or the lower bound, and refuses a name that it was asked before."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: dict[str, Any] = {}

    def _answer(self, name: str, value: Any) -> Any:
        assert name not in self.asked, f"{name} is suggested twice"
        self.asked[name] = value
        return value

    def suggest_float(self, name: str, low: float, high: float, **options: Any) -> float:
        assert low < high
        return self._answer(name, low)

    def suggest_int(self, name: str, low: int, high: int, **options: Any) -> int:
        assert low < high
        return self._answer(name, low)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, choices[0])


@pytest.mark.parametrize("name", KNOWN.names())
def test_suggestions_are_settings(name):
    cls = KNOWN.get(name)
    trial = Recorder()
    found = cls(cls.Config()).search_space(trial)
    assert set(found) == set(trial.asked)
    resolve(cls.Config, settings=found)
