"""Updates and slices per second of every method at paper size on a GPU: plain, with autocast, and compiled.

``pytest -m gpu tests/perf/test_gpu_speed.py --benchmark-json=gpu.json`` prints a line per method and mode.
"""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.outline import missing_packages
from uasbench.benchmark.stages import drive
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.labelled import LabelledSet
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.state import modules
from uasbench.methods.training import autocast

pytestmark = [
    pytest.mark.perf,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE, PROFILE = "cuda", "paper"
MODES = {"plain": "fp32", "autocast": "bf16", "compiled": "bf16"}
UPDATES, WARM = 16, 6
ROUNDS = 3
KNOWN = registry.runnable()
TRAINED = [name for name in KNOWN.names() if KNOWN.entry(name).built_in and not KNOWN.card(name).trivial]
ELSEWHERE = {"nnunet": "trains in a process of nnU-Net's own", "nnunet-unseen": "trains in a process of nnU-Net's own"}
UNCOMPILED = {"f-anogan": "torch.compile differentiates once; the gradient penalty needs it twice"}
PUBLISHED_S_PER_SLICE = 0.018  # Zhang et al. 2023, §4, for the two-stage method
FASTER = 10


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Healthy phantoms, and phantoms with their lesions."""
    root = phantom_root(Path(tmp_path_factory.mktemp("phantom")), anatomy="liver", seed=0, size="quick")
    healthy, tested = (registry.datasets().get(name)() for name in ("btcv", "lits"))
    train = [healthy.load(scan.id) for scan in healthy.discover(root)]
    return train, [(tested.load(scan.id), tested.load_truth(scan.id).lesion) for scan in tested.discover(root)]


def built(name: str, mode: str) -> Any:
    """Build a method at paper size, its networks in the layout and the form of the mode."""
    cls = KNOWN.get(name)
    random = {"weights": "random"} if hasattr(cls.Config(), "weights") else None
    method: Any = drive.construct(cls, resolve(cls.Config, PROFILE, "liver", random), seed=0, device=DEVICE)
    layout = torch.contiguous_format if mode == "plain" else torch.channels_last
    for network in modules(method).values():
        network.to(memory_format=layout)
        if mode == "compiled":
            network.compile(dynamic=False)
    return method


def fit(method: Any, scans: Any, precision: str) -> float:
    """Train for a few updates and return updates per second, the first ones left out."""
    train, tested = scans
    ended: list[float] = []

    def on_progress(done: int, total: int) -> None:
        torch.cuda.synchronize()
        ended.append(time.perf_counter())

    uses = type(method).card.uses
    context = FitContext(
        seed=0,
        device=DEVICE,
        precision=precision,
        max_updates=UPDATES,
        on_progress=on_progress,
        unlabelled=HealthySet.from_cases([case for case, _ in tested]) if uses == "unlabelled-test" else None,
    )
    begun = time.perf_counter()
    method.fit(LabelledSet.from_cases(tested) if uses == "labels" else HealthySet.from_cases(train), context)
    torch.cuda.synchronize()
    spent = [later - earlier for earlier, later in itertools.pairwise(ended)][WARM:]
    return 1 / statistics.median(spent) if spent else max(len(ended), 1) / (time.perf_counter() - begun)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TRAINED)
def test_updates_and_slices_per_second(name, mode, scans, benchmark):
    for why in (ELSEWHERE.get(name), UNCOMPILED.get(name) if mode == "compiled" else None):
        if why:
            pytest.skip(why)
    if missing := missing_packages(KNOWN.outline(name).packages):
        pytest.skip(missing)
    if "liver" not in KNOWN.card(name).anatomy:
        pytest.skip(f"{name} is not for the liver")
    method = built(name, mode)
    updates = fit(method, scans, MODES[mode])
    case = scans[1][0][0]
    slices = int(case.roi.any((1, 2)).sum())

    def score() -> None:
        with autocast(DEVICE, MODES[mode]):
            method.score(case)
        torch.cuda.synchronize()

    benchmark.pedantic(score, rounds=ROUNDS, warmup_rounds=1)
    rate = slices / benchmark.stats.stats.median
    benchmark.extra_info.update(
        method=name,
        mode=mode,
        updates_per_s=updates,
        slices_per_s=rate,
        peak_gib=torch.cuda.max_memory_reserved() / 2**30,
    )
    print(f"\n{name}, {mode}: {updates:.2f} updates/s, {rate:.1f} slices/s")
    if name == "two-stage" and mode != "plain":
        assert rate * PUBLISHED_S_PER_SLICE >= FASTER, f"{1 / rate:.4f} s per slice"
