"""CutPaste: tells crops with pasted pieces from plain ones; the density of its embeddings is the anomaly map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...common.untried import untried
from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import STANDARD_SLICES, SliceConfig, complete
from ..context import FitContext
from ..features.parts.backbone import PretrainedMethod
from ..nets import weights as sources
from ..training import Batches, as_input, autocast, batches, make_optimiser, run_updates, update
from ..watching import held_out_loss
from .parts.organ_crops import cut, grid_centres, random_centres, spread_scores

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack

BACKBONE = "resnet18.tv_in1k"
SCORE_BATCH, SLICES_TOGETHER = 512, 16
Batch = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]
CLASSES = ("normal", "patch", "scar")


# Updates that are called an epoch, and epochs for which the backbone does not learn.
BUDGETS: Mapping[str, Mapping[str, int]] = {
    "paper": {"epoch_updates": 256, "frozen_epochs": 0},
    "port": {"epoch_updates": 1, "frozen_epochs": 20},
}


@dataclass(frozen=True)
class CutPasteConfig(SliceConfig):
    """Settings of :class:`CutPaste`; those that are None come from ``budget``.

    Attributes:
        crop: side of the crops in pixels that are classified and scored.
        weights: start of the backbone: ``random`` as in the paper's main results, ``imagenet``, or the path of a file
            or folder (:func:`..features.weights.find`).
        channels, layers: widths and blocks of the backbone; the defaults are ResNet-18.
        hidden: widths of the projection head.
        budget: ``paper`` does 256 updates an epoch; ``port`` one, as the widely used port that the liver benchmark
            BMAD ran, which therefore trains for 256 updates, the first 20 on a frozen backbone.
        epochs: number of epochs.
        batch: crops per update; each enters plain, with a patch and with a scar.
        jitter, area, aspect, scar_width, scar_length, scar_angle: see :class:`CutPastePatches`.
        density_crops: healthy crops from which the Gaussian is estimated.
        normalise: divide embeddings by their length.
        stride: pixels between scored crops.
        sigma: standard deviation in pixels of the Gaussian with which a crop's score spreads.
    """

    crop: int = 64
    weights: str = sources.RANDOM
    channels: tuple[int, ...] = (64, 128, 256, 512)
    layers: tuple[int, ...] = (2, 2, 2, 2)
    hidden: tuple[int, ...] = (512, 128)
    budget: Literal["paper", "port"] = "paper"
    epochs: int = 256
    epoch_updates: int | None = None
    frozen_epochs: int | None = None
    batch: int = 64
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 3e-5
    jitter: float = 0.1
    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[float, float] = (0.3, 3.3)
    scar_width: tuple[float, float] = (2.0, 16.0)
    scar_length: tuple[float, float] = (10.0, 25.0)
    scar_angle: float = 45.0
    density_crops: int = 16384
    normalise: bool = True
    stride: int = field(default=4, metadata={"stage": "score"})
    sigma: float = field(default=10.0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "crop": 16,
            "channels": (4, 8, 8, 16),
            "layers": (1, 1, 1, 1),
            "hidden": (16, 8),
            "epoch_updates": 1,
            "epochs": 5,
            "batch": 4,
            "scar_width": (1.0, 3.0),
            "scar_length": (3.0, 6.0),
            "density_crops": 64,
            "sigma": 3.0,
        },
        "quick": {
            "size": 64,
            "crop": 16,
            "channels": (16, 32, 64, 128),
            "layers": (1, 1, 1, 1),
            "hidden": (64,),
            "epoch_updates": 10,
            "epochs": 80,
            "batch": 16,
            "jitter": 0.5,
            "area": (0.05, 0.15),
            "scar_width": (1.0, 4.0),
            "scar_length": (3.0, 7.0),
            "density_crops": 2048,
            "stride": 2,
            "sigma": 2.0,
        },
        # Half the published grid: what is counted in pixels is halved.
        "standard": {
            **STANDARD_SLICES,
            "crop": 32,
            "channels": (16, 32, 64, 128),
            "hidden": (128, 32),
            "epoch_updates": 8,
            "scar_width": (1.0, 8.0),
            "scar_length": (5.0, 12.5),
            "density_crops": 4096,
            "stride": 2,
            "sigma": 5.0,
        },
    }

    def __post_init__(self) -> None:
        complete(self, BUDGETS[self.budget])


class CutPaste(PretrainedMethod):
    """Learns to tell plain crops from crops with a pasted patch or scar; crops of low density stand out.

    Attributes:
        updates: optimiser updates done: ``frozen`` with the backbone as it was, ``all``.
        mean, precision: Gaussian of the healthy embeddings.
        weights_used: what :func:`..features.weights.record` says of the backbone's first weights, and their ``sha256``.
    """

    card = MethodCard(
        name="cutpaste",
        title="CutPaste",
        year=2021,
        family="pseudo-anomaly",
        citation="Li, Sohn, Yoon, Pfister: CutPaste – Self-Supervised Learning for Anomaly Detection and Localization, "
        "CVPR 2021",
        reference="doi:10.1109/CVPR46437.2021.00954",
        figures=(
            ("input", "n/p", "64² crops of 256², masked"),
            ("network", "port: ResNet-18, head 512 × n, 128", "ResNet-18, head 512, 128"),
            same("loss", "cross-entropy of plain, patch, scar"),
            same("optimiser", "SGD 0.03, momentum 0.9, decay 3·10⁻⁵, cosine, batch 64"),
            ("length", "256 epochs of 256 updates (port: of 1)", "256 epochs of 256 updates (budget=port: of 1)"),
        ),
        undertrained=("lung",),
        notes="Three-way, on 64² crops centred on the organ, scored on a dense grid: the reading with which the paper "
        "localises. Trained from random weights unless weights= says otherwise; the record names them. BMAD's port is "
        "budget=port: an epoch there is one update. The quick profile does not learn to tell vessels of the lung from "
        "pasted patches.",
    )
    Config = CutPasteConfig
    tuned: ClassVar = {"lr": (1e-3, 0.1, "log"), "crop": [32, 64], "sigma": (2.0, 16.0)}

    @property
    def pretrained(self) -> str:
        return BACKBONE

    def build(self) -> None:
        """Create the network, its backbone with pretrained weights where these are asked for.

        Raises:
            WeightsError: there are none, or they do not fit.
        """
        import torch

        from ..nets.timm_nets import CutPasteNet

        c = self.config
        self.net = CutPasteNet(c.channels, c.layers, c.hidden, len(CLASSES)).to(memory_format=torch.channels_last)
        source = sources.find(BACKBONE, c.weights)
        self.weights_used = sources.record(source, BACKBONE)
        if source.kind != "random":
            state = sources.read(source, BACKBONE)
            misfit, fix = f"weights={c.weights} do not fit the backbone", "use channels and layers of ResNet-18"
            first = sources.fitting(state, self.net.backbone.state_dict(), misfit, fix)
            self.net.backbone.load_state_dict(first)
            self.weights_used["sha256"] = sources.sha256(state)
        self.updates: dict[str, int] = {}
        self.mean = np.zeros(c.channels[-1], np.float32)
        self.precision = np.eye(c.channels[-1], dtype=np.float32)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train the classifier, then estimate the Gaussian of plain healthy crops."""
        stack = healthy.array(self.view)
        c = self.config
        self._train(stack, ctx)
        rng = ctx.rng("density")
        order = Batches(len(stack), c.batch, rng)
        embeddings: list[np.ndarray] = []
        while sum(map(len, embeddings)) < c.density_crops:
            images, rois = stack.take(next(order))
            embeddings.append(self._embed(cut(images, *random_centres(rois, rng), c.crop)))
        self.mean, self.precision = fit_gaussian(np.concatenate(embeddings)[: c.density_crops])

    def batch_source(self, stack: SliceStack, ctx: FitContext, phase: str) -> Callable[[], Batch]:
        """Return what yields crops plain, with a patch and with a scar, each float32 (n, crop, crop) in [0, 1]."""
        from ..resident import sent
        from ..synthesis.cutpaste_patches import CutPastePatches

        c = self.config
        order = batches(ctx, len(stack), c.batch, "order", phase)
        rng = ctx.rng("crops", phase)
        paste = CutPastePatches(
            ctx.generator("patches", phase),
            area=c.area,
            aspect=c.aspect,
            scar_width=c.scar_width,
            scar_length=c.scar_length,
            scar_angle=c.scar_angle,
            jitter=c.jitter,
        )

        def draw() -> Batch:
            images, rois = stack.take(next(order))
            centres = random_centres(rois, rng)
            crops = as_input(cut(images, *centres, c.crop), ctx.device)[:, 0]
            tissue = sent(cut(rois, *centres, c.crop), ctx.device)
            return crops, paste.patch(crops, tissue)[0], paste.scar(crops, tissue)[0]

        return draw

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        drawn = self.batch_source(healthy.array(self.view), ctx, "preview")()
        return {name: crops.cpu().numpy() for name, crops in zip(CLASSES, drawn, strict=True)}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return −log density of the crops around each pixel, spread by a Gaussian, inside the region of interest."""
        out = np.zeros(array.shape, np.float32)
        shown = np.flatnonzero(roi.any(axis=(1, 2)))
        count = SLICES_TOGETHER if untried(self.device) else 1  # an accelerator waits between small batches
        for start in range(0, len(shown), count):
            self._score(array, roi, shown[start : start + count], out)
        return out

    def _score(self, array: np.ndarray, roi: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
        """Write the maps of some slices, whose crops are embedded together."""
        c = self.config
        centres = [grid_centres(roi[z], c.stride) for z in numbers]
        of = np.repeat(np.arange(len(numbers)), [len(rows) for rows, _ in centres])
        rows, columns = (np.concatenate(parts) for parts in zip(*centres, strict=True))
        scores = negative_log_density(
            self._embed(cut(array[numbers], of, rows, columns, c.crop)), self.mean, self.precision
        )
        for k, z in enumerate(numbers):
            out[z] = spread_scores(scores[of == k], *centres[k], roi[z], c.sigma)

    def _train(self, stack: SliceStack, ctx: FitContext) -> None:
        import torch
        from torch.nn import functional

        from ..ahead import drawn_ahead

        c = self.config
        updates = ctx.updates(c.epochs * c.epoch_updates)
        frozen = min(c.frozen_epochs * c.epoch_updates, updates)
        optimiser = make_optimiser(
            ctx, torch.optim.SGD, self.net.parameters(), lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay
        )
        schedule = ctx.keep(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(updates, 1)))
        classes = torch.arange(len(CLASSES), device=ctx.device).repeat_interleave(c.batch)
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            crops = torch.cat(batch)[:, None]
            with autocast(ctx.device, ctx.precision):
                logits = self.net(crops)
            return functional.cross_entropy(logits.float(), classes)

        def step(i: int) -> dict[str, torch.Tensor]:
            self.net.backbone.requires_grad_(i >= frozen)
            loss = update(optimiser, loss_of(draw()))
            schedule.step()
            return {"cross-entropy": loss}

        def held_out(held: HealthySet) -> Callable[[], Batch]:
            return self.batch_source(held.array(self.view), ctx, "held out")

        watch = held_out_loss(ctx, updates, [self.net], held_out, loss_of)
        with drawn_ahead(self.batch_source(stack, ctx, "fit"), ctx) as draw:
            done = run_updates(ctx, updates, step, watch=watch)
        self.net.requires_grad_(True)
        self.updates = {"frozen": frozen, "all": done}

    def _embed(self, crops: np.ndarray) -> np.ndarray:
        """Return the embeddings of crops (n, crop, crop), float32 (n, dims)."""
        import torch

        self.net.eval()
        found = []
        with torch.inference_mode():
            for start in range(0, len(crops), SCORE_BATCH):
                embedding = self.net.embed(as_input(crops[start : start + SCORE_BATCH], self.device)).float()
                if self.config.normalise:
                    embedding = torch.nn.functional.normalize(embedding, dim=1)
                found.append(embedding.cpu().numpy())
        return np.concatenate(found)


def fit_gaussian(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and inverse covariance of embeddings.

    The covariance is drawn towards a multiple of the identity by the share that minimises the expected squared error
    (Ledoit and Wolf 2004), so that it can be inverted with fewer samples than dimensions; features that never vary get
    the smallest variance that keeps it regular. Embeddings are float (samples, dims), two samples or more; results are
    float32 (dims,) and float32 (dims, dims).
    """
    x = embeddings.astype(np.float64)
    mean = x.mean(axis=0)
    centred, (samples, dims) = x - mean, x.shape
    empirical = centred.T @ centred / samples
    scale = np.trace(empirical) / dims
    squares = centred**2
    distance = ((empirical - scale * np.eye(dims)) ** 2).sum()
    spread = ((squares.T @ squares).sum() / samples - (empirical**2).sum()) / samples
    share = 0.0 if distance == 0 else min(spread, distance) / distance
    floor = max(scale, 1.0) * np.finfo(np.float32).eps
    covariance = (1 - share) * empirical + (share * scale + floor) * np.eye(dims)
    return mean.astype(np.float32), np.linalg.inv(covariance).astype(np.float32)


def negative_log_density(embeddings: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return −log of the density without its constant, ½ (x − μ)ᵀ Σ⁻¹ (x − μ); float32 (samples,)."""
    away = embeddings - mean
    return (0.5 * np.einsum("ij,ij->i", away @ precision, away)).astype(np.float32)
