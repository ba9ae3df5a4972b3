"""A Dirichlet-process mixture of patch features: cosine distance to the nearest mean of its components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from ..card import MethodCard, same
from ..config import ConfigError
from ..context import FitContext
from ..nets.corpora import of_backbone
from ..nets.weights import PRETRAINED
from ..training import Batches, as_input, autocast, run_updates
from ..watching import held_out_loss, held_out_slices
from .anomaly_dino import cosine_neighbours
from .parts.patches import DINO2_SMALL, PatchConfig, PatchMethod

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class DPMMConfig(PatchConfig):
    """Settings of :class:`DPMM`.

    Attributes:
        components: truncation of the mixture.
        covariance: ``full``, or the ``diagonal`` alone.
        epsilon: added to the diagonal of every covariance.
        step: weight of a mini-batch in the running averages.
        alpha: concentration at the beginning.
        epochs: passes over the slices.
        slices: of a mini-batch.
        score: ``cosine`` is 1 − cosine to the nearest mean, ``density`` is −log p.
        least_weight: components that weigh no more have no mean to be near to.
    """

    sigma: float = field(default=0.0, metadata={"stage": "score"})
    components: int = 500
    covariance: Literal["full", "diagonal"] = "full"
    epsilon: float = 1e-3
    step: float = 0.2
    alpha: float = 2.0
    epochs: int = 40
    slices: int = 12
    score: Literal["cosine", "density"] = field(default="cosine", metadata={"stage": "score"})
    least_weight: float = field(default=1e-6, metadata={"stage": "score"})

    profiles: ClassVar = PatchConfig.profiles_with(
        smoke={"components": 8, "epochs": 2, "sigma": 0.0},
        quick={"components": 50, "covariance": "diagonal", "epochs": 5, "sigma": 0.0},
        standard={"components": 60, "epochs": 8, "sigma": 0.0},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("components", 2), ("slices", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)}: use at least {least}")
        if not 0 < self.step <= 1:
            raise ConfigError(f"step={self.step:g}: use more than 0 and at most 1")
        for name in ("epsilon", "alpha"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name):g}: use more than 0")


class DPMM(PatchMethod):
    """Summarises healthy patch features by a mixture that finds its own number of components.

    Attributes:
        mixture: the mixture, with its running averages and its concentration.
    """

    card = MethodCard(
        name="dpmm",
        title="Dirichlet-process mixture of patch features",
        year=2025,
        family="features",
        citation="Schulthess & Konukoglu, anomaly detection by a Dirichlet process mixture of DINOv2 patch features, "
        "MICCAI 2025",
        reference="arXiv:2509.19997",
        slice_score="top1%",
        pretraining=of_backbone(DINO2_SMALL, PRETRAINED),
        figures=(
            ("input", "448²", "448², cropped to the roi, masked, equalised"),
            same("network", "DINOv2 ViT-S/14, last block, final norm, unit length"),
            same("loss", "none: EM on 500 Gaussians, covariance + 0.001 · I, step 0.2"),
            same("optimiser", "none"),
            ("length", "best of 40 epochs on healthy validation images", "40 epochs of 12 slices, the last"),
        ),
        notes="DINOv2 ViT-S/14, 500 Gaussians of full covariance; covariance serves the fit, the score is the cosine "
        "distance to the nearest mean. Only patches that the organ fills by half are learned and scored; roi_only=off "
        "with crop=frame takes the whole frame, as the paper does. The last epoch counts, not the best.",
    )
    Config = DPMMConfig
    tuned: ClassVar = {"components": (20, 500), "epsilon": (1e-4, 1e-2, "log"), "sigma": (0.0, 6.0)}

    def build(self) -> None:
        """Create the backbone and a mixture in which no component takes part."""
        super().build()
        from .parts.dirichlet_mixture import DirichletMixture

        c = self.config
        self.mixture = DirichletMixture(
            c.components, self.width, covariance=c.covariance, epsilon=c.epsilon, step=c.step, alpha=c.alpha
        )

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Extract the patches once, draw initial means from all of them, then go over the slices.

        Raises:
            TrainingError: the organ fills no patch.
            DataError: the patches would need more memory than ``max_gib``.
        """
        import torch

        c = self.config
        if ctx.updates(1) == 0:
            return
        vectors, counts = self._extracted(healthy, ctx)
        slices = [own for own in vectors.split(counts) if len(own)]
        self.mixture.begin(vectors, torch.Generator().manual_seed(ctx.seed_for("means")))
        ctx.keep(self.mixture)
        batch = min(c.slices, len(slices))
        updates = c.epochs * -(-len(slices) // batch)
        order = ctx.keep(Batches(len(slices), batch, ctx.rng("order")))

        def step(_: int) -> dict[str, torch.Tensor]:
            with torch.no_grad():
                return {"nll": self.mixture.learn(torch.cat([slices[i] for i in next(order)]))}

        seen = held_out_slices(self.view, c.slices, ctx)
        run_updates(ctx, updates, step, watch=held_out_loss(ctx, updates, [self.backbone], seen, self._surprise(ctx)))

    def _extracted(self, healthy: HealthySet, ctx: FitContext) -> tuple[torch.Tensor, list[int]]:
        """Return the features of all patches (n, width), slice by slice, and how many of them each slice has."""
        import torch

        stack = healthy.array(self.view)
        parts, counts = [], []
        for images, cells in self.batches_of(stack):
            parts.append(self.patches(images, cells, ctx))
            counts += cells.sum(dim=(1, 2)).tolist()
        return torch.cat(parts), counts

    def _surprise(self, ctx: FitContext) -> Callable[[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Return the loss that is watched: the mean of −log p of the patches of slices (n, H, W)."""

        def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            images, rois = batch
            cells = self.cells(rois, at_least_one=True)
            with autocast(ctx.device, ctx.precision):
                found = self.grid(as_input(images, ctx.device))
            return -self.mixture.log_densities(found[cells]).logsumexp(dim=1).mean()

        return loss

    def provenance(self) -> dict[str, str]:
        weights = self.mixture.log_weights().exp()
        return {**super().provenance(), "components": f"{int((weights > self.config.least_weight).sum())} in use"}

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """Return the distance to the nearest mean, or −log p; 1 everywhere before any patch is seen."""
        import torch
        from torch.nn import functional

        mixture = self.mixture
        used = mixture.alive & (mixture.log_weights().exp() > self.config.least_weight)
        if not used.any():
            return torch.ones(len(features), device=features.device)
        if self.config.score == "density":
            return -mixture.log_densities(features).logsumexp(dim=1)
        return cosine_neighbours(features, functional.normalize(mixture.means[used], dim=1), 1)
