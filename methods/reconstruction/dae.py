"""Denoising autoencoder: a U-Net that removes coarse noise and, at test time, lesions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import STANDARD_SLICES, SliceConfig
from ..context import FitContext
from ..method import Method
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates, update
from ..watching import held_out_loss
from .parts.base import SCORE_BATCH
from .parts.residual import residual

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack


@dataclass(frozen=True)
class DAEConfig(SliceConfig):
    """Settings of :class:`DAE`.

    Attributes:
        wf: binary logarithm of the U-Net's first width.
        depth: levels of the U-Net.
        noise_grid: side of the grid on which the noise is drawn.
        noise_std: standard deviation of the noise on that grid, in grey values of [0, 1].
        weight_decay: L2 penalty inside Adam (AMSGrad).
        epoch_updates: updates between two steps of the learning rate.
        epochs: number of such epochs.
        t_max: half period of the cosine in epochs; it goes on past ``t_max``, so the rate rises again.
        median: side of the in-plane median filter on the map; 0 is off.
        edge_window: side of the window that decides what is edge of the region of interest; 0 keeps the edge.
        edge_share: share of that window that must lie inside.
    """

    size: int = 128
    wf: int = 6
    depth: int = 4
    noise_grid: int = 16
    noise_std: float = 0.2
    lr: float = 1e-4
    weight_decay: float = 1e-5
    batch: int = 16
    epoch_updates: int = 32
    epochs: int = 2100
    t_max: int = 100
    median: int = field(default=5, metadata={"stage": "score"})
    edge_window: int = field(default=5, metadata={"stage": "score"})
    edge_share: float = field(default=0.95, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {"size": 32, "wf": 2, "depth": 3, "batch": 4, "epoch_updates": 2, "epochs": 5, "lr": 1e-3, "t_max": 5},
        "quick": {"size": 64, "wf": 3, "batch": 4, "epoch_updates": 10, "epochs": 24, "lr": 4e-3, "t_max": 24},
        # 21 half periods of the cosine, as published.
        "standard": {
            **STANDARD_SLICES,
            "wf": 4,
            "batch": 8,
            "epoch_updates": 6,
            "epochs": 210,
            "lr": 1e-3,
            "t_max": 10,
        },
    }

    @property
    def updates(self) -> int:
        """Optimiser updates of a whole training."""
        return self.epoch_updates * self.epochs


class DAE(Method):
    """Learns to remove coarse noise from healthy slices; the map is the smoothed absolute residual."""

    card = MethodCard(
        name="dae",
        title="Denoising autoencoder",
        year=2022,
        family="reconstruction",
        citation="Kascenas et al., Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI, MIDL 2022",
        reference="https://proceedings.mlr.press/v172/kascenas22a.html",
        figures=(
            ("input", "128², 4 channels of MRI", "128², masked"),
            same("network", "weight-standardised U-Net, 64–512, 4 levels"),
            (
                "loss",
                "squared error in the foreground, to the clean slice",
                "squared error in the organ, to the clean slice",
            ),
            same("optimiser", "AMSGrad 10⁻⁴, decay 10⁻⁵, cyclic cosine, batch 16"),
            same("length", "67,200 updates"),
        ),
        notes="CT port: the region of interest is the foreground, because dark lung is 0 after windowing. "
        "No CT figures are published.",
    )
    Config = DAEConfig
    tuned: ClassVar = {
        "lr": (1e-5, 3e-3, "log"),
        "noise_std": (0.05, 0.5),
        "noise_grid": [8, 16, 32],
        "median": [0, 5],
        "edge_window": [0, 5],
    }

    def build(self) -> None:
        import torch

        from ..nets.unets import WeightStandardisedUNet

        net = WeightStandardisedUNet(depth=self.config.depth, wf=self.config.wf)
        self.net = net.to(memory_format=torch.channels_last)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the squared error to the clean slice inside the region of interest, averaged over all pixels."""
        import torch

        c = self.config
        stack = healthy.array(self.view)
        draw = self.batch_source(stack, ctx)
        optimiser = make_optimiser(
            ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr, weight_decay=c.weight_decay, amsgrad=True
        )
        schedule = ctx.keep(torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: cyclic_cosine(epoch, c.t_max)))
        self.net.train()

        def loss_of(batch: Sequence[torch.Tensor]) -> torch.Tensor:
            clean, roi, noisy = batch
            with autocast(ctx.device, ctx.precision):
                return ((self.net(noisy).float() - clean) ** 2 * roi).mean()

        def step(i: int) -> dict[str, torch.Tensor]:
            loss = update(optimiser, loss_of(draw()))
            if (i + 1) % c.epoch_updates == 0:
                schedule.step()
            return {"mse": loss}

        watch = held_out_loss(
            ctx, c.updates, [self.net], lambda held: self.batch_source(held.array(self.view), ctx, "held out"), loss_of
        )
        run_updates(ctx, c.updates, step, watch=watch)

    def batch_source(self, stack: SliceStack, ctx: FitContext, *phase: str) -> Callable[[], Sequence[torch.Tensor]]:
        """Return what yields clean slices, regions of interest and noisy slices, float32 (n, 1, H, W)."""
        from ..resident import ResidentSlices

        c, slices = self.config, ResidentSlices(stack, ctx.device, held=False if "held out" in phase else None)
        order = batches(ctx, len(stack), c.batch, "order", *phase)
        generator = ctx.generator("noise", *phase)

        def draw() -> Sequence[torch.Tensor]:
            clean, roi = (as_input(part, ctx.device) for part in slices.take(next(order)))
            noise = coarse_noise(len(clean), c.size, c.noise_grid, c.noise_std, generator)
            return clean, roi, clean + noise * roi

        return draw

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the filtered absolute residual away from the edge of the region of interest, 0 elsewhere."""
        from scipy import ndimage

        c = self.config
        map_ = residual(array, self.denoised(array), "absolute") * roi
        if c.median:
            map_ = ndimage.median_filter(map_, size=(1, c.median, c.median))
        return (map_ * inner_foreground(roi, c.edge_window, c.edge_share)).astype(np.float32)

    def denoised(self, array: np.ndarray) -> np.ndarray:
        """Return what the network makes of slices without noise, float32, shape of ``array`` (slices, H, W)."""
        self.net.eval()
        return predict(lambda x: self.net(x)[:, 0], array, batch=SCORE_BATCH, device=self.device)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the denoised slices."""
        return {"denoised": self.denoised(array)}


def cyclic_cosine(epoch: int, t_max: int) -> float:
    """Return the factor on the learning rate: a cosine from 1 to 0 at ``t_max`` and back, without end.

    >>> [round(cyclic_cosine(e, 100), 3) for e in (0, 50, 100, 150, 200)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    return (1 + math.cos(math.pi * epoch / t_max)) / 2


def coarse_noise(count: int, size: int, grid: int, std: float, generator: torch.Generator) -> torch.Tensor:
    """Draw normal noise on a coarse grid, enlarge it bilinearly and roll each image by a random shift per axis.

    Kascenas et al. 2022, §2. Grid and size are sides in pixels; float32 (count, 1, size, size) on the generator's
    device.
    """
    import torch
    from torch.nn import functional

    device = generator.device
    noise = std * torch.randn((count, 1, grid, grid), generator=generator, device=device)
    noise = functional.interpolate(noise, size=(size, size), mode="bilinear", align_corners=True)
    shift = torch.randint(size, (2, count, 1), generator=generator, device=device)
    rows, columns = (torch.arange(size, device=device) - shift) % size
    image = torch.arange(count, device=device)[:, None, None]
    return noise[image, 0, rows[:, :, None], columns[:, None, :]][:, None]


def inner_foreground(roi: np.ndarray, window: int, share: float) -> np.ndarray:
    """Keep pixels whose ``window`` × ``window`` neighbourhood lies in ``roi`` by more than ``share``; 0 keeps all.

    Kascenas et al. 2022 use 5 and 0.95: one of 25 pixels outside is allowed, two are not.
    """
    if window == 0:
        return roi
    from scipy import ndimage

    count = ndimage.convolve(roi.astype(np.int32), np.ones((1, window, window), np.int32), mode="constant")
    return roi & (count > share * window**2)
