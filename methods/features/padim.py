"""PaDiM: one Gaussian of pretrained features at every position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from ..context import FitContext
from ..nets.corpora import IMAGENET
from ..training import as_input, autocast, run_updates
from .parts.backbone import LITE0, FeatureConfig, FeatureMethod, upsample

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class PaDiMConfig(FeatureConfig):
    """Settings of :class:`PaDiM`.

    Attributes:
        dims: channels kept of all that the stages have, drawn at random; 550 for a Wide-ResNet-50-2.
        epsilon: added to the diagonal of every covariance.
    """

    dims: int = 100
    epsilon: float = 0.01

    profiles: ClassVar = {
        "smoke": {"size": 32, "backbone": LITE0, "dims": 20, "batch": 8, "sigma": 1.0},
        "quick": {"size": 128, "backbone": LITE0, "dims": 100, "batch": 16, "sigma": 2.0},
        "standard": {"field_of_view": 256.0, "backbone": LITE0},
    }


class PaDiM(FeatureMethod):
    """Mahalanobis distance of pretrained features to the Gaussian of healthy slices at the same position.

    Attributes:
        chosen: int64 (dims,), the channels kept, counted over all stages.
        mean: float32 (positions, dims).
        scatter: float32 (positions, dims, dims), sum of outer products of deviations, while fitting.
        whitening: float32 (positions, dims, dims), inverse of the covariance's Cholesky factor.
        seen: slices learned from.
    """

    card = MethodCard(
        name="padim",
        title="PaDiM, patch distribution modelling",
        year=2021,
        family="features",
        citation="Defard et al., PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and "
        "Localization, ICPR Workshops 2021",
        reference="doi:10.1007/978-3-030-68799-1_35",
        pretraining=IMAGENET,
        figures=(
            ("input", "224² cut from 256²", "224², masked, equalised"),
            same("network", "ResNet-18 layers 1–3, 100 random channels"),
            same("loss", "none: Gaussian per position, covariance + 0.01 · I"),
            same("optimiser", "none"),
            same("length", "one pass"),
        ),
        undertrained=("lung",),
        notes="ResNet-18, 100 random channels. Every position has its own Gaussian, which assumes aligned images: weak "
        "on organs that are not, and on the lung not better than Gaussians that have seen nothing. Without any slice "
        "seen the map is the norm of the features.",
    )
    Config = PaDiMConfig
    tuned: ClassVar = {"dims": (30, 150), "epsilon": (1e-3, 1.0, "log"), "sigma": (0.0, 6.0)}

    @property
    def dims(self) -> int:
        """Components of a position: the setting ``dims``, or the channels of all stages where there are fewer."""
        return min(self.config.dims, sum(self.backbone.channels))

    def build(self) -> None:
        """Create the backbone and the Gaussians before any slice: mean 0, covariance 1."""
        import torch

        super().build()
        self.chosen = torch.arange(self.dims)
        self.mean = torch.zeros(self.side**2, self.dims)
        self.whitening = torch.eye(self.dims).expand(self.side**2, -1, -1).contiguous()
        self.seen = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Go once over the slices, merging means and scatters, then factorise the covariances.

        Memory stays at two arrays (positions, dims, dims) whatever the number of slices.
        """
        import torch

        stack = healthy.array(self.view)
        chosen = ctx.rng("channels").choice(sum(self.backbone.channels), self.dims, replace=False)
        self.chosen = torch.from_numpy(chosen).sort().values
        self.mean = torch.zeros(self.mean.shape, device=ctx.device)
        scatter = torch.zeros((*self.mean.shape, self.dims), device=ctx.device)
        self.seen = 0
        self.backbone.eval()
        batch = self.config.batch

        def step(i: int) -> dict[str, float]:
            images = stack.take(range(i * batch, min((i + 1) * batch, len(stack))))[0]
            with torch.no_grad(), autocast(ctx.device, ctx.precision):
                embedded = self.embed(as_input(images, ctx.device))
            self.seen = merge(self.mean, scatter, self.seen, embedded)
            return {"slices": float(self.seen)}

        if run_updates(ctx, math.ceil(len(stack) / batch), step):
            self.whitening = whitening(scatter, self.seen, self.config.epsilon)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the chosen channels on the grid of the finest stage, float32 (positions, n, dims)."""
        import torch
        from torch.nn import functional

        parts, first = [], 0
        maps = self.features(images)
        for f in maps:
            inside = (self.chosen >= first) & (self.chosen < first + f.shape[1])
            if inside.any():
                own = f[:, (self.chosen[inside] - first).to(f.device)]
                parts.append(functional.interpolate(own, size=maps[0].shape[2:], mode="nearest"))
            first += f.shape[1]
        return torch.cat(parts, dim=1).flatten(2).permute(2, 0, 1)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        embedded = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            mean, white = self.mean.to(images.device), self.whitening.to(images.device)
            distance = torch.bmm(embedded - mean[:, None], white.transpose(1, 2)).norm(dim=2)
        return upsample(distance.T.reshape(-1, self.side, self.side), self.config.size)


def merge(mean: torch.Tensor, scatter: torch.Tensor, seen: int, batch: torch.Tensor) -> int:
    """Add a batch to running means and scatters, in place (Chan et al. 1983).

    Args:
        mean: (positions, dims).
        scatter: (positions, dims, dims), sum of outer products of deviations from the mean.
        seen: vectors in them so far.
        batch: (positions, n, dims).

    Returns:
        The number of vectors in them now.
    """
    import torch

    count = batch.shape[1]
    total = seen + count
    own = batch.mean(dim=1)
    away = own - mean
    # The shift between the two means is one more deviation, so that one product updates the scatter.
    extra = away * math.sqrt(seen * count / total)
    deviations = torch.cat([batch - own[:, None], extra[:, None]], dim=1)
    scatter.baddbmm_(deviations.transpose(1, 2), deviations)
    mean.add_(away, alpha=count / total)
    return total


def whitening(scatter: torch.Tensor, seen: int, epsilon: float) -> torch.Tensor:
    """Return L⁻¹ of the Cholesky factors L of the covariances scatter / (seen − 1) + ε I, (positions, dims, dims).

    ‖L⁻¹ (x − μ)‖ is the Mahalanobis distance. A single vector has covariance ε I.
    """
    import torch

    eye = torch.eye(scatter.shape[-1], device=scatter.device)
    factor = torch.linalg.cholesky(scatter / max(seen - 1, 1) + epsilon * eye)
    return torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
