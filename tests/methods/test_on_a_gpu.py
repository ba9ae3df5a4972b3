"""What a GPU keeps of every method: the same bits again, with code untried there and beside others, and no waiting."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from uasbench.benchmark import device as devices
from uasbench.benchmark.stages import compiling
from uasbench.common.untried import ASKED
from uasbench.methods import ahead, training
from uasbench.methods.training import autocast

from .test_compiled import REFUSED
from .test_every_method import IN_ANOTHER_PROCESS, KNOWN, NAMES, ONE_PASS, Trainings, where_it_runs

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
HERE = [name for name in NAMES if name not in IN_ANOTHER_PROCESS]
LARGE_BATCHES = {"anoddpm", "cutpaste"}  # which code untried on GPUs scores in, so that last bits may change
WAITING = {"normnet"}  # docs/performance.md
WARM, UPDATES = 1, 4
COMPILED_WARM, COMPILED_UPDATES = 3, 6  # CUDA graphs are captured in the first ones
LONGER = {"screener-lite": {"updates": UPDATES, "density_updates": UPDATES}}
TRAINING = """
import sys
from pathlib import Path
from uasbench.benchmark import device
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.conformance.subject import Subject
name, where, path = sys.argv[1:]
device.configure(where, 1)
subject = Subject(registry.runnable().get(name), "liver", where)
subject.train(config=subject.config("quick"), max_updates=150).save(Path(path))
"""


def subject_of(name: str) -> Trainings:
    """The trainings of a method on the GPU, with the settings of a stage."""
    on_the_cpu = next(where_it_runs(name))
    devices.configure(DEVICE, 1)
    return Trainings(on_the_cpu.cls, on_the_cpu.anatomy, DEVICE)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", HERE)
def test_a_gpu_gives_the_same_bits_again_and_code_untried_there_the_same_weights(
    name, precision, tmp_path, monkeypatch
):
    subject, weights, maps = subject_of(name), [], []
    for untried in ("0", "0", "1"):
        monkeypatch.setenv(ASKED, untried)
        method = subject.train(precision=precision)
        method.save(tmp_path / "last.pt")
        weights.append((tmp_path / "last.pt").read_bytes())
        for _ in range(1 + int(untried)):
            with autocast(DEVICE, precision):
                maps += subject.maps(method, subject.cases()[:1]).values()
    assert weights[0] == weights[1]
    assert weights[0] == weights[2], "code untried on GPUs"
    plain, again, *of_untried = maps
    assert np.array_equal(plain, again)
    assert np.array_equal(*of_untried)
    assert name in LARGE_BATCHES or np.array_equal(plain, of_untried[0]), "scores copied while the next are computed"


@pytest.mark.parametrize("name", [n for n in HERE if n not in REFUSED and not KNOWN.card(n).trivial])
def test_compiled_trainings_have_the_same_bits_again(name, tmp_path):
    subject, weights = subject_of(name), []
    for _ in range(2):
        method = subject.train(precision="bf16", max_updates=COMPILED_UPDATES, compiled=True)
        outcome = compiling.outcome(method)
        assert outcome["frames"] or name in ONE_PASS, compiling.in_words(outcome)
        method.save(tmp_path / "last.pt")
        weights.append((tmp_path / "last.pt").read_bytes())
    assert weights[0] == weights[1]


def test_a_network_is_captured_in_cuda_graphs():
    method = subject_of("ae").train(precision="bf16", max_updates=COMPILED_UPDATES, compiled=True)
    outcome = compiling.outcome(method)
    assert outcome["frames"] > 0
    assert outcome["without_cuda_graphs"] == 0, compiling.in_words(outcome)


def test_stages_that_share_a_gpu_give_the_bits_of_one_alone(tmp_path):
    def start(name: str, path: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-P", "-c", TRAINING, name, DEVICE, path])

    names = ["two-stage", "ae", "two-stage"]
    for name in set(names):
        (tmp_path / name).mkdir()
        assert start(name, tmp_path / name / "last.pt").wait() == 0
    beside = []
    for i, name in enumerate(names):
        (tmp_path / str(i)).mkdir()
        beside.append(start(name, tmp_path / str(i) / "last.pt"))
    assert [process.wait() for process in beside] == [0, 0, 0]
    for i, name in enumerate(names):
        assert (tmp_path / str(i) / "last.pt").read_bytes() == (tmp_path / name / "last.pt").read_bytes()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [n for n in HERE if n not in ONE_PASS and not KNOWN.card(n).trivial])
def test_an_update_waits_for_nothing_once_it_is_warm(name, compiled, monkeypatch):
    if compiled and name in REFUSED:
        pytest.skip("such a fit is not compiled")
    warm_after, updates = (COMPILED_WARM, COMPILED_UPDATES) if compiled else (WARM, UPDATES)
    monkeypatch.setenv(ASKED, "1")
    monkeypatch.setattr(ahead, "untried", lambda device: False)  # batches are drawn within the update
    monkeypatch.setattr(training, "CURVE_POINTS", 1)  # losses are read after the first update and the last one
    subject, watched = subject_of(name), 0
    longer: dict[str, Any] = dict(LONGER.get(name, {}))
    if compiled and "updates" in vars(subject.config()):
        longer["updates"] = updates
    config = subject.config(**longer)

    def on_progress(done: int, total: int) -> None:
        nonlocal watched
        warm = done == warm_after < total - 1
        torch.cuda.set_sync_debug_mode("error" if warm else "default")
        watched += warm

    how = {"config": config, "max_updates": updates, "precision": "bf16", "compiled": compiled}
    try:
        if name in WAITING:
            with pytest.raises(RuntimeError, match="synchronizing"):
                subject.train(**how, on_progress=on_progress)
        else:
            subject.train(**how, on_progress=on_progress)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if compiled and not watched:
        pytest.skip("its loops are over before their graphs are captured")
    assert watched
