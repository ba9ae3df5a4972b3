"""Small synthetic livers for the tests of methods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from uasbench.common.seeds import derive, seed_everything
from uasbench.datasets.case import Case
from uasbench.methods.config import resolve

ToyCase = Callable[..., tuple[Case, np.ndarray]]


@pytest.fixture(scope="session")
def toy_case() -> ToyCase:
    """Return ``make(number, lesion=False, slices=8, size=64) -> (case, lesion mask)``: a textured ellipse in fat."""

    def make(number: int, *, lesion: bool = False, slices: int = 8, size: int = 64) -> tuple[Case, np.ndarray]:
        rng = np.random.default_rng(derive(number, "toy", int(lesion)))
        _, y, x = np.mgrid[:slices, :size, :size]
        centre = size * (0.5 + rng.uniform(-0.03, 0.03, 2))
        radii = size * np.array([0.36, 0.28]) * rng.uniform(0.9, 1.1, 2)
        roi = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
        noise = ndimage.gaussian_filter(rng.normal(size=roi.shape), (0, 0.7, 0.7))
        image = np.where(roi, 105 + rng.normal(0, 5), -80) + 10 * noise / noise.std()
        truth = np.zeros_like(roi)
        if lesion:
            inside = np.argwhere(ndimage.binary_erosion(roi[0], iterations=size // 8))
            at = inside[rng.integers(len(inside))]
            truth = (y - at[0]) ** 2 + (x - at[1]) ** 2 < (size / 12) ** 2
            image = image - 60 * truth
        case = Case(f"toy{number}", f"p{number}", image.astype(np.float32), (2.5, 1.5, 1.5), roi)
        return case, truth

    return make


@pytest.fixture(scope="session")
def make_method() -> Callable:
    """Return ``make(cls, profile, settings, anatomy, seed)``: a method built as the engine builds it, seeds first."""

    def make(cls, profile="smoke", settings=None, anatomy="liver", seed=0):
        seed_everything(derive(seed, "weights"))
        method = cls(resolve(cls.Config, profile, anatomy, settings))
        method.build()
        return method

    return make


@pytest.fixture
def optimisers(monkeypatch: pytest.MonkeyPatch) -> list[torch.optim.Adam]:
    """Collect every Adam that a test makes."""
    made: list[torch.optim.Adam] = []
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *a, **k: made.append(adam(*a, **k)) or made[-1])
    return made
