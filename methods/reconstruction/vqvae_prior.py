"""VQ-VAE with an autoregressive prior: codes of a slice that are unlikely are replaced, and the two are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from ..config import STANDARD_SLICES, ConfigError, SliceConfig
from ..context import FitContext, TrainingError
from ..early_stopping import hold_out
from ..method import Method
from ..training import as_input, autocast, batches, make_optimiser, run_updates, update
from ..watching import held_out_loss, held_out_slices

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet

SCORE_BATCH, QUANTILES = 16, 1001


@dataclass(frozen=True)
class VQVAEPriorConfig(SliceConfig):
    """Settings of :class:`VQVAEPrior`.

    Attributes:
        patch: side to which the square around the region of interest is resized.
        channels: of each level of the VQ-VAE, which halves the side.
        units: residual units per level.
        codes, code_width: entries of the codebook and their length.
        forgetting, commitment: weights of the past in the codebook's moving average, and of the distance to it in the
            loss.
        revive: updates after which codes out of use move to what the encoder makes of a batch, in the first half of
            the training; the first time all do. 0 leaves them where they are.
        width, depth, heads: of each transformer.
        orders: orderings of the codes, each with a transformer of its own.
        turn, shift, zoom, moved: augmentation of the VQ-VAE's slices: largest turn in degrees, shift in pixels and
            change of scale, and share of slices moved so.
        lr, updates: of the VQ-VAE.
        prior_lr, prior_updates: of the transformers.
        score: ``healed`` compares the slice with its healed form where codes were replaced; ``likelihood`` is the mean
            −log p of the codes; ``lsr`` compares it with samples (Naval Marimont and Tarroni 2021).
        rate: share of codes of healthy held-out patients that are replaced, of ``healed``.
        lsr_rate: the same of ``lsr``.
        samples: restorations of ``lsr``.
        sharpness: by how much the samples that are closer to the slice count more, of ``lsr``.
    """

    patch: int = 128
    channels: tuple[int, ...] = (256, 256, 256)
    units: int = 2
    codes: int = 64
    code_width: int = 64
    forgetting: float = 0.5
    commitment: float = 0.25
    revive: int = 100
    width: int = 256
    depth: int = 8
    heads: int = 8
    orders: tuple[Literal["raster", "transposed"], ...] = ("raster", "transposed")
    turn: float = 5.0
    shift: float = 1.0
    zoom: float = 0.01
    moved: float = 0.5
    batch: int = 32
    lr: float = 5e-4
    updates: int = 10_000
    prior_lr: float = 1e-4
    prior_updates: int = 20_000
    score: Literal["healed", "likelihood", "lsr"] = field(default="healed", metadata={"stage": "score"})
    rate: float = field(default=0.01, metadata={"stage": "score"})
    lsr_rate: float = field(default=0.1, metadata={"stage": "score"})
    samples: int = field(default=15, metadata={"stage": "score"})
    sharpness: float = field(default=3.0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "patch": 16,
            "channels": (4, 4),
            "units": 1,
            "codes": 8,
            "code_width": 4,
            "width": 8,
            "depth": 1,
            "heads": 2,
            "batch": 4,
            "lr": 1e-3,
            "updates": 4,
            "prior_updates": 4,
            "rate": 0.1,
            "samples": 2,
        },
        "quick": {
            "size": 64,
            "patch": 32,
            "channels": (16, 16),
            "units": 1,
            "codes": 16,
            "code_width": 8,
            "width": 32,
            "depth": 2,
            "heads": 4,
            "batch": 8,
            "revive": 10,
            "updates": 300,
            "prior_lr": 3e-3,
            "prior_updates": 100,
            "rate": 0.05,
        },
        "standard": {
            **STANDARD_SLICES,
            "patch": 64,
            "channels": (64, 64),
            "width": 64,
            "depth": 4,
            "heads": 4,
            "batch": 8,
            "lr": 1e-3,
            "revive": 20,
            "updates": 1000,
            "prior_lr": 1e-3,
            "prior_updates": 1500,
        },
    }

    def __post_init__(self) -> None:
        if self.patch % self.stride or self.patch == self.stride:
            raise ConfigError(f"patch={self.patch}: {len(self.channels)} levels need a multiple of {self.stride}")
        if not self.orders or self.samples < 1:
            raise ConfigError(f"orders={self.orders}, samples={self.samples}: use at least one of each")
        for name in ("rate", "lsr_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: choose a share between 0 and 1")

    @property
    def stride(self) -> int:
        """Side in pixels of the cell that a code stands for."""
        return 2 ** len(self.channels)


class VQVAEPrior(Method):
    """Learns codes of healthy slices and their distribution; a code that is unlikely given those before is replaced.

    Attributes:
        surprises: float64 (orders, 1001), quantiles of −log p of the codes of healthy held-out patients, organ alone.
        perplexity: of the codebook, on the same slices.
        noise_seed: decides the samples of ``lsr``, the same for every case.
    """

    card = MethodCard(
        name="vqvae-prior",
        title="VQ-VAE with an autoregressive prior",
        year=2022,
        family="reconstruction",
        citation="Pinaya et al., Unsupervised brain imaging 3D anomaly detection and segmentation with transformers, "
        "Medical Image Analysis 79, 2022",
        reference="arXiv:2102.11650",
        figures=(
            ("input", "tutorial: 64²", "128² around the organ, masked"),
            (
                "network",
                "VQ-VAE 256, ÷4, 16 × 64 codes; transformer 128, 16 deep",
                "VQ-VAE 256, ÷8, 64 × 64 codes; 2 transformers 256, 8 deep",
            ),
            ("loss", "L1 + commitment 0.25; cross-entropy", "L1 + commitment 0.25; cross-entropy"),
            ("optimiser", "Adam 5·10⁻⁴, batch 256; 10⁻⁴, batch 32", "Adam 5·10⁻⁴, then 10⁻⁴, batch 32"),
            ("length", "20 + 20 epochs of MedNIST", "10,000 + 20,000 updates"),
        ),
        notes="References are those of MONAI's tutorial: the paper is in 3D. A fifth of the training patients is held "
        "out of both trainings and says which −log p is unlikely; in the tutorial that is a quantile of the test slice "
        "itself, which heals as much in healthy slices. Codes outside the organ enter neither threshold nor map. No CT "
        "figures of this form are published. The quick profile is at chance on the liver: 400 updates leave both "
        "trainings far from their end.",
        undertrained=("liver",),
    )
    Config = VQVAEPriorConfig
    tuned: ClassVar = {
        "lr": (1e-4, 3e-3, "log"),
        "codes": [16, 32, 64, 128],
        "rate": (0.002, 0.1, "log"),
        "score": ["healed", "likelihood", "lsr"],
    }

    def build(self) -> None:
        """Create the networks; a method that was not fitted finds every code of −log p above 0 unlikely."""
        from ..nets.token_prior import CodedSlices, TokenPriors

        c = self.config
        self.coder = CodedSlices(c.channels, c.units, c.codes, c.code_width, c.forgetting, c.commitment)
        self.prior = TokenPriors(c.codes, c.patch // c.stride, c.orders, c.width, c.depth, c.heads)
        self.surprises = np.zeros((len(c.orders), QUANTILES))
        self.perplexity = 0.0
        self.noise_seed = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train the VQ-VAE, then the transformers, without a fifth of the patients, who set the threshold."""
        stack = healthy.array(self.view)
        if len(stack) < 2:
            raise TrainingError("vqvae-prior needs at least two healthy slices: one sets the threshold")
        self.noise_seed = ctx.seed_for("score-noise")
        train, held_out = hold_out(healthy, stack, ctx.rng("hold-out"))
        done = self.learn_codes(healthy, train, ctx)
        self.learn_prior(healthy, train, ctx, first=done)
        self.calibrate(*stack.take(held_out))

    def learn_codes(self, healthy: HealthySet, chosen: np.ndarray, ctx: FitContext) -> int:
        """Minimise the absolute error of the reconstruction and the distance to the codebook; return the updates."""
        import torch

        from ..nets.token_prior import perplexity
        from ..resident import ResidentSlices
        from ..synthesis.motion import Motion

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order, draws = batches(ctx, len(chosen), c.batch, "order", "codes"), ctx.generator("motion")
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.coder.parameters(), lr=c.lr)
        motion = Motion(c.turn, c.shift, c.zoom, c.moved)
        self.coder.train()

        def losses_of(clean: torch.Tensor) -> dict[str, torch.Tensor]:
            with autocast(ctx.device, ctx.precision):
                seen, distance, numbers = self.coder(clean)
            error = torch.nn.functional.l1_loss(seen.float(), clean)
            return {"l1": error, "commitment": distance, "perplexity": perplexity(numbers, c.codes)}

        def step(i: int) -> dict[str, torch.Tensor]:
            images, rois = slices.take(chosen[next(order)])
            seen = motion(self.squares(images, rois)[0], draws)
            if c.revive and i % c.revive == 0 and 2 * i < c.updates:
                self.coder.revive(seen, draws)
            losses = losses_of(seen)
            update(optimiser, losses["l1"] + losses["commitment"])
            return {name: value.detach() for name, value in losses.items()}

        def held_out(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            losses = losses_of(self.squares(*batch)[0])
            return losses["l1"] + losses["commitment"]

        watch = held_out_loss(ctx, c.updates, [self.coder], held_out_slices(self.view, c.batch, ctx), held_out)
        return run_updates(ctx, c.updates, step, phase="codes", watch=watch)

    def learn_prior(self, healthy: HealthySet, chosen: np.ndarray, ctx: FitContext, *, first: int) -> None:
        """Minimise the cross-entropy of each code given those before it, for all orderings at once."""
        import torch

        from ..resident import ResidentSlices

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(chosen), c.batch, "order", "prior")
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.prior.parameters(), lr=c.prior_lr)
        self.coder.eval()
        self.prior.train()

        def loss_of(images: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                tokens = self.coder.tokens(self.squares(images, rois)[0])
            with autocast(ctx.device, ctx.precision):
                return self.prior.surprise(tokens).mean()

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"cross-entropy": update(optimiser, loss_of(*slices.take(chosen[next(order)])))}

        nets = [self.coder, self.prior]
        source = held_out_slices(self.view, c.batch, ctx)
        watch = held_out_loss(ctx, c.prior_updates, nets, source, lambda batch: loss_of(*batch))
        run_updates(ctx, c.prior_updates, step, phase="prior", first=first, watch=watch)

    def calibrate(self, images: np.ndarray, rois: np.ndarray) -> None:
        """Note the quantiles of −log p of the codes of healthy slices (n, H, W), and how many codes are in use."""
        import torch

        from ..nets.token_prior import perplexity

        found, used = [], []
        for start in range(0, len(images), SCORE_BATCH):
            part = slice(start, start + SCORE_BATCH)
            _, organ, tokens, surprise = self.coded(images[part], rois[part])
            found.append(surprise[:, organ].cpu())
            used.append(tokens[organ].cpu())
        levels = np.linspace(0, 1, QUANTILES)
        self.surprises = np.quantile(torch.cat(found, dim=1).double().numpy(), levels, axis=1).T
        self.perplexity = float(perplexity(torch.cat(used), self.config.codes))

    def provenance(self) -> dict[str, str]:
        """Return how much of the codebook held-out healthy slices use."""
        return {"codebook perplexity": f"{self.perplexity:.1f} of {self.config.codes}"}

    def thresholds(self, rate: float) -> np.ndarray:
        """Return for each ordering the −log p that a share ``rate`` of the healthy codes exceeds, float64 (orders,)."""
        levels = np.linspace(0, 1, QUANTILES)
        return np.array([np.interp(1 - rate, levels, quantiles) for quantiles in self.surprises])

    def squares(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the squares around the organ in [0, 1] and how much of each pixel it is, (n, 1, patch, patch)."""
        from ..roi_crop import SquareCrops

        crops = SquareCrops.around(rois, self.config.patch)
        return crops.take(as_input(images, images.device.type)), crops.take(as_input(rois, images.device.type))

    def coded(
        self, images: np.ndarray, rois: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return squares (n, 1, patch, patch), which cells show the organ, codes and −log p (orders, n, cells)."""
        import torch
        from torch.nn.functional import max_pool2d

        from ..resident import sent

        for net in (self.coder, self.prior):
            net.eval()
        with torch.inference_mode():
            seen, organ = self.squares(sent(images, self.device), sent(rois, self.device))
            tokens = self.coder.tokens(seen)
            return seen, max_pool2d(organ, self.config.stride).flatten(1) > 0, tokens, self.prior.surprise(tokens)

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the map that ``score`` names inside the region of interest, 0 elsewhere."""
        return self.compared(array, roi)[0]

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the healed slices or the mean of the samples; for ``likelihood``, the reconstruction."""
        return {"restored": self.compared(array, roi)[1]}

    def compared(self, array: np.ndarray, roi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the map and what the slice was compared with, both on the grid of the view."""
        import torch

        from ..roi_crop import SquareCrops
        from .parts.token_maps import smoothed, token_map

        c = self.config
        maps, restored = [], []
        seeds = np.random.default_rng(self.noise_seed).integers(2**32, size=len(array))
        with torch.inference_mode():
            for start in range(0, len(array), SCORE_BATCH):
                part = slice(start, start + SCORE_BATCH)
                seen, organ, tokens, surprise = self.coded(array[part], roi[part])
                thresholds = self.thresholds(c.lsr_rate if c.score == "lsr" else c.rate)
                found = token_map(self.coder, self.prior, seen, organ, tokens, surprise, thresholds, seeds[part], c)
                crops = SquareCrops.around(torch.from_numpy(roi[part]), c.patch)
                for to, squares in zip((maps, restored), found, strict=True):
                    to.append(crops.put_back(squares[:, 0].float().cpu()).numpy())
        map_ = np.concatenate(maps)
        if c.score == "lsr":
            map_ = smoothed(map_)
        return (map_ * roi).astype(np.float32), np.concatenate(restored).astype(np.float32)
