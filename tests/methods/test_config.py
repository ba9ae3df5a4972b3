from dataclasses import dataclass, field
from typing import Literal

import pytest
from uasbench import Method, View
from uasbench.datasets.anatomy import find_anatomy
from uasbench.methods.config import SOFT_ORGANS, Config, ConfigError, SliceConfig, by_stage, complete, in_force, resolve


@dataclass(frozen=True)
class Settings(Config):
    updates: int = 1000
    lr: float = 1e-3
    window: tuple[float, float] = (-200.0, 250.0)
    widths: tuple[int, ...] = (8, 16)
    budget: Literal["seed2", "baur"] = "seed2"
    limit: int | None = None
    equalise: bool = False
    sigma: float = field(default=2.0, metadata={"stage": "score"})

    profiles = {"smoke": {"updates": 2}, "quick": {"updates": 50, "window": (0.0, 1.0)}}
    anatomies = {"lung": {"window": (-800.0, 100.0)}}


def test_defaults_profile_anatomy_settings_in_this_order_and_a_budget_where_nothing_is_set():
    assert resolve(Settings).updates == 1000
    assert resolve(Settings, "quick").window == (0.0, 1.0)
    assert resolve(Settings, "quick", "lung").window == (-800.0, 100.0)
    assert resolve(Settings, "quick", "lung", {"window": "-1,1"}).window == (-1.0, 1.0)
    assert (in_force(Settings, "standard"), in_force(Settings, "paper")) == ("quick", "paper")
    assert resolve(Settings, "standard") == resolve(Settings, "quick")  # the paper's settings would train for days
    settings = Settings(limit=None, lr=0.1)
    complete(settings, {"limit": 7, "lr": 0.5})
    assert (settings.limit, settings.lr) == (7, 0.1)
    changed = Settings.profiles_with(quick={"updates": 60}, paper={"lr": 0.5})
    assert changed["quick"] == {"updates": 60, "window": (0.0, 1.0)}
    assert (changed["smoke"], changed["paper"]) == ({"updates": 2}, {"lr": 0.5})


TEXTS = {
    "updates": [("7", 7), (7.0, 7)],
    "lr": [("1e-4", 1e-4), (2, 2.0)],
    "widths": [("(1, 2, 3)", (1, 2, 3)), ([4], (4,))],
    "budget": [("baur", "baur")],
    "limit": [("none", None), ("5", 5)],
    "equalise": [("on", True), (False, False)],
}
WRONG = {
    "updates": ["1.5", "many", True],
    "lr": ["fast"],
    "window": ["1", "1,b"],
    "budget": ["none"],
    "limit": ["x"],
    "equalise": ["maybe"],
}


@pytest.mark.parametrize("key", [*TEXTS, "window"])
def test_texts_become_field_types_or_are_refused_by_name(key):
    for text, value in TEXTS.get(key, []):
        assert getattr(resolve(Settings, settings={key: text}), key) == value
    for text in WRONG.get(key, []):
        with pytest.raises(ConfigError, match=key):
            resolve(Settings, settings={key: text})


def test_an_unknown_key_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'updates'"):
        resolve(Settings, settings={"update": 1})
    with pytest.raises(ConfigError, match=r"'zzz'\. Known: updates"):
        resolve(Settings, settings={"zzz": 1})
    with pytest.raises(ConfigError, match="unknown profile"):
        resolve(Settings, "fast")


def test_score_fields_are_kept_apart_from_fit_fields():
    fit, score = by_stage(Settings())
    assert score == {"sigma": 2.0}
    assert "sigma" not in fit
    assert fit["updates"] == 1000


def test_a_method_sees_the_view_of_its_settings_or_the_native_grid():
    assert Method(resolve(SliceConfig, "paper", "lung", {"size": 64})).view == View(size=64, window=(-800.0, 100.0))
    assert Method(Settings()).view is None
    assert Method().view is None


@pytest.mark.parametrize("organ", SOFT_ORGANS)
def test_windows_of_organs_are_those_of_their_pictures(organ):
    assert resolve(SliceConfig, "paper", organ).window == find_anatomy(organ).window
