"""What every method promises, checked on each of them; one short training per seed serves all checks of a method."""

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from uasbench import Case, FitContext, HealthySet, LabelledSet, Method, View
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.conformance.checks import CHECKS
from uasbench.benchmark.conformance.phantom import healthy_cases
from uasbench.benchmark.conformance.subject import NotApplicable, Subject
from uasbench.benchmark.stages import drive
from uasbench.common.seeds import seed_everything
from uasbench.datasets.anatomy import find_anatomy
from uasbench.methods import ahead
from uasbench.methods.config import PROFILES, resolve
from uasbench.methods.context import HELD_OUT
from uasbench.methods.features.parts.backbone import FeatureMethod
from uasbench.methods.state import modules
from uasbench.methods.training import autocast

UPDATES = 2
RATES = ("lr", "encoder_lr", "beta1", "beta2", "momentum", "weight_decay", "l2")
KNOWN = registry.runnable()
NAMES = [name for name in KNOWN.names() if KNOWN.entry(name).built_in]
IN_ANOTHER_PROCESS = {"nnunet", "nnunet-unseen"}
NOISE_BY_POSITION = {"anoddpm", "cddpm", "pddpm"}
DRAWN_AHEAD = {
    *("normnet", "screener-lite", "synthetic-tumors", "mood-unet", "fpi", "pii", "nsa", "cutpaste"),
    *("layer-decomposition", "layer-decomposition-finetuned"),
}
ONE_PASS = {"padim", "patchcore", "anomaly-dino", "subspace-ad"}
ONE_OF_A_KIND = {"vae", "f-anogan", "draem", "two-stage", "cutpaste", "normnet", "stfpm", "anoddpm", "asc-net"}
RESUMED = [n for n in NAMES if not KNOWN.card(n).trivial and n not in {*ONE_PASS, *IN_ANOTHER_PROCESS}]
PROMISES = (
    *("fit and score", "inputs untouched", "same seed", "other seed"),
    *("save and load", "order and batch", "own decision", "restorations"),
)
OF_THE_TRAINING = ("same seed", "other seed")
CROPS_OF_32: dict[str, Any] = {"crop": (32, 32, 32), "size": 64, "spacing": (2.5, 2.5, 2.5)}
PAIRS: dict[str, Any] = {"batch": 2}
SMALLER_THAN_PUBLISHED: dict[str, dict[str, Any]] = {
    "anoddpm": {"jumps": 2},
    "asc-net": PAIRS,
    "asc-net-post": PAIRS,
    "cddpm": PAIRS,
    "cutpaste": {"density_crops": 8},
    "disyre": PAIRS,
    "draem": PAIRS,
    "f-anogan": PAIRS,
    "fpi": PAIRS,
    "layer-decomposition": CROPS_OF_32,
    "layer-decomposition-finetuned": CROPS_OF_32,
    "normnet": {"size": 128, **PAIRS},
    "pddpm": PAIRS,
    "pii": PAIRS,
    "reverse-distillation": PAIRS,
    "vqvae-prior": PAIRS,
    "vae-restoration": {"tv_grid": (1.8,), "steps": 20},
}


class Trainings(Subject):
    """The subject of ``bench check`` in small: two updates, random backbones, scans that all methods share.

    The global generators are seeded anew before each fit, so that what depends on them differs from fit to fit.
    """

    disturbances = itertools.count(1)

    def config(self, profile: str = "smoke", **settings: Any) -> Any:
        """Return settings that need no file of weights, with the published rates."""
        paper = vars(resolve(self.cls.Config, "paper", self.anatomy))
        random = {"weights": "random"} if "weights" in paper else {}
        return super().config(profile, **{key: paper[key] for key in RATES if key in paper} | random | settings)

    def context(self, seed: int, **options: Any) -> FitContext:
        return super().context(seed, **{"max_updates": UPDATES, **options})

    def scans(self, *, filled: bool = False) -> HealthySet | LabelledSet:
        return scans_of(self.anatomy, self.uses == "labels")

    def unlabelled(self, *, filled: bool = False) -> HealthySet | None:
        return scored(self.anatomy) if self.uses == "unlabelled-test" else None

    def cases(self) -> list[Case]:
        """Return a scan with dark lesions and one with bright lesions."""
        return list(scored(self.anatomy))

    def fresh(self, seed: int = 0, config: Any = None, *, compiled: bool = False) -> Any:
        return drive.construct(self.cls, config or self.config(), seed=seed, device=self.device, compiled=compiled)

    def train(self, seed: int = 0, config: Any = None, *, filled: bool = False, **context: Any) -> Any:
        surroundings = self.context(seed, unlabelled=self.unlabelled(), **context)
        method = self.fresh(seed, config, compiled=surroundings.compiled)
        seed_everything(next(self.disturbances))
        drive.fit(method, self.scans(), surroundings)
        return method

    @cached_property
    def trained(self) -> Any:
        """The method after two updates; ``optimisers`` keeps what they began with, ``modes`` how networks were left."""
        with optimisers_made() as self.optimisers:
            method = self.train()
        self.modes = modes(method)
        return method


def modes(method: Any) -> dict[str, list[bool]]:
    """Return which parts of each network are in training mode."""
    return {name: [part.training for part in net.modules()] for name, net in modules(method).items()}


@contextmanager
def optimisers_made() -> Iterator[list[tuple[type, list[dict[str, Any]]]]]:
    """Collect class and first parameter groups of every optimiser."""
    made: list[tuple[type, list[dict[str, Any]]]] = []
    begin = torch.optim.Optimizer.__init__

    def spied(self: torch.optim.Optimizer, *arguments: Any) -> None:
        begin(self, *arguments)
        made.append((type(self), [dict(group) for group in self.param_groups]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Optimizer, "__init__", spied)
        yield made


def told(kind: type, groups: list[dict[str, Any]], networks: dict[str, torch.nn.Module]) -> dict[str, Any]:
    """Return an optimiser as data: its networks, its rate, and what else is not PyTorch's default."""
    held = {id(p) for group in groups for p in group["params"]}
    names = [name for name, net in networks.items() if held & {id(p) for p in net.parameters()}]
    assert held == {id(p) for name in names for p in networks[name].parameters()}, "a part of a network"
    values: dict[str, Any] = {kind.__name__: names[0] if len(names) == 1 else names}
    for key, parameter in inspect.signature(kind).parameters.items():
        found = [group[key] for group in groups if key in group and key not in ("params", "fused")]
        if found and (key == "lr" or any(value != parameter.default for value in found)):
            values[key] = found[0] if found == found[:1] * len(found) else found
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@cache
def scans_of(anatomy: str, labelled: bool) -> HealthySet | LabelledSet:
    return Subject(KNOWN.get("supervised-unet" if labelled else "ae"), anatomy, "cpu").scans()


@cache
def scored(anatomy: str) -> HealthySet:
    return HealthySet.from_cases(Subject(KNOWN.get("ae"), anatomy, "cpu").cases()[:2])


def where_it_runs(name: str, start: int = 0) -> Iterator[Trainings]:
    """Yield the subject for each organ of the card from ``start`` on; skip the test where the method declines all."""
    cls, reasons = KNOWN.get(name), ["made for one organ"]
    for anatomy in (name for name in cls.card.anatomy[start:] if find_anatomy(name).tissue is not None):
        subject = Trainings(cls, anatomy, "cpu")
        reason = cls(subject.config()).skip()
        if reason is None:
            yield subject
            reasons = []
        elif reasons:
            reasons = [reason]
    if reasons:
        pytest.skip(reasons[0])


def each(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in IN_ANOTHER_PROCESS else ()) for name in names]


@pytest.fixture(scope="module", params=each(NAMES))
def subject(request: pytest.FixtureRequest) -> Trainings:
    """The trainings of one method, for the first organ that it runs on."""
    return next(where_it_runs(request.param))


@pytest.fixture(scope="module")
def loaded(subject: Trainings, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The trained method, saved and loaded, with the filter across slices off."""
    path: Path = tmp_path_factory.mktemp("state") / "last.pt"
    subject.trained.save(path)
    off = {"median": 0} if hasattr(subject.config(), "median") else {}
    return drive.load(subject.cls, replace(subject.config(), **off), path, "cpu")


def learned(method: Method) -> dict[str, torch.nn.Module]:
    """The networks of a method that have something to learn, and what is fitted without gradients."""
    return {name: net for name, net in modules(method).items() if fitted(net) or without_gradients(net)}


def fitted(net: torch.nn.Module) -> bool:
    return any(p.requires_grad for p in net.parameters())


def without_gradients(net: torch.nn.Module) -> bool:
    return getattr(net, "learns", False) is True


def same(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[key]) for key, value in state.items())


def changed(before: torch.nn.Module, after: torch.nn.Module) -> bool:
    own, other = ((net.buffers() if without_gradients(net) else net.parameters()) for net in (before, after))
    return any(not torch.equal(a, b) for a, b in zip(own, other, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_settings_resolve_and_the_window_is_that_of_the_organ(name):
    cls = KNOWN.get(name)
    CHECKS["settings"](Subject(cls, "liver", "cpu"))
    for anatomy in cls.card.anatomy:
        assert len({getattr(resolve(cls.Config, profile, anatomy), "window", None) for profile in PROFILES}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name):
    CHECKS["card"](Subject(KNOWN.get(name), "liver", "cpu"))


@pytest.mark.parametrize("promise", PROMISES)
def test_the_promises_of_the_contract_are_kept(subject, promise):
    if subject.cls.card.trainer and promise in OF_THE_TRAINING:
        return  # its code and its settings are those of another method here
    with suppress(NotApplicable):
        assert "do not depend on the seed" not in CHECKS[promise](subject)


@pytest.mark.parametrize(
    "name", [name if name in ONE_OF_A_KIND else pytest.param(name, marks=pytest.mark.slow) for name in RESUMED]
)
def test_a_training_that_is_killed_in_each_of_its_loops_ends_as_if_nobody_had_disturbed_it(name):
    assert CHECKS["resumed"](next(where_it_runs(name))).startswith("killed")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DRAWN_AHEAD))
def test_a_training_whose_batches_a_thread_draws_ahead_goes_on_after_a_kill(name, monkeypatch):
    monkeypatch.setattr(ahead, "untried", lambda device: True)
    assert CHECKS["resumed"](next(where_it_runs(name))).startswith("killed")


def test_no_updates_leave_the_untrained_method(subject):
    logged: list[int] = []
    untrained = subject.train(max_updates=0, on_log=lambda step, _: logged.append(step))
    done = getattr(untrained, "updates", 0)
    assert not logged
    assert not any(done.values() if isinstance(done, dict) else [done])
    for name, net in modules(subject.fresh()).items():
        assert same(net.state_dict(), modules(untrained)[name].state_dict()), name
    subject.maps(untrained, subject.cases()[:1])


def test_training_changes_every_network_and_its_statistics(subject):
    fresh, trained = modules(subject.fresh()), modules(subject.trained)
    for name in fresh.keys() - learned(subject.trained):
        assert same(fresh[name].state_dict(), trained[name].state_dict()), f"{name} is frozen"
    assert all(np.ptp(map_) > 0 for map_ in subject.reference.values())
    for name, net in learned(subject.trained).items():
        assert name not in fresh or changed(fresh[name], net), name
        means = [part.running_mean for part in net.modules() if isinstance(part, _BatchNorm)]
        assert all(mean.any() for mean in means if mean is not None), name


def test_a_training_that_is_watched_ends_with_the_same_weights(subject):
    card, points = subject.cls.card, dict[str, list[float]]()

    def keep(_: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            if key.rpartition("/")[2] == HELD_OUT:
                points.setdefault(key, []).append(value)

    held_out = None if subject.uses == "labels" else HealthySet.from_cases(healthy_cases(subject.anatomy)[3:])
    method = subject.train(held_out=held_out, on_log=keep)
    watched = modules(method)
    watched_modes = modes(method)
    for name, net in modules(subject.trained).items():
        assert same(net.state_dict(), watched[name].state_dict()), name
        assert subject.modes[name] == watched_modes[name], name
    learners = bool(subject.optimisers) or any(map(without_gradients, watched.values()))
    trains = learners and held_out is not None
    assert bool(points) == trains, card.name
    assert all(len(values) == 1 + UPDATES for values in points.values())


def test_the_optimisers_are_the_published_ones(subject, published):
    networks = modules(subject.trained)
    found = [told(kind, groups, networks) for kind, groups in subject.optimisers]
    if subject.cls.card.name not in IN_ANOTHER_PROCESS:
        assert found == published[subject.cls.card.name].get("optimisers", [])


def test_a_slice_scores_alone_as_among_others(subject, loaded):
    if not isinstance(loaded.view, View) or subject.cls.card.name in NOISE_BY_POSITION:
        return
    (case, *_) = subject.cases()
    whole = loaded.score(case)[2:3]
    assert np.allclose(loaded.score(case.crop_z(2, 3)), whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())


def test_a_pretrained_backbone_is_recorded_and_not_saved(subject, tmp_path):
    if isinstance(subject.trained, FeatureMethod):
        subject.trained.save(tmp_path / "state.pt")
        assert "backbone" not in torch.load(tmp_path / "state.pt", weights_only=True)
        recorded = subject.trained.provenance()
        assert (recorded["source"], len(recorded["sha256"])) == ("random", 64)
        assert not {"file", "hub"} & set(recorded)


def test_a_loaded_method_knows_its_origin_and_its_updates(subject, loaded):
    assert loaded.provenance() == subject.trained.provenance()
    assert getattr(loaded, "updates", None) == getattr(subject.trained, "updates", None)


def test_half_precision_trains_and_scores(subject):
    if subject.cls.card.name not in IN_ANOTHER_PROCESS:
        method = subject.train(precision="bf16", max_updates=1)
        with autocast("cpu", "bf16"):
            subject.maps(method, subject.cases()[:1])


def test_an_update_waits_for_no_number(subject, waits):
    name = subject.cls.card.name
    if name in IN_ANOTHER_PROCESS or name in ONE_PASS or subject.cls.card.trivial:
        return
    with waits:
        subject.train()
    assert waits.places == set()


def test_batches_that_a_thread_draws_ahead_hold_tensors_alone_and_leave_the_weights_as_they_are(subject, monkeypatch):
    """As it does on a GPU; only tensors are carried over to its stream, and stored for a training that is killed."""
    if subject.cls.card.name not in DRAWN_AHEAD:
        return
    drawn, draw = [], ahead._Ahead._drawn
    monkeypatch.setattr(ahead, "untried", lambda device: True)
    monkeypatch.setattr(ahead._Ahead, "_drawn", lambda self: drawn.append(draw(self)) or drawn[-1])
    threaded = modules(subject.train())
    assert all(same(net.state_dict(), threaded[name].state_dict()) for name, net in modules(subject.trained).items())
    assert len(drawn) > UPDATES
    for batch, _ in drawn:
        assert all(isinstance(part, torch.Tensor) for part in (batch.values() if isinstance(batch, dict) else batch))


@pytest.mark.parametrize("name", each(NAMES))
def test_the_other_organ_is_scored_too(name):
    for subject in where_it_runs(name, start=1):
        subject.maps(subject.trained, subject.cases()[:1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [n for n in NAMES if n not in IN_ANOTHER_PROCESS and not KNOWN.card(n).trivial])
def test_the_paper_profile_does_an_update_and_scores(name):
    """One update of the published batch, but for what takes more than five minutes or 8 GiB on one core.

    Batches of 2 instead of 8 to 64: asc-net, draem (10 GiB), f-anogan, fpi and pii (18 GiB), normnet,
    reverse-distillation. Crops: 32 × 128 × 128 instead of 32 × 512 × 512 for normnet, 32³ instead of 128³ (30 GiB) for
    layer-decomposition. After the update: two denoising steps for anoddpm, the density of eight crops for cutpaste,
    20 steps of ascent and one weight for vae-restoration. The published values are asserted with each method's
    settings. nnU-Net's real trainer is asked for its settings in its own tests.
    """
    subject = next(where_it_runs(name))
    config = subject.config("paper", **SMALLER_THAN_PUBLISHED.get(name, {}))
    fresh = modules(subject.fresh(config=config))
    method = subject.train(config=config, max_updates=1)
    assert all(name not in fresh or changed(fresh[name], net) for name, net in learned(method).items())
    (case, *_) = subject.cases()
    subject.maps(method, [case.crop_z(3, 5) if isinstance(method.view, View) else case])
