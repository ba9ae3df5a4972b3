"""Whether a method learns anything: the one promise of which ``bench check`` asks more than a smoke run shows."""

import time
from collections import defaultdict
from typing import Any

import numpy as np

from ...methods.state import modules
from ..stages import drive
from .phantom import lesion_cases
from .subject import Broken, NotApplicable, Subject

LEARNING_S = 10.0
ENOUGH_UPDATES = 150
CLEARLY = 0.02


def learns(subject: Subject) -> str:
    """A short training finds one kind of lesion, dark or bright, better than no training and better than chance.

    One kind is enough: a residual |x − 0| ranks bright voxels first without any training. Training is that of ``quick``
    on slices as small as those of ``smoke``; what fails there is tried once more on slices of ``quick``'s own size.
    Where the time allows few updates only, a falling loss leaves the question open instead of failing the method.
    """
    if not any(p.requires_grad for module in modules(subject.trained).values() for p in module.parameters()):
        raise NotApplicable("no trainable network")
    card = subject.cls.card
    told: list[str] = []
    for config in _configs(subject):
        helped, undecided, text = _tried(subject, config)
        told.append(text)
        if helped:
            return "; then ".join(told)
        if subject.anatomy in (*card.near_chance, *card.undertrained):
            raise NotApplicable(f"{text}; the card says so")
        if undecided:
            raise NotApplicable(f"undecided in {LEARNING_S:g} s: {text}")
    raise Broken(
        f"{'; then '.join(told)}: training does not help; look at the loss, the sign of the map, or a network left "
        "untrained"
    )


def _configs(subject: Subject) -> list[Any]:
    whole, size = subject.config("quick"), getattr(subject.config(), "size", None)
    if size is None or size == whole.size:
        return [whole]
    return [subject.config("quick", size=size), whole]


def _tried(subject: Subject, config: Any) -> tuple[bool, bool, str]:
    """Return whether training with these settings helped, whether it was too short to tell, and the figures."""
    before = _precisions(subject, subject.train(0, config, filled=True, max_updates=0))
    updates = _affordable(subject, config)
    losses = defaultdict[str, list[float]](list)

    def keep(_: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            losses[name].append(value)

    after = _precisions(subject, subject.train(0, config, filled=True, max_updates=updates, on_log=keep))
    where = f" on slices of {config.size}²" if hasattr(config, "size") else ""
    text = f"AP (dark, bright) {_pair(before)} untrained, {_pair(after)} after {updates} updates{where}" + "".join(
        f"; {name} {values[0]:.3g} → {values[-1]:.3g}" for name, values in list(losses.items())[:2] if len(values) > 1
    )
    chance = [float(lesion.mean()) for _, lesion in lesion_cases(subject.anatomy, filled=True)]
    helped = any(new > max(old + CLEARLY, 1.5 * c) for old, new, c in zip(before, after, chance, strict=True))
    return helped, updates < ENOUGH_UPDATES and any(v[-1] < 0.9 * v[0] for v in losses.values()), text


def _affordable(subject: Subject, config: Any) -> int:
    """Return how many updates fit into the time that the check may take, 20 to 400."""
    spent = []
    for updates in (1, 4):
        start = time.perf_counter()
        subject.train(0, config, filled=True, max_updates=updates)
        spent.append(time.perf_counter() - start)
        if spent[0] > LEARNING_S:
            raise NotApplicable(f"a training of one update takes {spent[0]:.0f} s, too long to tell what more would do")
    each = max((spent[1] - spent[0]) / 3, 1e-4)
    return int(np.clip(LEARNING_S / each, 20, 400))


def _precisions(subject: Subject, method: Any) -> tuple[float, ...]:
    found = []
    for case, lesion in lesion_cases(subject.anatomy, filled=True):
        viewed = subject.view(method, case)
        scores = drive.score(method, case, viewed)
        native = scores if viewed is None else viewed.to_native(scores)
        found.append(average_precision(native[case.roi], lesion[case.roi]))
    return tuple(found)


def _pair(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the precision-recall steps, ties taken together."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.cumsum(truth[order])[ends]
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / (ends + 1)).sum() / truth.sum())
