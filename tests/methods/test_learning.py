"""Every trained method beats its own untrained self on the phantom.

At `quick` by more than the spread over three seeds, and a mark on the card that says otherwise may stay until the gain
is clear as ``bench check`` takes it; at `standard` with one seed, and chance too.
``pytest -m slow -s tests/methods/test_learning.py`` prints the figures; it takes an hour on two cores, ``-m endurance``
a night. Top lines learn from every other patient with lesions and are scored on the rest. nnU-Net trains in processes
of its own, minutes each, and is checked by ``bench check``.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.outline import missing_packages
from uasbench.benchmark.conformance.learning import CLEARLY
from uasbench.benchmark.planning.task_data import SPLIT_SEED
from uasbench.common.seeds import derive, seed_everything
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.labelled import LabelledSet
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.datasets.splits import split_healthy
from uasbench.methods.config import Profile, resolve
from uasbench.methods.context import FitContext

SEEDS = (0, 1, 2)
SETS = {"liver": ("btcv", "lits"), "lung": ("luna16", "coronacases")}
# What training minimises, where that is not the first curve alone.
MINIMISED = {
    "anomaly-dino": (),  # these collect features, like padim, patchcore and subspace-ad; their curves are counts
    "draem": ("l2", "focal"),
    "f-anogan": ("encoder/loss",),  # in a game the curves of both sides may rise
    "layer-decomposition-finetuned": ("decomposition/loss", "fine-tuning/dice"),
    "padim": (),
    "patchcore": (),
    "subspace-ad": (),
    "two-stage": ("restoration/l1", "segmentation/focal"),
}
KNOWN = registry.runnable()
TRAINED = [
    name
    for name in KNOWN.names()
    if KNOWN.entry(name).built_in and not KNOWN.card(name).trivial and not name.startswith("nnunet")
]

Phantom = tuple[list[Case], list[tuple[Case, np.ndarray]]]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Return what makes phantoms by anatomy and size: their healthy scans for training, their scans with lesions."""
    folder = Path(tmp_path_factory.mktemp("phantom"))

    @lru_cache(maxsize=1)
    def made(anatomy: str, size: str) -> Phantom:
        return scans_of(phantom_root(folder, anatomy=anatomy, seed=0, size=size), anatomy)

    return made


def scans_of(root: Path, anatomy: str) -> Phantom:
    healthy, tested = (registry.datasets().get(name)() for name in SETS[anatomy])
    scans = [healthy.load(scan.id) for scan in healthy.discover(root)]
    split = split_healthy({case.id: case.patient for case in scans}, {}, SPLIT_SEED)
    train = [case for case in scans if case.id in dict(split.train)]
    test = [(tested.load(scan.id), tested.load_truth(scan.id).lesion) for scan in tested.discover(root)]
    return train, test


def precision(
    name: str, anatomy: str, profile: Profile, scans: Phantom, seed: int, max_updates: int | None
) -> tuple[float, dict[str, list[float]]]:
    """Return the average precision over the voxels of all organs, and the curves of the training by name."""
    healthy, test = scans
    cls = KNOWN.get(name)
    train: HealthySet | LabelledSet = HealthySet.from_cases(healthy)
    if cls.card.uses == "labels":
        train, test = LabelledSet.from_cases(test[::2]), test[1::2]
    losses: dict[str, list[float]] = {}

    def keep(_: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            losses.setdefault(key, []).append(value)

    seed_everything(derive(seed, "weights"))
    method = cls(resolve(cls.Config, profile, anatomy, {}))
    if reason := method.skip():
        pytest.skip(reason)
    method.build()
    unlabelled = HealthySet.from_cases([case for case, _ in test]) if cls.card.uses == "unlabelled-test" else None
    method.fit(train, FitContext(seed=seed, max_updates=max_updates, on_log=keep, unlabelled=unlabelled))
    truth = np.concatenate([lesion[case.roi] for case, lesion in test])
    scores = np.concatenate([method.score(case)[case.roi] for case, _ in test])
    return float(average_precision_score(truth, scores)), losses


def skip_if_not_for(name: str, anatomy: str) -> None:
    if missing := missing_packages(KNOWN.outline(name).packages):
        pytest.skip(missing)
    if anatomy not in KNOWN.card(name).anatomy:
        pytest.skip(f"{name} is not for the {anatomy}")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("anatomy", SETS)
def test_training_helps_by_more_than_the_spread_over_seeds(anatomy, name, phantoms):
    skip_if_not_for(name, anatomy)
    card, scans = KNOWN.card(name), phantoms(anatomy, "quick")
    trained = [precision(name, anatomy, "quick", scans, seed, None) for seed in SEEDS]
    for _, losses in trained:
        for curve in MINIMISED.get(name, tuple(losses)[:1]):
            assert np.mean(losses[curve][-5:]) < losses[curve][0], f"{curve} does not fall"
    untrained = [precision(name, anatomy, "quick", scans, seed, 0)[0] for seed in SEEDS]
    values = [value for value, _ in trained]
    gain, spread = np.mean(values) - np.mean(untrained), np.std(values, ddof=1)
    measured = f"AP {np.round(values, 3)} trained, {np.round(untrained, 3)} untrained"
    if anatomy in card.near_chance:
        pytest.skip(f"{measured}; near chance in the literature: {card.notes}")
    if anatomy in card.undertrained:
        assert gain <= max(spread, CLEARLY), f"{measured}: it learns by now; take the mark off its card"
        pytest.skip(f"{measured}; marked in tables: {card.notes}")
    assert gain > spread, measured
    print(f"\n{name}, {anatomy}: {measured}")


@pytest.mark.endurance
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("anatomy", SETS)
def test_at_standard_a_trained_method_beats_chance_and_its_untrained_self(anatomy, name, phantoms):
    skip_if_not_for(name, anatomy)
    scans = phantoms(anatomy, "standard")
    trained, untrained = (precision(name, anatomy, "standard", scans, 0, most)[0] for most in (None, 0))
    chance = precision("random", anatomy, "standard", scans, 0, None)[0]
    measured = f"AP {trained:.3f} trained, {untrained:.3f} untrained, {chance:.3f} by chance"
    if anatomy in KNOWN.card(name).near_chance:
        pytest.skip(f"{measured}; near chance in the literature: {KNOWN.card(name).notes}")
    assert trained > max(untrained, chance), measured
    print(f"\n{name}, {anatomy}: {measured}")
