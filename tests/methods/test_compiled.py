"""Every method trains with compiled networks as it does without, or its fit says what did not compile."""

import pytest
from uasbench.benchmark import device as devices
from uasbench.benchmark.stages import compiling

from .test_every_method import IN_ANOTHER_PROCESS, KNOWN, NAMES, ONE_PASS, Trainings, where_it_runs

TRAINED = [name for name in NAMES if name not in IN_ANOTHER_PROCESS and not KNOWN.card(name).trivial]
REFUSED = {"f-anogan": "double backward"}
"""Gradients of gradients are not compiled: such a fit begins again without."""
TOLERANCE = 1e-3


def losses(subject: Trainings, *, compiled: bool) -> tuple[dict[str, float], dict]:
    """Return the losses of the first update, and what was compiled."""
    logged: list[dict[str, float]] = []
    method = subject.train(compiled=compiled, on_log=lambda _, values: logged.append(values))
    return logged[0] if logged else {}, compiling.outcome(method) if compiled else {}


@pytest.mark.timeout(0)  # two-stage takes minutes of a core to compile
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n != "ae" else []) for n in TRAINED])
def test_compiled_networks_learn_the_same(name):
    devices.configure("cpu", 1)
    subject = next(where_it_runs(name))
    if name in REFUSED:
        with pytest.raises(RuntimeError, match=REFUSED[name]) as raised:
            losses(subject, compiled=True)
        assert compiling.suspected(raised.value)
        return
    plain, _ = losses(subject, compiled=False)
    found, outcome = losses(subject, compiled=True)
    assert found == pytest.approx(plain, rel=TOLERANCE, abs=TOLERANCE)
    assert outcome["frames"] > 0 or name in ONE_PASS, outcome
    print(compiling.in_words(outcome), f"{outcome['seconds']:.0f} s")
