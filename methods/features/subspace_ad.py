"""SubspaceAD: what is left of patch features outside the subspace of healthy ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from ..config import ConfigError
from ..context import FitContext
from ..nets.corpora import of_backbone
from ..nets.weights import PRETRAINED
from ..training import run_updates
from .padim import merge
from .parts.backbone import smooth
from .parts.patches import PatchConfig, PatchMethod

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet

DINO2_GIANT = "vit_giant_patch14_reg4_dinov2.lvd142m"


@dataclass(frozen=True)
class SubspaceADConfig(PatchConfig):
    """Settings of :class:`SubspaceAD`.

    Attributes:
        explained: share of the variance that the subspace holds; it has the fewest dimensions that do.
        dims: its dimensions, instead of ``explained``.
        kernel: side in pixels of the kernel that smooths the map, odd; ``sigma`` is that of its Gaussian.
    """

    size: int = 672
    backbone: str = DINO2_GIANT
    blocks: tuple[int, ...] = (22, 23, 24, 25, 26, 27, 28)
    norm: bool = False
    unit: bool = False
    batch: int = 8
    explained: float = 0.99
    dims: int | None = None
    kernel: int = 3

    profiles: ClassVar = PatchConfig.profiles_with(smoke={"blocks": (1, 2)}, standard={"batch": 32})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.explained <= 1:
            raise ConfigError(f"explained={self.explained:g}: use more than 0 and at most 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel}: use an odd number of pixels")


class SubspaceAD(PatchMethod):
    """Squared length of the part of a patch feature that the principal components of healthy ones do not hold.

    Attributes:
        mean: float32 (width,), of the healthy patches.
        basis: float32 (width, dimensions), the principal components, orthonormal.
        held: share of the variance that they hold.
    """

    card = MethodCard(
        name="subspace-ad",
        title="SubspaceAD",
        year=2026,
        family="features",
        citation="Lendering, Akdag & Bondarev, SubspaceAD, CVPR 2026",
        reference="arXiv:2602.23013",
        deterministic=True,
        slice_score="top1%",
        pretraining=of_backbone(DINO2_GIANT, PRETRAINED),
        figures=(
            ("input", "672²", "672², cropped to the roi, masked, equalised"),
            same("network", "DINOv2 giant with registers, mean of blocks 23–29 of 40"),
            (
                "loss",
                "none: PCA of all patches, 99 % of the variance",
                "none: PCA of organ patches, 99 % of the variance",
            ),
            same("optimiser", "none"),
            same("length", "one pass"),
        ),
        notes="DINOv2 giant with registers, mean of seven middle blocks. Only patches that the organ fills by half are "
        "learned and scored; roi_only=off with crop=frame takes the whole frame, as the paper does. No rotated copies. "
        "Random weights are one fixed draw. Without any slice seen the map is the squared length of the features.",
    )
    Config = SubspaceADConfig
    keeps: ClassVar[bool] = False
    tuned: ClassVar = {"explained": (0.8, 0.999)}

    def build(self) -> None:
        """Create the backbone and a subspace of no dimension."""
        import torch

        super().build()
        self.mean, self.basis, self.held = torch.zeros(self.width), torch.zeros(self.width, 0), 0.0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Merge mean and scatter of the patches in double precision, then take the leading eigenvectors.

        Raises:
            TrainingError: the organ fills no patch.
        """
        import torch

        stack = healthy.array(self.view)
        slices = self.batches_of(stack)
        mean = torch.zeros(1, self.width, dtype=torch.float64, device=ctx.device)
        scatter = torch.zeros(1, self.width, self.width, dtype=torch.float64, device=ctx.device)
        seen = 0

        def step(_: int) -> dict[str, float]:
            nonlocal seen
            vectors = self.patches(*next(slices), ctx).double()
            if len(vectors):
                seen = merge(mean, scatter, seen, vectors[None])
            return {"patches": float(seen)}

        run_updates(ctx, self.steps(stack), step)
        if seen:
            covariance = scatter[0] / max(seen - 1, 1)
            basis, self.held = leading(covariance, self.config.explained, self.config.dims)
            self.mean, self.basis = mean[0].float(), basis.float()

    def provenance(self) -> dict[str, str]:
        return {
            **super().provenance(),
            "subspace": f"{self.basis.shape[1]} of {self.width} dimensions, {self.held:.4f}",
        }

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        mean, basis = self.mean.to(features.device), self.basis.to(features.device)
        away = features - mean
        return (away - (away @ basis) @ basis.T).square().sum(dim=1)

    def smoothed(self, maps: torch.Tensor) -> torch.Tensor:
        return smooth(maps, self.config.sigma, self.config.kernel // 2)


def leading(covariance: torch.Tensor, explained: float, dims: int | None = None) -> tuple[torch.Tensor, float]:
    """Return the leading eigenvectors (width, k) of a covariance, and the share of the variance that they hold.

    k is ``dims``, or the smallest number of eigenvectors that hold ``explained``.
    """
    import torch

    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    held = (values.cumsum(0) / values.sum().clamp(min=torch.finfo(values.dtype).tiny)).cpu()
    k = int((held < explained).sum()) + 1 if dims is None else dims
    k = min(k, len(values))
    return vectors[:, :k].contiguous(), float(held[k - 1])
