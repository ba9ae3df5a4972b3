"""Autoencoder with a dense latent vector; the anomaly map is its reconstruction residual."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ...datasets.view import View
from ..base import Method
from ..card import MethodCard
from ..config import Config
from ..context import FitContext
from ..training import as_input, autocast, batches, predict, run_updates
from .early_stopping import hold_out, train_until_no_gain
from .residual import Sign, erode_in_plane, median_in_volume, residual

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet, SliceStack

SCORE_BATCH = 64


@dataclass(frozen=True)
class Budget:
    """How long and how fast to train; ``patience`` is counted in epochs without a better validation loss."""

    lr: float
    beta1: float
    batch: int
    updates: int | None
    epochs: int | None
    patience: int | None


BUDGETS: Mapping[str, Budget] = {
    "seed2": Budget(lr=3e-4, beta1=0.9, batch=16, updates=6000, epochs=None, patience=None),
    "baur": Budget(lr=1e-4, beta1=0.5, batch=8, updates=None, epochs=1000, patience=5),
}


@dataclass(frozen=True)
class AEConfig(Config):
    """Settings of :class:`AE`; those that are None come from ``budget``.

    ``seed2`` trains for a fixed number of updates (Yao et al. 2021); ``baur`` until ``patience`` epochs have not
    improved the loss on a part of the training slices that is held out by patient (Baur et al. 2021).

    Attributes:
        size: side of the view in pixels.
        window: HU range mapped to [0, 1].
        z: length of the latent vector.
        width: width of the first stage of the trunk.
        norm: ``batch``, or ``affine`` as the published networks effectively behave.
        dropout: rate in training, after the latent vector and after the second dense layer.
        sign: part of x − x̂ that counts: lung lesions are brighter, liver tumours either.
        erode: pixels (of the view) taken off the region of interest, whose edge reconstructs badly.
        median: side of the cubic median filter on the map, 5 in Baur et al. 2021; 0 is off.
    """

    size: int = 128
    window: tuple[float, float] = (-200.0, 250.0)
    z: int = 128
    width: int = 32
    norm: Literal["batch", "affine"] = "batch"
    dropout: float = 0.2
    budget: Literal["seed2", "baur"] = "seed2"
    lr: float | None = None
    beta1: float | None = None
    batch: int | None = None
    updates: int | None = None
    epochs: int | None = None
    patience: int | None = None
    sign: Sign = field(default="absolute", metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})
    median: int = field(default=0, metadata={"stage": "score"})

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"size": 32, "width": 8, "z": 16, "dropout": 0.0, "batch": 8, "updates": 10, "lr": 1e-3},
        "quick": {
            "size": 64,
            "width": 8,
            "norm": "affine",
            "dropout": 0.0,
            "batch": 8,
            "updates": 600,
            "lr": 3e-3,
        },
    }
    anatomies: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "liver": {"window": (-200.0, 250.0), "sign": "absolute"},
        "lung": {"window": (-800.0, 100.0), "sign": "positive"},
    }

    def __post_init__(self) -> None:
        for name, value in vars(BUDGETS[self.budget]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)


class AE(Method):
    """Learns to reproduce healthy slices through a narrow code; what it cannot reproduce is anomalous."""

    card = MethodCard(
        name="ae",
        title="Autoencoder",
        year=2021,
        family="reconstruction",
        citation="Baur et al., Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images: A Comparative "
        "Study, Medical Image Analysis 69, 2021",
        reference="doi:10.1016/j.media.2020.101952",
        published=(
            ("Yao et al. 2021, Table III", "coronacases", "dice", "28.3 ± 15.5", "oracle threshold, mean over volumes"),
            ("Yao et al. 2021, Table III", "coronacases", "psc", "21.5 ± 15.3", "oracle threshold, mean over volumes"),
            ("Yao et al. 2021, Table III", "coronacases", "sen", "52.1 ± 11.3", "oracle threshold, mean over volumes"),
            ("Yao et al. 2021, Table III", "radiopaedia", "dice", "30.3 ± 17.7", "oracle threshold, mean over volumes"),
            ("Yao et al. 2021, Table III", "radiopaedia", "psc", "24.4 ± 19.0", "oracle threshold, mean over volumes"),
            ("Yao et al. 2021, Table III", "radiopaedia", "sen", "58.9 ± 6.2", "oracle threshold, mean over volumes"),
        ),
        notes="Unified trunk, dense latent vector of 128, mean absolute error. The component filter of Baur et al. is "
        "left to the protocols, which apply it to all methods alike.",
    )
    Config = AEConfig

    @property
    def view(self) -> View:
        """Masked slices with fixed grey bounds, the same in training and test."""
        return View(size=self.config.size, window=self.config.window)

    def build(self) -> None:
        """Create the autoencoder."""
        import torch

        from ..nets.baur import BaurAE

        c = self.config
        self.net = BaurAE(c.size, c.z, c.norm, c.dropout, c.width).to(memory_format=torch.channels_last)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the mean absolute error between slice and reconstruction."""
        from ..nets.baur import seed_dropout

        stack = healthy.array(self.view)
        seed_dropout(self.net, ctx.seed_for("dropout"))
        self.net.train()
        if self.config.patience is None:
            step = self._step(stack, np.arange(len(stack)), ctx)
            run_updates(ctx, self.config.updates, step)
            return
        train, held_out = hold_out(healthy, stack, ctx.rng("hold-out"))
        per_epoch = math.ceil(len(train) / self.config.batch)
        train_until_no_gain(
            ctx,
            self.net,
            self._step(stack, train, ctx),
            lambda: self._mean_error(stack, held_out),
            per_epoch=per_epoch,
            updates=self.config.epochs * per_epoch if self.config.updates is None else self.config.updates,
            patience=self.config.patience,
        )

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the residual inside the (eroded) region of interest, 0 elsewhere."""
        kept = erode_in_plane(roi, self.config.erode)
        map_ = residual(array, self._reconstruct(array), self.config.sign) * roi
        return (median_in_volume(map_, self.config.median) * kept).astype(np.float32)

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Suggest the learning rate, the length of the code and the score switches."""
        return {
            "lr": trial.suggest_float("lr", 1e-5, 3e-3, log=True),
            "z": trial.suggest_categorical("z", [32, 64, 128, 256]),
            "erode": trial.suggest_int("erode", 0, 3),
            "median": trial.suggest_categorical("median", [0, 5]),
        }

    def _step(self, stack: SliceStack, of: np.ndarray, ctx: FitContext) -> Any:
        import torch
        from torch.nn import functional

        c = self.config
        optimiser = torch.optim.Adam(self.net.parameters(), lr=c.lr, betas=(c.beta1, 0.999))
        order = batches(len(of), c.batch, ctx.rng("order"))

        def step(_: int) -> dict[str, torch.Tensor]:
            x = as_input(stack.take(of[next(order)])[0], ctx.device)
            with autocast(ctx.device, ctx.precision):
                loss = functional.l1_loss(self.net(x), x)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            return {"l1": loss.detach()}

        return step

    def _reconstruct(self, array: np.ndarray) -> np.ndarray:
        self.net.eval()
        return predict(lambda x: self.net(x)[:, 0], array, batch=SCORE_BATCH, device=self.device)

    def _mean_error(self, stack: SliceStack, of: np.ndarray) -> float:
        chunks = [of[i : i + SCORE_BATCH] for i in range(0, len(of), SCORE_BATCH)]
        images = (stack.take(chunk)[0] for chunk in chunks)
        total = sum(float(np.abs(a - self._reconstruct(a)).mean(axis=(1, 2)).sum()) for a in images)
        self.net.train()
        return total / len(of)
