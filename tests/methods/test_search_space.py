"""What methods suggest to a tuner: each setting once, every one a setting of the method."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.methods.config import resolve


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
