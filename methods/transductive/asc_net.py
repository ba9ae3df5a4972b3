"""ASC-Net: cuts a slice into a part that looks like the reference set and a rest; the rest is where anomalies are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...common.errors import UasbenchError
from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import SOFT_ORGANS, STANDARD_SLICES, ConfigError, SliceConfig
from ..context import FitContext
from ..method import Method
from ..reconstruction.parts.residual import erode_in_plane
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates, update
from ..watching import held_out_loss, held_out_slices

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet

SCORE_BATCH = 32
REFERENCE, CUT = -1.0, 1.0


@dataclass(frozen=True)
class ASCNetConfig(SliceConfig):
    """Settings of :class:`ASCNet`.

    Attributes:
        size: a multiple of 16.
        base: width of the finest level of both networks.
        dropout, l2: rate of dropout; factor of the summed squares of the 3×3 kernels in both losses.
        norm_momentum: share of a batch in the running statistics of batch normalisation.
        updates: updates of the main module, each after ``critic_updates`` of the discriminator. The published training
            alternates by hand and stops when the histogram of Iro shows separate peaks.
        disjoint: ``soft`` is the Dice overlap of the two cuts, as in the first of the published stages; ``binarised``
            sets every value above 10⁻¹⁶ to 1 first, as in the second, and so has no gradient.
        disjoint_weight, adversarial_weight: factors of these losses; the squared error has 1.
        orientation: which end of Iro is anomalous: ``dark``, ``bright``, or ``both``, the distance from the median
            inside the region of interest of each case.
        erode: pixels (of the view) taken off the region of interest, whose edge fades to the background.
    """

    base: int = 32
    dropout: float = 0.3
    l2: float = 2e-4
    norm_momentum: float = 0.01
    batch: int = 16
    lr: float = 5e-5
    beta1: float = 0.9
    updates: int = 10_000
    critic_updates: int = 1
    disjoint: Literal["soft", "binarised"] = "soft"
    disjoint_weight: float = 1.0
    adversarial_weight: float = 1.0
    orientation: Literal["dark", "bright", "both"] = field(default="dark", metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {"size": 32, "base": 4, "batch": 4, "updates": 5, "lr": 1e-3, "norm_momentum": 0.1},
        "quick": {
            "size": 48,
            "base": 4,
            "dropout": 0.0,
            "norm_momentum": 0.1,
            "batch": 4,
            "lr": 1e-2,
            "updates": 200,
            "adversarial_weight": 0.1,
            "erode": 1,
        },
        # Running statistics look back over a tenth of the training where the published ones see a hundredth.
        "standard": {**STANDARD_SLICES, "base": 8, "norm_momentum": 0.1, "batch": 4, "lr": 5e-4, "updates": 800},
    }
    anatomies: ClassVar = {"lung": {"window": (-800.0, 100.0), "orientation": "bright"}, **SOFT_ORGANS}


class ASCNet(Method):
    """Learns two disjoint cuts that rebuild the image, one of them indistinguishable from healthy slices."""

    card = MethodCard(
        name="asc-net",
        title="ASC-Net",
        year=2021,
        family="transductive",
        citation="Dey, Hong: ASC-Net: Adversarial-based Selective Network for Unsupervised Anomaly Segmentation, "
        "MICCAI 2021",
        reference="arXiv:2103.03664",
        uses="unlabelled-test",
        undertrained=("liver", "lung"),
        figures=(
            ("input", "n/p for LiTS", "256², masked"),
            same("network", "U-Net 32–512, 2 decoders; discriminator 32–256"),
            same("loss", "MSE + Dice of the cuts + adversarial MAE, labels ∓1"),
            ("optimiser", "Adam 5·10⁻⁵, L2 2·10⁻⁴, batch 16 on each of 4 GPUs", "Adam 5·10⁻⁵, L2 2·10⁻⁴, batch 16"),
            ("length", "by eye, until the histogram splits", "10,000 updates"),
        ),
        notes="Transductive: it trains on the test cases, without their labels. The published training alternates and "
        "stops by eye; here the number of updates is fixed and one discriminator update precedes each update of the "
        "main module. The preprocessing of LiTS is not published. At the quick profile both cuts saturate and "
        "Iro has two levels, organ and background: the squared error ends at 0.02, contrast inside the liver phantom's "
        "organ weighs less than 0.0002 in it, and the discriminator is right on every slice after some 30 updates, "
        "which ends its gradient. Its map shows the edges of the organ, near chance; lesser weights of the other "
        "losses, or a lower rate, do not change that.",
    )
    Config = ASCNetConfig
    tuned: ClassVar = {
        "lr": (1e-5, 2e-3, "log"),
        "disjoint_weight": (0.1, 10.0, "log"),
        "adversarial_weight": (0.01, 1.0, "log"),
        "critic_updates": (1, 5),
    }

    def build(self) -> None:
        import torch

        from ..nets.asc_nets import CutNet, Discriminator

        c = self.config
        layout = torch.channels_last
        self.net = CutNet(c.base, c.dropout, c.norm_momentum).to(memory_format=layout)
        self.critic = Discriminator(c.size, c.base, c.dropout, c.norm_momentum).to(memory_format=layout)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Alternate between the discriminator and the main module.

        Raises:
            UasbenchError: the context holds no unlabelled test cases.
        """
        from ..nets.layers import seed_dropout
        from ..resident import ResidentSlices

        if ctx.unlabelled is None:
            raise UasbenchError(
                f"{self.card.name} also learns from the unlabelled test cases and was given none; "
                "fit it through a run, or set FitContext.unlabelled"
            )
        c = self.config
        reference, mixed = (ResidentSlices(s.array(self.view), ctx.device) for s in (healthy, ctx.unlabelled))
        of_reference = batches(ctx, len(reference), c.batch, "order", "reference")
        of_mixed = batches(ctx, len(mixed), c.batch, "order", "mixed")
        ctx.keep(seed_dropout(self.net, ctx.seed_for("dropout", "main")))
        ctx.keep(seed_dropout(self.critic, ctx.seed_for("dropout", "discriminator")))
        train_critic, train_main = (self._optimiser(net, ctx) for net in (self.critic, self.net))
        self.net.train()
        self.critic.train()

        def step(_: int) -> dict[str, torch.Tensor]:
            losses: dict[str, torch.Tensor] = {}
            for _ in range(c.critic_updates):
                real = as_input(reference.take(next(of_reference))[0], ctx.device)
                image = as_input(mixed.take(next(of_mixed))[0], ctx.device)
                with autocast(ctx.device, ctx.precision):
                    loss = self.critic_loss(real, image)
                update(train_critic, loss)
                losses["discriminator"] = loss.detach()
            image = as_input(mixed.take(next(of_mixed))[0], ctx.device)
            with autocast(ctx.device, ctx.precision):
                parts = self.main_losses(image)
            update(train_main, sum(parts.values()))
            return {**{name: loss.detach() for name, loss in parts.items()}, **losses}

        def held_out(slices: tuple[torch.Tensor, torch.Tensor]) -> float:
            with autocast(ctx.device, ctx.precision):
                return float(sum(self.main_losses(as_input(slices[0], ctx.device)).values()))

        nets, source = [self.net, self.critic], held_out_slices(self.view, c.batch, ctx)
        run_updates(ctx, c.updates, step, watch=held_out_loss(ctx, c.updates, nets, source, held_out))

    def critic_loss(self, real: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return the mean absolute error to −1 for reference slices and to +1 for the first cut; both (n, 1, H, W)."""
        import torch

        with torch.no_grad():
            cut = self.net(image)[0]
        given = torch.cat([real, cut.to(real.dtype)])
        wanted = torch.full((len(given),), REFERENCE, device=given.device)
        wanted[len(real) :] = CUT
        return (self.critic(given).float() - wanted).abs().mean()

    def main_losses(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the weighted losses of the main module on images (n, 1, H, W): they are added up."""
        from ..nets.asc_nets import disjointness

        c = self.config
        cut, rest, rebuilt = self.net(image)
        self.critic.requires_grad_(False)
        verdict = self.critic(cut)
        self.critic.requires_grad_(True)
        return {
            "mse": ((rebuilt.float() - image) ** 2).mean(),
            "disjoint": c.disjoint_weight * disjointness(cut.float(), rest.float(), c.disjoint),
            "adversarial": c.adversarial_weight * (verdict.float() - REFERENCE).abs().mean(),
        }

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return Iro, turned so that larger is more anomalous, inside the region of interest and 0 elsewhere."""
        self.net.eval()
        joined = predict(lambda x: self.net(x)[2][:, 0], array, batch=SCORE_BATCH, device=self.device)
        kept = erode_in_plane(roi, self.config.erode)
        return np.where(kept, oriented(joined, roi, self.config.orientation), 0).astype(np.float32)

    def _optimiser(self, net: torch.nn.Module, ctx: FitContext) -> torch.optim.Optimizer:
        import torch

        from ..nets.asc_nets import regularised

        c = self.config
        kernels = regularised(net)
        held = {id(p) for p in kernels}
        # The gradient of l2 · Σ w² is 2 · l2 · w, which is what Adam's weight decay adds.
        groups = [
            {"params": kernels, "weight_decay": 2 * c.l2},
            {"params": [p for p in net.parameters() if id(p) not in held], "weight_decay": 0.0},
        ]
        return make_optimiser(ctx, torch.optim.Adam, groups, lr=c.lr, betas=(c.beta1, 0.999))


def oriented(map_: np.ndarray, roi: np.ndarray, orientation: str) -> np.ndarray:
    """Turn a map in [0, 1] so that larger is more anomalous.

    ``bright`` keeps it, ``dark`` is 1 − map, ``both`` the distance from the median inside the region of interest.
    """
    if orientation == "both":
        return np.abs(map_ - np.median(map_[roi])) if roi.any() else np.zeros_like(map_)
    return map_ if orientation == "bright" else 1 - map_


@dataclass(frozen=True)
class ASCNetPostConfig(ASCNetConfig):
    """Settings of :class:`ASCNetPost`; ``kernel`` is the side of the square in pixels of the view, odd, 1 is off."""

    kernel: int = field(default=5, metadata={"stage": "score"})

    profiles: ClassVar = ASCNetConfig.profiles_with(smoke={"kernel": 3}, quick={"kernel": 3}, standard={"kernel": 3})

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel}: choose an odd number of pixels, at least 1")


class ASCNetPost(ASCNet):
    """Opens the map of ASC-Net in every slice: what is smaller than the square vanishes at every threshold."""

    card = MethodCard(
        name="asc-net-post",
        title="ASC-Net with post-processing",
        year=2021,
        family="transductive",
        citation=ASCNet.card.citation,
        reference=ASCNet.card.reference,
        uses="unlabelled-test",
        trainer="asc-net",
        undertrained=("liver", "lung"),
        figures=ASCNet.card.figures,
        notes="Shares the training of asc-net. The published post-processing is designed by hand and not specified; "
        "here it is a grey opening (erosion, then dilation) in the plane, a binary opening at every threshold at once. "
        "At the quick profile as close to chance as the map it opens.",
    )
    Config = ASCNetPostConfig

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the opened map, 0 outside the region of interest."""
        return opened(super().score_view(array, roi, spacing), self.config.kernel)


def opened(map_: np.ndarray, kernel: int) -> np.ndarray:
    """Open every slice with a ``kernel`` × ``kernel`` square, zeros beyond the border; float32 (slices, H, W)."""
    if kernel == 1:
        return map_
    from scipy import ndimage

    size = (1, kernel, kernel)
    low = ndimage.minimum_filter(map_, size=size, mode="constant", cval=0.0)
    return ndimage.maximum_filter(low, size=size, mode="constant", cval=0.0).astype(np.float32)
