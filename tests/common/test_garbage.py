"""The collector rests for a while and then does what it did before."""

import gc

import pytest
from uasbench.common.garbage import uncollected


@pytest.fixture(autouse=True)
def collecting():
    yield
    gc.enable()


def fails():
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ValueError("inside")


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_as_before_afterwards_also_after_an_error(before):
    (gc.enable if before else gc.disable)()
    with pytest.raises(ValueError, match="inside"):
        fails()
    assert gc.isenabled() is before
