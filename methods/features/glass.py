"""GLASS: SimpleNet with noise that climbs towards what is taken for healthy, and with textured anomalies in slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...common.errors import DataError
from ..card import MethodCard
from ..context import FitContext
from ..nets.corpora import IMAGENET
from ..training import as_input, make_optimiser
from .parts.pooled_patches import PatchBatch
from .simplenet import QUICK, SMOKE, STANDARD, Draw, SimpleNet, SimpleNetConfig

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class GLASSConfig(SimpleNetConfig):
    """Settings of :class:`GLASS`; ``margin`` has no part in it, and ``weight_decay`` is that of the adaptor.

    Attributes:
        ascent_steps, ascent_length: steps along the normalised gradient of the loss of noisy features; their length.
        clip_every: steps after which the displacement is brought back into [``radius``, 2 · ``radius``].
        radius: least distance of a noisy feature from its healthy one.
        hard_quantile: of the squared errors of the patches of altered slices; those below it do not count.
        focal_gamma: exponent of the focal loss.
        octaves, perlin_threshold: Perlin masks have 2^0 … 2^octaves cells per axis, cut at the threshold.
        epochs: of at most ``epoch_updates`` updates.
    """

    ascent_steps: int = 20
    ascent_length: float = 0.001
    clip_every: int = 5
    radius: float = 0.5
    hard_quantile: float = 0.5
    focal_gamma: float = 2.0
    octaves: int = 5
    perlin_threshold: float = 0.5
    epochs: int = 640
    epoch_updates: int = 50

    profiles: ClassVar = {
        "smoke": {**SMOKE, "ascent_steps": 5},
        "quick": {**QUICK, "updates": 90},
        "standard": {**STANDARD, "batch": 4, "updates": 700},
    }


class GLASS(SimpleNet):
    """The discriminator also learns slices with textured anomalies; its probability is the map."""

    card = MethodCard(
        name="glass",
        title="GLASS",
        year=2024,
        family="features",
        citation="Chen et al., A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial Anomaly "
        "Detection and Localization, ECCV 2024",
        reference="arXiv:2407.09359",
        pretraining=IMAGENET,
        figures=(
            ("input", "288²", "288², masked, equalised"),
            ("network", "that of simplenet with a sigmoid", "that of simplenet with a sigmoid"),
            (
                "loss",
                "BCE after 20 ascent steps; focal(γ 2) of the harder half",
                "the same on patches of the organ",
            ),
            (
                "optimiser",
                "AdamW 2·10⁻⁴; adaptor Adam 10⁻⁴, decay 10⁻⁵; batch 8",
                "AdamW 2·10⁻⁴; adaptor Adam 10⁻⁴, decay 10⁻⁵; batch 8",
            ),
            ("length", "640 epochs of ≤ 50 updates, the best on the test set", "640 epochs of ≤ 50 updates"),
        ),
        notes="The manifold variant for every organ; the released code reads from a table which variant an object of "
        "its data sets gets. Textures are slices of other healthy patients instead of a picture library. The released "
        "code keeps the weights that are best on the test set; here the last ones score.",
    )
    Config = GLASSConfig
    tuned: ClassVar = {"lr": (2e-5, 2e-3, "log"), "radius": (0.1, 2.0, "log"), "sigma": (0.0, 6.0)}

    @property
    def min_patients(self) -> int:
        """Two, because a texture comes from another patient."""
        return 2

    @property
    def background(self) -> float:
        """No chance of an anomaly."""
        return 0.0

    def length(self, slices: int) -> int:
        c = self.config
        return c.epochs * min(c.epoch_updates, math.ceil(slices / c.batch)) if c.updates is None else c.updates

    def optimisers(self, ctx: FitContext) -> list[torch.optim.Optimizer]:
        import torch

        c = self.config
        return [
            make_optimiser(
                ctx, torch.optim.Adam, self.adaptor.parameters(), lr=c.adaptor_lr, weight_decay=c.weight_decay
            ),
            make_optimiser(ctx, torch.optim.AdamW, self.discriminator.parameters(), lr=c.lr),
        ]

    def batch_source(self, healthy: HealthySet, ctx: FitContext, held_out: HealthySet | None = None) -> Draw:
        """Return what draws a batch, noise, altered slices (n, H, W) and where they are altered, per chosen patch.

        Textures are slices of training patients, never of the patient who gets them.

        Raises:
            DataError: there is one patient only.
        """
        from ..resident import ResidentSlices
        from ..synthesis.textured_masks import TexturedMasks

        c, phase = self.config, "training" if held_out is None else "held out"
        plain = super().batch_source(healthy, ctx, held_out)
        stack = healthy.array(self.view)
        rng = ctx.rng("textures", phase)
        library = OtherPatients(_patients(healthy, stack.case_of), rng)
        own = _patients(held_out, held_out.array(self.view).case_of) if held_out is not None else library.patients
        slices = ResidentSlices(stack, ctx.device, False if held_out is not None else None)
        synthesise = TexturedMasks(c.size, ctx.generator("masks", phase), c.octaves, c.perlin_threshold)

        def draw() -> tuple[PatchBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
            batch, noise = plain()
            altered, masks = synthesise(batch.images, batch.rois, slices.take(library.draw(own[batch.numbers])))
            return batch, noise, altered, self.at_patches(masks).flatten().index_select(0, batch.chosen)

        return draw

    def at_patches(self, masks: torch.Tensor) -> torch.Tensor:
        """Return which patches a mask (n, H, W) touches, bool (n, side, side)."""
        from torch.nn.functional import max_pool2d

        return max_pool2d(masks.float()[:, None], self.backbone.strides[0], ceil_mode=True)[:, 0] > 0

    def loss(self, batch: PatchBatch, noise: torch.Tensor, altered: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return cross-entropies of healthy and of noisy features, and the focal loss of altered slices."""
        import torch

        c = self.config
        real = self.adaptor(self.patches_of(batch.images, batch.chosen))
        noisy = real + self.ascend(real.detach(), noise)
        logits = self.discriminator(torch.cat([real, noisy]))
        local = self.discriminator(self.adaptor(self.patches_of(altered, batch.chosen)))
        return global_loss(*logits.float().chunk(2)) + hard_focal_loss(
            local.float(), masks, c.hard_quantile, c.focal_gamma
        )

    def ascend(self, real: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Move noise (m, dims) along the gradient by which noisy features look healthier; return it without gradient.

        Its length is brought into [radius, 2 · radius] after every ``clip_every`` steps.
        """
        import torch
        from torch.nn.functional import normalize

        c = self.config
        for i in range(c.ascent_steps):
            with torch.enable_grad():
                noise = noise.detach().requires_grad_()
                logits = self.discriminator(torch.cat([real, real + noise]))
                (gradient,) = torch.autograd.grad(entropy_of_noisy(logits.chunk(2)[1]), noise)
            noise = noise.detach() + c.ascent_length * normalize(gradient, eps=1e-10)
            if (i + 1) % c.clip_every == 0:
                noise = clipped(noise, c.radius)
        return noise.detach()

    def patch_scores(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the probability of an anomaly."""
        return self.discriminator(self.adaptor(vectors)).sigmoid()

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        batch, _, altered, _ = self.batch_source(healthy, ctx)()
        clean = as_input(batch.images, self.device)[:, 0]
        return {
            "healthy": clean.cpu().numpy(),
            "with a texture of another patient": altered.cpu().numpy(),
            "altered": (clean != altered).float().cpu().numpy(),
        }


class OtherPatients:
    """Draws slices of other patients than those given.

    Args:
        patients: patient of every slice, (slices,).

    Raises:
        DataError: there is one patient only.
    """

    def __init__(self, patients: np.ndarray, rng: np.random.Generator) -> None:
        self.patients, self.rng = patients, rng
        self.known, counts = np.unique(patients, return_counts=True)
        if len(self.known) < 2:
            raise DataError("GLASS: a texture comes from another patient, and there is one healthy patient only")
        self.by_patient = np.argsort(patients, kind="stable")
        self.ends = np.cumsum(counts)
        self.counts = counts

    def draw(self, patients: np.ndarray) -> np.ndarray:
        """Return the number of a slice of somebody else for each patient, uniformly, int64 (n,)."""
        at = np.minimum(np.searchsorted(self.known, patients), len(self.known) - 1)
        own = np.where(self.known[at] == patients, self.counts[at], 0)
        rank = self.rng.integers(0, len(self.patients) - own)
        return self.by_patient[np.where(rank < self.ends[at] - own, rank, rank + own)]


def _patients(scans: HealthySet, case_of: np.ndarray) -> np.ndarray:
    return np.array([part.case.patient for part in scans.parts])[case_of]


def clipped(displacement: torch.Tensor, radius: float) -> torch.Tensor:
    """Scale rows to lengths in [radius, 2 · radius]."""
    import torch

    length = torch.linalg.vector_norm(displacement, dim=1, keepdim=True)
    return displacement * (length.clamp(radius, 2 * radius) / (length + 1e-10))


def global_loss(real: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of logits of healthy features against 0 plus that of noisy ones against 1."""
    from torch.nn.functional import softplus

    return softplus(real).mean() + entropy_of_noisy(noisy)


def entropy_of_noisy(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of logits against 1."""
    from torch.nn.functional import softplus

    return softplus(-logits.float()).mean()


def hard_focal_loss(logits: torch.Tensor, masks: torch.Tensor, quantile: float, gamma: float) -> torch.Tensor:
    """Return the focal loss of the patches whose squared error is not below a quantile of the squared errors.

    Args:
        logits: (m,).
        masks: bool (m,).
    """
    import torch

    from ..losses import focal_loss

    count = len(logits)
    hard = (logits.detach().sigmoid() - masks.float()).square().topk(count - math.ceil(quantile * (count - 1))).indices
    chosen = logits.index_select(0, hard)
    return focal_loss(torch.stack([torch.zeros_like(chosen), chosen], dim=1), masks.index_select(0, hard), gamma)
