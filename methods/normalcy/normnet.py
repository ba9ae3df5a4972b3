"""NormNet: learns which bright voxels of a lung are normal, and calls the other bright voxels lesions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ...datasets.views.volume_view import VolumeView
from ..card import MethodCard, same
from ..config import Config, ConfigError
from ..context import FitContext
from ..method import Method
from ..training import autocast, make_optimiser, quicker_first, run_updates, update
from ..watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet
    from .parts.crops import HealthyCrops
    from .parts.growing import MeanFilter

Batch = tuple["torch.Tensor", "torch.Tensor"]
_SCORE = {"stage": "score"}


@dataclass(frozen=True)
class NormNetConfig(Config):
    """Settings of :class:`NormNet`.

    Attributes:
        size, spacing: the grid of the volumes: in-plane side in pixels, voxel size in mm (z, y, x).
        resample_z: off keeps the native slices, for scans whose distance along z is not to be trusted.
        window: HU range mapped to [0, 1].
        depth: slices per crop.
        hu_threshold: HU from which a voxel is bright; Table VI.
        edge_share: bright components with a larger share of their voxels on the lung's border are erased in training.
        shapes, prob_map, salt_noise, texture_extent: switches of the lesion generator, Table V
            (:class:`LesionRecipe`); ``radius_scale`` shrinks its lesions on coarser grids.
        channels, residual_units: of the 3D U-Net.
        first_lr: learning rate of the first half of the updates, if not ``lr``: a short training begins faster.
        updates: optimiser updates of each member.
        checkpoints: updates after which a checkpoint ``it-N`` is kept, so that Table IV is one training.
        checkpoint: which of them scores, or ``last``.
        votes: members, an odd number; their median is the map, so that exceeding 1 − ``healthy`` takes a majority.
            Table IV.
        member: one of them scores alone, from 1 on; none lets all of them vote. Table IV.
        healthy: probability from which a bright voxel is normal.
        overlap: overlap of the windows that scoring slides over the slices.
        grow: region growing; off gives the paper's row without it.
        seed_kernel, seed_threshold, limit_kernel, limit_threshold: the two mean filters.
        filter_dims: cube or in-plane square; the paper does not say.
        limit_reading, seed_reading: what the filters average, ``intensity`` or ``binary``; the paper does not say.
        bright_lesions: the method's assumption, lesions brighter than the organ, may be taken for granted.

    Raises:
        ConfigError: ``votes`` is even or below 1, there is no such ``member``, or ``edge_share`` is no share.
    """

    size: int = 512
    spacing: tuple[float, float, float] = (1.0, 0.8, 0.8)
    resample_z: bool = True
    window: tuple[float, float] = (-800.0, 100.0)
    depth: int = 32
    hu_threshold: float = -500.0
    edge_share: float = 0.5
    shapes: Literal["full", "plain"] = "full"
    prob_map: bool = True
    salt_noise: bool = True
    texture_extent: Literal["box", "crop"] = "box"
    radius_scale: float = 1.0
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    residual_units: int = 2
    batch: int = 8
    lr: float = 3e-4
    first_lr: float | None = None
    updates: int = 3500
    checkpoints: tuple[int, ...] = ()
    checkpoint: str = field(default="last", metadata=_SCORE)
    votes: int = field(default=5, metadata=_SCORE)
    member: int | None = field(default=None, metadata=_SCORE)
    healthy: float = field(default=0.95, metadata=_SCORE)
    overlap: float = field(default=0.25, metadata=_SCORE)
    grow: bool = field(default=True, metadata=_SCORE)
    seed_kernel: int = field(default=9, metadata=_SCORE)
    seed_threshold: float = field(default=0.2, metadata=_SCORE)
    limit_kernel: int = field(default=7, metadata=_SCORE)
    limit_threshold: float = field(default=0.15, metadata=_SCORE)
    filter_dims: Literal[2, 3] = field(default=3, metadata=_SCORE)
    limit_reading: Literal["intensity", "binary"] = field(default="intensity", metadata=_SCORE)
    seed_reading: Literal["intensity", "binary"] = field(default="binary", metadata=_SCORE)
    bright_lesions: bool = True

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "spacing": (8.0, 10.0, 10.0),
            "depth": 8,
            "channels": (4, 8),
            "radius_scale": 0.1,
            "batch": 2,
            "updates": 3,
            "votes": 3,
            "seed_kernel": 3,
            "limit_kernel": 3,
        },
        "quick": {
            "size": 80,
            "spacing": (6.0, 4.0, 4.0),
            "depth": 16,
            # A voxel of 4 mm makes the whole pleura bright; erased in training, it would be abnormal everywhere.
            "edge_share": 1.0,
            "radius_scale": 0.2,
            "channels": (8, 16, 32),
            "residual_units": 0,
            "batch": 2,
            "lr": 1e-2,
            "updates": 300,
            "votes": 3,
            "seed_kernel": 3,
            "limit_kernel": 3,
        },
        "standard": {
            # Lungs are seldom wider than 288 mm. Radii and filters count voxels: 2 mm instead of 0.8 × 0.8 × 1 mm.
            "size": 144,
            "spacing": (2.0, 2.0, 2.0),
            "depth": 16,
            "hu_threshold": -600.0,  # of Table VI almost as good as -500; voxels of 2 mm are less bright
            "edge_share": 1.0,  # as for quick: a voxel of 2 mm on the pleura is often half wall
            "radius_scale": 0.43,
            "channels": (4, 8, 16, 32, 64),
            "batch": 2,
            "first_lr": 1e-3,
            "updates": 900,
            # 9 voxels are 3.9 of these: 5, so that a sheet of one voxel, a fifth of it, does not pass the threshold.
            "seed_kernel": 5,
            "limit_kernel": 3,
        },
    }
    anatomies: ClassVar = {"liver": {"window": (-200.0, 250.0), "hu_threshold": 150.0, "bright_lesions": False}}

    def __post_init__(self) -> None:
        if self.votes < 1 or self.votes % 2 == 0:
            raise ConfigError(f"votes={self.votes}: only an odd number of members has a majority; set 1, 3, 5 or more")
        if self.member is not None and not 1 <= self.member <= self.votes:
            raise ConfigError(f"member={self.member}: choose one of the {self.votes} members, 1 to {self.votes}")
        if not 0 <= self.edge_share <= 1:
            raise ConfigError(f"edge_share={self.edge_share}: choose a share between 0 and 1")

    @property
    def tau(self) -> float:
        """Least grey value of a bright voxel: 1/3 for −500 HU in [−800, 100]."""
        low, high = self.window
        return (self.hu_threshold - low) / (high - low)


class NormNet(Method):
    """Segments the bright voxels of healthy lung among synthetic lesions; what it does not recognise is abnormal."""

    card = MethodCard(
        name="normnet",
        title="NormNet, label-free COVID-19 lesion segmentation",
        year=2021,
        family="normalcy",
        citation="Yao, Xiao, Liu, Zhou: Label-Free Segmentation of COVID-19 Lesions in Lung CT, IEEE Transactions on "
        "Medical Imaging 40(10), 2021",
        reference="arXiv:2009.06456",
        anatomy=("liver", "lung"),
        figures=(
            same("input", "32 × 512 × 512 at 1 × 0.8 × 0.8 mm"),
            ("network", "MONAI's 3D U-Net, channels n/p", "MONAI's 3D U-Net, 16–256, 2 residual units"),
            ("loss", "Dice + cross-entropy, weights n/p", "Dice + cross-entropy, 1:1"),
            same("optimiser", "Adam 3·10⁻⁴, batch 8"),
            same("length", "3,500 updates, 5 members"),
        ),
        notes="The map is 1 − the median healthy probability on bright voxels and 0 on the others, which no threshold "
        "reaches: only the method's own decision, with its region growing, covers dim parts of a lesion. Channels, "
        "elastic parameters, filter dimensions and the edge rule are not in the paper (docs/methods/normnet.md).",
    )
    Config = NormNetConfig
    tuned: ClassVar = {"lr": (1e-4, 3e-3, "log"), "healthy": (0.5, 0.99), "seed_threshold": (0.05, 0.4)}
    requires = ("monai",)

    @property
    def view(self) -> VolumeView:
        c = self.config
        return VolumeView(size=c.size, spacing=c.spacing, resample_z=c.resample_z, window=c.window)

    @property
    def members(self) -> int | tuple[int, ...]:
        c = self.config
        return c.votes if c.member is None else (c.member - 1,)

    @property
    def native_threshold(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A bright voxel is normal from the healthy probability on."""
        return 1 - self.config.healthy

    def skip(self) -> str | None:
        """Decline organs whose lesions are not brighter than the organ."""
        if self.config.bright_lesions:
            return None
        return (
            "assumes lesions brighter than the organ, as in air-filled lung; most liver tumours are darker "
            "(normnet.bright_lesions=on runs it on bright ones all the same)"
        )

    def build(self) -> None:
        from ..nets.unets import residual_unet

        c = self.config
        self.net = residual_unet(c.channels, c.residual_units)
        self.updates = 0

    def crops(self, healthy: HealthySet) -> HealthyCrops:
        from .parts.crops import HealthyCrops

        c = self.config
        return HealthyCrops(healthy.volumes(self.view), c.depth, c.tau, c.edge_share)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train one member: Dice and cross-entropy against the bright voxels outside the synthetic lesions."""
        import torch
        from monai.losses.dice import DiceCELoss

        from ..ahead import drawn_ahead

        c = self.config
        dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr, fused=True)
        quicker_first(ctx, optimiser, c.first_lr, ctx.updates(c.updates))
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            images, normal = batch
            with autocast(ctx.device, ctx.precision):
                logits = self.net(images)
            return dice_ce(logits.float(), normal[:, None])

        def step(i: int) -> dict[str, torch.Tensor]:
            loss = update(optimiser, loss_of(draw()))
            if i + 1 in c.checkpoints:
                ctx.checkpoint(f"it-{i + 1}")
            return {"dice + ce": loss}

        watch = held_out_loss(
            ctx, c.updates, [self.net], lambda held: self.batch_source(self.crops(held), ctx, "held out"), loss_of
        )
        with drawn_ahead(self.batch_source(self.crops(healthy), ctx), ctx) as draw:
            self.updates = run_updates(ctx, c.updates, step, watch=watch)

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        crops, middle = self.crops(healthy), self.config.depth // 2
        clean, _rois, _ = crops.draw(self.config.batch, ctx.rng("crops"))
        augmented, normal = self.batch_source(crops, ctx)()
        return {
            "healthy": clean[:, middle],
            "with synthetic lesions": augmented[:, 0, middle].cpu().numpy(),
            "target: normal bright voxels": normal[:, middle].cpu().numpy().astype(np.float32),
        }

    def batch_source(self, crops: HealthyCrops, ctx: FitContext, *phase: str) -> Callable[[], Batch]:
        """Return what yields batches: crops with lesions, float32 (n, 1, D, H, W), and their normal bright voxels."""
        from ..resident import sent
        from ..synthesis import lung_lesions, lung_lesions_torch
        from ..synthesis.lung_lesions import LesionRecipe
        from .parts.crops import target

        c = self.config
        switches = ("radius_scale", "shapes", "prob_map", "salt_noise", "texture_extent")
        recipe = LesionRecipe(**{name: getattr(c, name) for name in switches})
        places, rng = ctx.rng("crops", *phase), ctx.rng("synthesis", *phase)
        on_cpu = ctx.device == "cpu"
        device_draws = None if on_cpu else ctx.generator("synthesis", *phase)

        def draw() -> Batch:
            images, rois, fullness = crops.draw(c.batch, places)
            clean, inside, full = (sent(part, ctx.device) for part in (images, rois, fullness))
            if device_draws is None:
                made = lung_lesions.generate(recipe, images, rois, fullness, rng)
                augmented, blobs = (sent(part, ctx.device) for part in made)
            else:
                augmented, blobs = lung_lesions_torch.generate(recipe, clean, inside, full, device_draws)
            return augmented[:, None], target(clean, blobs, inside, c.tau)

        return draw

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return 1 − the healthy probability on bright voxels, 0 on the others."""
        import torch
        from monai.inferers.utils import sliding_window_inference

        c = self.config
        self.net.eval()
        volume = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None].to(self.device)
        with torch.inference_mode():
            healthy = sliding_window_inference(
                volume, (c.depth, c.size, c.size), 1, self._healthy, overlap=c.overlap, mode="gaussian"
            )
        assert isinstance(healthy, torch.Tensor)
        bright = (array >= np.float32(c.tau)) & roi
        return np.where(bright, 1 - healthy[0, 0].float().cpu().numpy(), 0).astype(np.float32)

    def postprocess_view(self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Filter what is left after removing normal voxels, and grow it (§III-D); bool, shape of ``array``."""
        from .parts.growing import lesion_mask

        image, normal = self.normal(array, roi, scores)
        seeds, limit = self.filters
        return lesion_mask(image, roi, normal, self.config.tau, seeds, limit if self.config.grow else None)

    def normal(self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the image as float32 and where it is bright and normal, bool."""
        image = np.asarray(array, np.float32)
        bright = (image >= np.float32(self.config.tau)) & roi
        return image, bright & (scores <= np.float32(self.native_threshold))

    @property
    def filters(self) -> tuple[MeanFilter, MeanFilter]:
        """The mean filters of the seeds and of the limit of their growth."""
        from .parts.growing import MeanFilter

        c = self.config
        return (
            MeanFilter(c.seed_kernel, c.seed_threshold, c.filter_dims, c.seed_reading),
            MeanFilter(c.limit_kernel, c.limit_threshold, c.filter_dims, c.limit_reading),
        )

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the steps of the post-processing before growth, in the order of Figure 4, b to g."""
        from .parts.growing import lesion_mask

        image, normal = self.normal(array, roi, scores)
        bright = (image >= np.float32(self.config.tau)) & roi
        seeds, limit = self.filters
        return {
            "bright": np.where(bright, image, 0),
            "normal": np.where(normal, image, 0),
            "bright, not normal": np.where(bright & ~normal, image, 0),
            "seeds": lesion_mask(image, roi, normal, self.config.tau, seeds, None),
            "not normal": np.where(roi & ~normal, image, 0),
            "limit": lesion_mask(image, roi, normal, -np.inf, limit, None),
        }

    def _healthy(self, window: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.softmax(self.net(window).float(), dim=1)[:, 1:]
