"""Whether training helps: by how much, on which slices, and when that stays open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score
from uasbench import MethodCard, View
from uasbench.benchmark.conformance import learning
from uasbench.benchmark.conformance.learning import average_precision
from uasbench.benchmark.conformance.run import run_checks
from uasbench.benchmark.conformance.subject import NotApplicable, Subject

AFFORDABLE = learning._affordable  # a fixture replaces it by a fixed number


@given(
    scores=hnp.arrays(np.float32, 40, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0])),
    truth=hnp.arrays(bool, 40).filter(lambda t: t.any()),
)
def test_average_precision_is_scikit_learns(scores, truth):
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-9)


@pytest.mark.slow
def test_training_that_does_not_help_is_found_unless_the_card_admits_it(tiny_net, failures, wrong):
    def score_view(self, array, roi, spacing):
        return np.zeros_like(array)

    assert "training does not help" in wrong("learns", tiny_net, score_view=score_view)
    card = MethodCard(name="tiny-net", title="A tiny network", near_chance=("liver",), notes="Too small a budget.")
    assert not failures(tiny_net, "learns", score_view=score_view, card=card)


def test_what_small_slices_do_not_show_is_tried_on_those_of_quick(tiny_net, variant):
    @dataclass(frozen=True)
    class Sized(tiny_net.Config):
        size: int = 64
        profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "smoke": {"updates": 2, "size": 16},
            "quick": {"updates": 300, "size": 32},
        }

    def score_view(self, array, roi, spacing):
        return tiny_net.score_view(self, array, roi, spacing) if self.config.size == 32 else np.zeros_like(array)

    members = {
        "Config": Sized,
        "view": property(lambda self: View(size=self.config.size, window=self.config.window)),
        "score_view": score_view,
    }
    *_, result = run_checks(variant(tiny_net, **members), only=("learns",))
    assert result.passed
    assert result.detail.index("slices of 16²") < result.detail.index("slices of 32²")
    card = MethodCard(name="tiny-net", title="A tiny network", undertrained=("liver",), notes="Too small a budget.")
    *_, result = run_checks(variant(tiny_net, **members, card=card), only=("learns",))
    assert result.skipped
    assert "32²" not in result.detail


def test_a_training_that_is_slow_to_start_is_not_called_a_failure(tiny_net, monkeypatch):
    monkeypatch.setattr(learning, "LEARNING_S", 0.0)
    subject = Subject(tiny_net, "liver", "cpu")
    with pytest.raises(NotApplicable, match="too long to tell"):
        AFFORDABLE(subject, subject.config())
