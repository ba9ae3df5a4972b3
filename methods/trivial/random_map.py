"""Uniform noise: the floor of every metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...common.seeds import derive
from ...datasets.case import Case
from ..card import MethodCard
from ..context import FitContext
from ..method import Method

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet


class RandomMap(Method):
    """Independent uniform noise in every voxel, drawn from the seed and the id of the case."""

    card = MethodCard(
        name="random",
        title="Random scores",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark",
        reference="docs/methods.md, trivial baselines",
        trivial=True,
        notes="Chance level: AUROC 0.5, AP = prevalence.",
    )

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Remember the seed; there is nothing to learn."""
        self.seed = ctx.seed_for("random-map")

    def score(self, case: Case) -> np.ndarray:
        """Return uniform noise in [0, 1), float32 (z, y, x)."""
        return np.random.default_rng(derive(self.seed, case.id)).random(case.image.shape, dtype=np.float32)
