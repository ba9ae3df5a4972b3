"""Every trained method beats its own untrained self on the phantom by more than the spread over three seeds.

``pytest -m slow -s tests/methods/test_learning.py`` prints the figures; it takes an hour on two cores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from uasbench.benchmark import registry
from uasbench.benchmark.outline import missing_packages
from uasbench.benchmark.planning.task_data import SPLIT_SEED
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.datasets.seeds import derive, seed_everything
from uasbench.datasets.splits import split_healthy
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
SETS = {"liver": ("btcv", "lits"), "lung": ("luna16", "coronacases")}
WITHOUT_LOSS = {"padim", "patchcore"}  # they collect features; their curves are counts
TRAINED = [name for name in registry.methods().names() if not registry.methods().card(name).trivial]

Phantom = tuple[list[Case], list[tuple[Case, np.ndarray]]]


@pytest.fixture(scope="module", params=SETS)
def phantom(request, tmp_path_factory) -> tuple[str, Phantom]:
    """The anatomy, its healthy scans for training, and its scans with lesions."""
    anatomy = request.param
    root = phantom_root(Path(tmp_path_factory.mktemp("phantom")), anatomy=anatomy, seed=0, size="quick")
    healthy, tested = (registry.datasets().get(name)() for name in SETS[anatomy])
    scans = [healthy.load(scan.id) for scan in healthy.discover(root)]
    split = split_healthy({case.id: case.patient for case in scans}, {}, SPLIT_SEED)
    train = [case for case in scans if case.id in dict(split.train)]
    test = [(tested.load(scan.id), tested.load_truth(scan.id).lesion) for scan in tested.discover(root)]
    return anatomy, (train, test)


def precision(
    name: str, anatomy: str, phantom: Phantom, seed: int, max_updates: int | None
) -> tuple[float, list[float]]:
    """Return the average precision over the voxels of all organs, and the losses of the training."""
    train, test = phantom
    cls = registry.methods().get(name)
    losses: dict[str, list[float]] = {}

    def keep(_: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            losses.setdefault(key, []).append(value)

    seed_everything(derive(seed, "weights"))
    method = cls(resolve(cls.Config, "quick", anatomy, {}))
    if reason := method.skip():
        pytest.skip(reason)
    method.build()
    unlabelled = HealthySet.from_cases([case for case, _ in test]) if cls.card.uses == "unlabelled-test" else None
    method.fit(
        HealthySet.from_cases(train),
        FitContext(seed=seed, max_updates=max_updates, on_log=keep, unlabelled=unlabelled),
    )
    truth = np.concatenate([lesion[case.roi] for case, lesion in test])
    scores = np.concatenate([method.score(case)[case.roi] for case, _ in test])
    return float(average_precision_score(truth, scores)), next(iter(losses.values()), [])


@pytest.mark.parametrize("name", TRAINED)
def test_training_helps_by_more_than_the_spread_over_seeds(name, phantom):
    anatomy, scans = phantom
    card = registry.methods().card(name)
    if missing := missing_packages(registry.methods().outline(name).packages):
        pytest.skip(missing)
    if anatomy not in card.anatomy:
        pytest.skip(f"{name} is not for the {anatomy}")
    trained = [precision(name, anatomy, scans, seed, None) for seed in SEEDS]
    if name not in WITHOUT_LOSS:
        assert all(np.mean(losses[-5:]) < losses[0] for _, losses in trained), "the training loss does not fall"
    untrained = [precision(name, anatomy, scans, seed, 0)[0] for seed in SEEDS]
    values = [value for value, _ in trained]
    gain, spread = np.mean(values) - np.mean(untrained), np.std(values, ddof=1)
    measured = f"AP {np.round(values, 3)} trained, {np.round(untrained, 3)} untrained"
    if anatomy in (*card.near_chance, *card.undertrained):
        pytest.skip(f"{measured}; marked in tables: {card.notes}")
    assert gain > spread, measured
    print(f"\n{name}, {anatomy}: {measured}")
