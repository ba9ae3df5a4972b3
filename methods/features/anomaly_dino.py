"""AnomalyDINO: cosine distance of patch features to the nearest of all healthy ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from ..context import FitContext
from ..nets.corpora import of_backbone
from ..nets.weights import PRETRAINED
from ..training import run_updates
from .parts.patches import DINO2_SMALL, PatchConfig, PatchMethod

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class AnomalyDINOConfig(PatchConfig):
    """Settings of :class:`AnomalyDINO`.

    Attributes:
        neighbours: the score is the mean distance to so many nearest patches.
    """

    neighbours: int = field(default=1, metadata={"stage": "score"})


class AnomalyDINO(PatchMethod):
    """Remembers the patch features of healthy slices; the score of a patch is 1 − cosine to the nearest.

    Attributes:
        bank: float32 (patches, width), of unit length.
    """

    card = MethodCard(
        name="anomaly-dino",
        title="AnomalyDINO",
        year=2025,
        family="features",
        citation="Damm et al., AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2, WACV 2025",
        reference="arXiv:2405.14529",
        deterministic=True,
        slice_score="top1%",
        pretraining=of_backbone(DINO2_SMALL, PRETRAINED),
        figures=(
            ("input", "shorter side 448", "448², cropped to the roi, masked, equalised"),
            same("network", "DINOv2 ViT-S/14, last block, final norm"),
            ("loss", "none: memory of all patches", "none: memory of all organ patches, at most 1,000,000"),
            same("optimiser", "none"),
            same("length", "one pass"),
        ),
        notes="DINOv2 ViT-S/14, one nearest neighbour. Only patches that the organ fills by half are remembered and "
        "scored; roi_only=off with crop=frame takes the whole frame, as the paper does. Random weights are one "
        "fixed draw. Without any slice seen the map is constant.",
    )
    Config = AnomalyDINOConfig
    tuned: ClassVar = {"neighbours": (1, 9), "sigma": (0.0, 6.0)}

    def build(self) -> None:
        """Create the backbone and a memory that holds nothing but the origin."""
        import torch

        super().build()
        self.bank = torch.zeros(1, self.width)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Remember the patches of all slices.

        Raises:
            TrainingError: the organ fills no patch.
            DataError: the memory would be larger than ``max_gib``.
        """
        import torch
        from torch.nn import functional

        stack = healthy.array(self.view)
        slices, parts = self.batches_of(stack), []

        def step(_: int) -> dict[str, float]:
            parts.append(functional.normalize(self.patches(*next(slices), ctx), dim=1))
            return {"patches": float(sum(map(len, parts)))}

        run_updates(ctx, self.steps(stack), step)
        if parts and sum(map(len, parts)):
            self.bank = torch.cat(parts)

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        return cosine_neighbours(features, self.bank.to(features.device), self.config.neighbours)


def cosine_neighbours(queries: torch.Tensor, bank: torch.Tensor, k: int, chunk_bytes: int = 2**26) -> torch.Tensor:
    """Return the mean of 1 − cosine to the ``k`` most similar vectors of the bank, float32 (m,), in chunks of queries.

    Args:
        queries: (m, d), of any length.
        bank: (n, d), of unit length; where n < k, all count.
    """
    import torch
    from torch.nn import functional

    queries = functional.normalize(queries, dim=1)
    rows, k = max(1, chunk_bytes // (4 * len(bank))), min(k, len(bank))
    out = torch.empty(len(queries), device=queries.device)
    for start in range(0, len(queries), rows):
        similar = queries[start : start + rows] @ bank.T
        out[start : start + rows] = 1 - (similar.amax(dim=1) if k == 1 else similar.topk(k, dim=1).values.mean(dim=1))
    return out.clamp_(min=0)
