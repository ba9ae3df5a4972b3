"""Energy of stages that share a GPU: nothing is lost and nothing counted twice."""

import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.executors import local
from uasbench.benchmark.executors.energy import JOULES_PER_KWH, Meter, counter


class Card:
    """A GPU whose counter a test turns."""

    def __init__(self):
        self.joules = 0.0

    def __call__(self, gpu):
        return self.joules


def test_stages_that_share_a_card_share_what_it_takes_meanwhile():
    card = Card()
    meter = Meter(card)
    meter.start("first", "0")
    card.joules += 3.6e6
    meter.start("second", "0")
    card.joules += 7.2e6
    assert meter.end("first") == pytest.approx(2)
    card.joules += 3.6e6
    assert meter.end("second") == pytest.approx(2)
    card.joules += 1e9  # an idle card is nobody's
    meter.start("third", "0")
    assert meter.end("third") == 0
    assert meter.end("measured on a core") is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1e6)), max_size=40))
def test_the_shares_of_all_stages_add_up_to_what_the_card_took_while_any_ran(steps):
    card, running, busy, told = Card(), set[str](), 0.0, 0.0
    meter = Meter(card)
    for name, joules in steps:
        if name in running:
            told += meter.end(name) or 0.0
        else:
            meter.start(name, "0")
        running ^= {name}
        card.joules += joules
        busy += joules if running else 0.0
    told += sum(meter.end(name) or 0.0 for name in running)
    assert told * JOULES_PER_KWH == pytest.approx(busy, abs=1e-3)


def test_a_counter_that_fails_once_leaves_no_number():
    readings = iter([0.0, None, 5.0, 6.0, 9.0])
    meter = Meter(lambda _: next(readings))
    meter.start("a", "0")
    meter.start("b", "0")
    meter.start("c", "0")
    assert meter.end("a") is meter.end("b") is None


def test_the_card_is_asked_by_number_or_uuid(monkeypatch):
    class NVMLError(Exception):
        pass

    def by_uuid(name):
        if name != "GPU-1":
            raise NVMLError
        return name

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetTotalEnergyConsumption={0: 1500, "GPU-1": 2500}.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert (counter("0"), counter("GPU-1"), counter("GPU-2")) == (1.5, 2.5, None)


def test_a_run_tells_the_energy_of_its_stages_and_the_table_that_of_its_cells(run, monkeypatch):
    """Nobody has a GPU here: stages on cores are taken for stages on one."""
    monkeypatch.setattr(local, "Meter", partial(Metering, {"fit": 1.0, "map": 0.25}))
    done = run("hu-deviation")
    told = done.folder.info()["energy_kwh"]
    assert {name.partition("-")[0]: kwh for name, kwh in told.items()} == {"fit": 1.0, "map": 0.25}
    assert done.tables.cost["energy_kwh"].tolist() == [1.25]


class Metering(Meter):
    """Says what the stages of each kind took."""

    def __init__(self, kwh, *arguments):
        super().__init__(*arguments)
        self.kwh = kwh

    def end(self, job):
        return self.kwh.get(job.partition("-")[0])


def test_a_machine_without_a_card_has_no_counter():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert counter("0") is None
