"""What cards and methods say beside their settings: marks that excuse from learning tests, and search spaces."""

from typing import Any

import optuna
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.methods.config import resolve


def marked(field: str) -> dict[str, set[str]]:
    known = registry.runnable()
    cards = (known.card(name) for name in known.names() if known.entry(name).built_in)
    return {card.name: set(getattr(card, field)) for card in cards if getattr(card, field)}


def test_only_these_are_near_chance_in_the_literature():
    both = {"liver", "lung"}
    assert marked("near_chance") == {"kl-grad": both, "kl-grad-combi": both, "vae-restoration": both}


def test_only_these_do_not_learn_in_their_quick_profile():
    lung = ["ae", "bayesian-vae", "constrained-vae", "cutpaste", "fpi", "gmvae", "padim", "reverse-distillation"]
    lung += ["vae", "vae-original", "vae-spatial"]
    both = ["asc-net", "asc-net-post"]
    assert marked("undertrained") == {name: {"lung"} for name in lung} | {name: {"liver", "lung"} for name in both}


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


@pytest.mark.parametrize("name", registry.runnable().names())
def test_suggestions_are_settings(name):
    cls = registry.runnable().get(name)
    trial = Recorder()
    found = cls(cls.Config()).search_space(trial)
    assert set(found) == set(trial.asked)
    resolve(cls.Config, settings=found)
