"""Where SAM is told to look in a slice: what the rows ``METHOD+sam`` and their controls differ in, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ...common.boxes import bounds
from ...common.seeds import derive

Prompt = Literal["sam", "sam-centre", "sam-random", "sam-point"]
PROMPTS: tuple[Prompt, ...] = get_args(Prompt)
BOX_MARGIN = 0.1
GAMMA = 5


@dataclass(frozen=True, eq=False)
class MarkedSlice:
    """A slice of a case in which the map lies above the threshold somewhere; arrays are (y, x).

    Attributes:
        scores: the map, float32.
        roi: the region that is measured, bool.
        labels: the components of the thresholded volume that the slice cuts, 1, 2, …, 0 elsewhere.
        lowest: the lowest score of held-out healthy voxels, from which the centre of gravity counts.
        seed: of the case; slices of one seed get points of their own.
    """

    z: int
    scores: np.ndarray
    roi: np.ndarray
    labels: np.ndarray
    lowest: float
    seed: int


@dataclass(frozen=True, eq=False)
class Prompted:
    """A question to SAM, and the part (bool) of the thresholded map that its mask may replace.

    ``point`` is (x, y), ``box`` the first and last column and row (x, y, x, y), both in pixels.
    """

    point: tuple[float, float]
    box: tuple[float, float, float, float] | None
    part: np.ndarray


def prompts(kind: Prompt, where: MarkedSlice) -> list[Prompted]:
    """Return what SAM is asked in a slice.

    ``sam`` asks for each component: its highest score, and its box in the slice, a tenth of the side wider on each
    side. The others ask once: for the pixel of the region nearest to its centre, for one that is drawn in it, or, as
    MIAS-SAM does, for the centre of gravity of the map to the fifth power (Colussi et al., BMVC 2025). There the map
    counts from the lowest healthy score, not from that of the test set.
    """
    return _ASK[kind](where)


def _components(where: MarkedSlice) -> list[Prompted]:
    found = []
    for label in np.unique(where.labels[where.labels > 0]):
        part = where.labels == label
        y, x = _place(np.where(part, where.scores, -np.inf).argmax(), part.shape)
        found.append(Prompted((x, y), _box(part), part))
    return found


def _centre(where: MarkedSlice) -> list[Prompted]:
    places = np.argwhere(where.roi)
    nearest = np.square(places - places.mean(axis=0)).sum(axis=1).argmin()
    return _once(where, places[nearest][::-1])


def _random(where: MarkedSlice) -> list[Prompted]:
    places = np.argwhere(where.roi)
    drawn = np.random.default_rng(derive(where.seed, "sam-random", where.z)).integers(len(places))
    return _once(where, places[drawn][::-1])


def _gravity(where: MarkedSlice) -> list[Prompted]:
    places = np.argwhere(where.roi)
    weights = np.maximum(where.scores[where.roi].astype(np.float64) - where.lowest, 0.0)
    weights = (weights / weights.max()) ** GAMMA
    return _once(where, (weights @ places / weights.sum())[::-1])


_ASK: dict[Prompt, Callable[[MarkedSlice], list[Prompted]]] = {
    "sam": _components, "sam-centre": _centre, "sam-random": _random, "sam-point": _gravity,
}  # fmt: skip


def _once(where: MarkedSlice, point: Sequence[float] | np.ndarray) -> list[Prompted]:
    x, y = point
    return [Prompted((float(x), float(y)), None, where.labels > 0)]


def _place(index: np.intp, shape: tuple[int, ...]) -> tuple[float, float]:
    y, x = np.unravel_index(index, shape)
    return float(y), float(x)


def _box(part: np.ndarray) -> tuple[float, float, float, float]:
    (top, bottom), (left, right) = bounds(part)
    wider_y, wider_x = BOX_MARGIN * (bottom - top), BOX_MARGIN * (right - left)
    height, width = part.shape
    return (
        max(0.0, left - wider_x), max(0.0, top - wider_y),
        min(width - 1.0, right - 1 + wider_x), min(height - 1.0, bottom - 1 + wider_y),
    )  # fmt: skip


def base_of(label: str) -> str | None:
    """Return the row that a row refines, None of one that refines nothing.

    >>> base_of("draem@tuned+sam-point"), base_of("draem@1e+3")
    ('draem@tuned', None)
    """
    base, _, prompt = label.rpartition("+")
    return base if base and prompt in PROMPTS else None
