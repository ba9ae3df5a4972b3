"""What a method gives back is checked where it is called, and named with what was expected."""

import numpy as np
import pytest
from uasbench.benchmark.stages import drive
from uasbench.benchmark.stages.drive import MethodError
from uasbench.methods.trivial.baselines import HuDeviation


@pytest.fixture
def method() -> HuDeviation:
    return HuDeviation()


def test_masked_arrays_are_refused_because_their_mask_would_be_lost(method):
    support = np.ones((2, 3, 4), bool)
    masked = np.ma.masked_less(np.random.default_rng(0).random(support.shape, np.float32), 0.5)
    with pytest.raises(MethodError, match=r"masked array, whose mask would be lost; return map\.filled"):
        drive.check_map(method, masked, support, "c")
    with pytest.raises(MethodError, match="MaskedArray, expected bool"):
        drive.check_mask(method, np.ma.array(support), support.shape, "c")


@pytest.mark.parametrize("said", [3, None, {"weights": 3}, {3: "weights"}, [("weights", "none")]])
def test_what_a_method_says_of_its_origin_is_text_or_refused(method, said, monkeypatch):
    assert drive.origin_of(method) == {}
    monkeypatch.setattr(method, "provenance", lambda: said)
    with pytest.raises(MethodError, match=r"provenance\(\) returned .*; return a dictionary of texts"):
        drive.origin_of(method)


@pytest.mark.parametrize("given", [float("nan"), float("inf"), "5", True, np.ones(2), 1j])
def test_a_threshold_of_a_method_is_a_finite_number_or_refused(method, given, monkeypatch):
    monkeypatch.setattr(method, "native_threshold", np.float32(5))
    assert drive.threshold_of(method) == 5
    monkeypatch.setattr(method, "native_threshold", given)
    with pytest.raises(MethodError, match=r"native_threshold is .*, expected a finite"):
        drive.threshold_of(method)
