"""What the methods on the unified trunk share: budgets, training, and the residual as anomaly map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ....datasets.case import Spacing
from ...card import Figure
from ...config import SOFT_ORGANS, ConfigError, complete
from ...context import FitContext
from ...early_stopping import hold_out, train_until_no_gain
from ...method import Method
from ...training import (
    WATCHED_POINTS,
    as_input,
    autocast,
    batches,
    make_optimiser,
    predict,
    quicker_first,
    run_updates,
    training_length,
    update,
)
from ...watching import held_out_loss, held_out_slices
from .placing import QUICK_FRAME, SMOKE_FRAME, STANDARD_FRAME, PlacedSlices
from .residual import Sign, filtered_inside, residual

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import HealthySet, SliceStack

SCORE_BATCH = 64
LUNG_NOTE = (
    "On the lung the residual of an untrained network is brightness itself, and the quick profile adds nothing to that."
)
INPUT_FIGURE: Figure = (
    "input",
    "Baur: 128²; Yao: masked, lungs centred on 512², then n/p",
    "128², masked; lungs in Yao's frame",
)
LENGTH_FIGURE: Figure = ("length", "Yao: 6,000 updates; Baur: ≤ 1,000 epochs, patience 5", "6,000 updates")
TRAINING_FIGURES: tuple[Figure, ...] = (
    ("optimiser", "Yao: 3·10⁻⁴, batch 16; Baur: Adam 10⁻⁴, β₁ 0.5, batch 8", "Adam 3·10⁻⁴, batch 16"),
    LENGTH_FIGURE,
)


# How long and how fast to train; ``patience`` is counted in epochs without a better validation loss.
BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "seed2": {"lr": 3e-4, "beta1": 0.9, "batch": 16, "updates": 6000, "epochs": None, "patience": None},
    "baur": {"lr": 1e-4, "beta1": 0.5, "batch": 8, "updates": None, "epochs": 1000, "patience": 5},
}


@dataclass(frozen=True)
class ReconstructionConfig(PlacedSlices):
    """Settings of every method on the trunk; those that are None come from ``budget``, an entry of ``budgets``.

    ``seed2`` trains for a fixed number of updates (Yao et al. 2021); ``baur`` until ``patience`` epochs have not
    improved the loss on a part of the training slices that is held out by patient (Baur et al. 2021).

    Attributes:
        z: length of the latent vector, or channels of a spatial code.
        width: width of the first stage of the trunk.
        norm: ``batch``, or ``affine`` as the published networks effectively behave.
        dropout: rate in training, after the latent vector and after the second dense layer: that of the scripts of
            Baur et al. 2021, 0.2 for the autoencoder and 0.1 for all others. Yao et al. 2021 print one for the
            Bayesian autoencoder alone, 0.2.
        first_lr: learning rate of the first half of the updates, if not ``lr``: a short training begins faster.
        sign: part of x − x̂ that counts: lung lesions are brighter, liver tumours either.
        erode: pixels (of the view) taken off the region of interest, whose edge reconstructs badly.
        median: side of the cubic median filter on the map, 5 in Baur et al. 2021; 0 is off.
    """

    size: int = 128
    z: int = 128
    width: int = 32
    norm: Literal["batch", "affine"] = "batch"
    dropout: float = 0.2
    budget: Literal["seed2", "baur"] = "seed2"
    lr: float | None = None
    first_lr: float | None = None
    beta1: float | None = None
    batch: int | None = None
    updates: int | None = None
    epochs: int | None = None
    patience: int | None = None
    sign: Sign = field(default="absolute", metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})
    median: int = field(default=0, metadata={"stage": "score"})

    budgets: ClassVar = BUDGETS
    profiles: ClassVar = {
        "smoke": {
            **SMOKE_FRAME,
            "size": 32,
            "width": 8,
            "z": 16,
            "dropout": 0.0,
            "batch": 8,
            "updates": 10,
            "lr": 1e-3,
        },
        "quick": {
            **QUICK_FRAME,
            "size": 64,
            "width": 8,
            "norm": "affine",
            "dropout": 0.0,
            "batch": 8,
            "updates": 600,
            "lr": 3e-3,
            "erode": 3,
        },
        "standard": {**STANDARD_FRAME, "width": 8, "updates": 4000, "first_lr": 1e-3},
    }
    anatomies: ClassVar = {
        # Opacities begin at the pleura: an eroded lung has lost half of them.
        "lung": {"window": (-800.0, 100.0), "frame": "volume", "sign": "positive", "erode": 0},
        **SOFT_ORGANS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        complete(self, self.budgets[self.budget])
        if self.first_lr is not None and self.updates is None:
            raise ConfigError(f"first_lr={self.first_lr}: half of a training has an end only with a number of updates")


class ReconstructionMethod(Method):
    """Learns to reproduce healthy slices; what it cannot reproduce is anomalous.

    A subclass creates its network in :meth:`make_net` and says in :meth:`losses` what is minimised; it may replace
    :meth:`reconstruct` or :meth:`score_view`, and leave slices out of training by :meth:`training_slices`.

    Attributes:
        net: the network, made by :meth:`build`.
    """

    Config = ReconstructionConfig
    tuned: ClassVar = {"lr": (1e-5, 3e-3, "log"), "z": [32, 64, 128, 256], "erode": (0, 3), "median": [0, 5]}
    net: Any

    def make_net(self) -> torch.nn.Module:
        """Create the network."""
        raise TypeError(f"{type(self).__name__} has no make_net()")

    def build(self) -> None:
        import torch

        self.net = self.make_net().to(memory_format=torch.channels_last)

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the scalar losses of a batch, by curve name; the first one is minimised.

        Args:
            x: float32 (n, 1, H, W) in [0, 1].
            roi: bool, same shape.
            draws: generator on the device of ``x`` for whatever is random in the loss.
        """
        raise TypeError(f"{type(self).__name__} has no losses(x, roi, draws)")

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the loss for the updates of the budget, or until held-out patients stop improving."""
        from ...nets.layers import seed_dropout

        c, stack = self.config, healthy.array(self.view)
        ctx.keep(seed_dropout(self.net, ctx.seed_for("dropout")))
        self.net.train()
        source = held_out_slices(self.view, c.batch, ctx)

        def watch(updates: int) -> Callable[[], float] | None:
            return held_out_loss(ctx, updates, [self.net], source, lambda slices: self._held_out_loss(slices, ctx))

        if c.patience is None:
            train = self.training_slices(healthy, stack, ctx)
            updates = training_length(c.updates, c.epochs, len(train), c.batch)
            run_updates(ctx, updates, self._step(stack, train, ctx), watch=watch(updates))
            return
        train, held_out = hold_out(healthy, stack, ctx.rng("hold-out"))
        train_until_no_gain(
            ctx,
            self.net,
            self._step(stack, train, ctx),
            lambda: self._validation_loss(stack, held_out, ctx),
            per_epoch=math.ceil(len(train) / c.batch),
            updates=training_length(c.updates, c.epochs, len(train), c.batch),
            patience=c.patience,
            watch=watch(WATCHED_POINTS * math.ceil(len(train) / c.batch)),
        )

    def training_slices(self, healthy: HealthySet, stack: SliceStack, ctx: FitContext) -> np.ndarray:
        """Return the numbers of the slices that a training without validation uses, int64: all of them."""
        return np.arange(len(stack))

    def reconstruct(self, array: np.ndarray) -> np.ndarray:
        """Return the reconstruction without dropout or noise, float32, shape of ``array`` (slices, H, W)."""
        self.net.eval()
        return predict(lambda x: self.net(x)[:, 0], array, batch=SCORE_BATCH, device=self.device)

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the residual inside the (eroded) region of interest, 0 elsewhere."""
        return self.finish(residual(array, self.reconstruct(array), self.config.sign), roi)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the reconstruction."""
        return {"reconstruction": self.reconstruct(array)}

    def finish(self, map_: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """Apply ``median`` and ``erode`` to a map; float32, 0 outside the (eroded) region of interest."""
        return filtered_inside(map_, roi, self.config.median, self.config.erode)

    def _step(self, stack: SliceStack, of: np.ndarray, ctx: FitContext) -> Callable[[int], dict[str, torch.Tensor]]:
        import torch

        from ...resident import ResidentSlices

        c, slices = self.config, ResidentSlices(stack, ctx.device)
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr, betas=(c.beta1, 0.999))
        quicker_first(ctx, optimiser, c.first_lr, ctx.updates(c.updates or 0))
        order = batches(ctx, len(of), c.batch, "order")
        draws = ctx.generator("draws")

        def step(_: int) -> dict[str, torch.Tensor]:
            losses = self._losses_of(*slices.take(of[next(order)]), ctx, draws)
            update(optimiser, next(iter(losses.values())))
            return {name: value.detach() for name, value in losses.items()}

        return step

    def _held_out_loss(self, slices: tuple[torch.Tensor, torch.Tensor], ctx: FitContext) -> torch.Tensor:
        import torch

        draws = torch.Generator(ctx.device).manual_seed(ctx.seed_for("held out"))
        return next(iter(self._losses_of(*slices, ctx, draws).values()))

    def _validation_loss(self, stack: SliceStack, of: np.ndarray, ctx: FitContext) -> float:
        """Return the loss per slice without dropout; every call uses the same draws."""
        import torch

        from ...resident import ResidentSlices

        slices = ResidentSlices(stack, ctx.device, held=False)
        draws = torch.Generator(ctx.device).manual_seed(ctx.seed_for("validation"))
        self.net.eval()
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(of), SCORE_BATCH):
                chunk = of[start : start + SCORE_BATCH]
                losses = self._losses_of(*slices.take(chunk), ctx, draws)
                total += float(next(iter(losses.values()))) * len(chunk)
        self.net.train()
        return total / len(of)

    def _losses_of(
        self, images: torch.Tensor, rois: torch.Tensor, ctx: FitContext, draws: torch.Generator
    ) -> dict[str, torch.Tensor]:
        with autocast(ctx.device, ctx.precision):
            return self.losses(as_input(images, ctx.device), rois[:, None], draws)
