"""MOOD U-Net: a 3D U-Net finds where pieces of other patients' volumes were blended into healthy ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np

from ...common.errors import DataError
from ...datasets.case import Spacing
from ...datasets.views.volume_view import VolumeView
from ..card import MethodCard, same
from ..config import SOFT_ORGANS, Config, ConfigError
from ..context import FitContext
from ..method import Method
from ..training import autocast, batches, make_optimiser, run_updates, update
from ..watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet

Batch = tuple["torch.Tensor", ...]
NextBatch = Callable[[], Batch]
Piece = tuple[np.ndarray, np.ndarray]
MAX_DRAWS = 20


class Foreign(NamedTuple):
    """What is blended into a crop.

    Attributes:
        image: the foreign cube, float32 (z, y, x).
        mask: the soft mask, float32, same shape.
        box: where the cube lies in the crop.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[slice, ...]


@dataclass(frozen=True)
class MoodUNetConfig(Config):
    """Settings of :class:`MoodUNetMethod`.

    Attributes:
        size, spacing: the grid of the volumes: in-plane side in pixels, voxel size in mm (z, y, x).
        window: HU range mapped to [0, 1].
        crop: voxels of a training crop and of a window at test (z, y, x), square in-plane.
        change_p: probability of each change of a healthy crop.
        probability: chance that a crop gets an anomaly.
        sides: range of a shape's sides in voxels; the upper end is the side of the cube that is blended in.
        alpha: range of the strength of an anomaly.
        blend: ``poisson`` blends gradients, ``linear`` grey values.
        donors: ``patients`` takes foreign pieces from other patients, ``scans`` from anywhere, for a training set of
            one patient.
        channels: widths of the levels of the 3D U-Net.
        norm: ``batch``, or ``instance`` for small batches.
        lr: highest learning rate of the cycle.
        overlap: of the windows at test.

    Raises:
        ConfigError: crops are not square in-plane, or shapes do not fit into them.
    """

    size: int = 352
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    window: tuple[float, float] = (-200.0, 250.0)
    crop: tuple[int, int, int] = (160, 160, 160)
    change_p: float = 0.1
    probability: float = 0.9
    sides: tuple[int, int] = (10, 128)
    alpha: tuple[float, float] = (0.3, 1.0)
    blend: Literal["poisson", "linear"] = "poisson"
    donors: Literal["patients", "scans"] = "patients"
    channels: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    norm: Literal["batch", "instance"] = "batch"
    batch: int = 4
    lr: float = 1e-3
    weight_decay: float = 1e-5
    updates: int = 35_000
    overlap: float = field(default=0.25, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "spacing": (8.0, 10.0, 10.0),
            "crop": (8, 16, 16),
            "sides": (3, 8),
            "channels": (4, 8),
            "batch": 2,
            "updates": 3,
        },
        "quick": {
            "size": 64,
            "spacing": (5.0, 3.5, 3.5),
            "crop": (16, 48, 48),
            "sides": (3, 14),
            "channels": (8, 16, 32),
            "batch": 2,
            "lr": 1e-2,
            "updates": 250,
        },
        "standard": {
            "size": 176,
            "spacing": (2.0, 2.0, 2.0),
            "crop": (64, 64, 64),
            "sides": (5, 51),
            "channels": (8, 16, 32, 64, 80, 80),
            "batch": 2,
            "updates": 700,
        },
    }
    anatomies: ClassVar = {"lung": {"window": (-800.0, 100.0)}, **SOFT_ORGANS}

    def __post_init__(self) -> None:
        if self.crop[1] != self.crop[2]:
            raise ConfigError(f"crop={self.crop}: its last two sides must be equal, crops are turned in-plane")
        if self.sides[1] > min(self.crop):
            raise ConfigError(f"sides={self.sides}: a shape of that size does not fit into crop={self.crop}")


class MoodUNetMethod(Method):
    """Learns to segment synthetic anomalies; its map is the probability of an anomaly.

    Attributes:
        updates: optimiser updates done.
    """

    card = MethodCard(
        name="mood-unet",
        title="3D U-Net on synthetic anomalies (winner of MOOD 2022)",
        year=2023,
        family="pseudo-anomaly",
        citation="Naval Marimont and Tarroni: Achieving state-of-the-art performance in the Medical "
        "Out-of-Distribution (MOOD) challenge using plausible synthetic anomalies, 2023",
        reference="arXiv:2308.01412",
        figures=(
            ("input", "160³ at 1 mm, whole abdomen, [0, 1]", "160³ at 1 mm, masked to the organ"),
            same("network", "U-Net 32–320, 6 levels, BN, transposed up, 4 heads"),
            ("loss", "BCE of the soft mask, 4 scales 1 to ⅛", "BCE of the soft mask in the organ, 4 scales 1 to ⅛"),
            same("optimiser", "AdamW, one cycle to 10⁻³, decay 10⁻⁵, batch 4"),
            ("length", "35,000 updates, 5 folds", "35,000 updates"),
        ),
        notes="One network instead of an ensemble of folds, and its last weights instead of the best on synthetic "
        "anomalies. Pieces come from other patients alone; the release may take them from the same scan. An anomaly "
        "lies where both are organ, touches it, and stays in [0, 1]. The 300 random shapes of the release are a "
        "data file; rough ellipsoids stand for them. In the whole bodies of Screener's comparison a "
        "re-implementation had voxel AUROC 0.77 to 0.80.",
    )
    Config = MoodUNetConfig
    tuned: ClassVar = {"lr": (1e-4, 1e-2, "log"), "probability": (0.5, 1.0), "blend": ["poisson", "linear"]}
    requires = ("monai",)

    @property
    def view(self) -> VolumeView:
        c = self.config
        return VolumeView(size=c.size, spacing=c.spacing, window=c.window)

    @property
    def min_patients(self) -> int:
        """Two where pieces come from other patients."""
        return 2 if self.config.donors == "patients" else 1

    def build(self) -> None:
        import torch

        from ..nets.mood_unet import MoodUNet

        c = self.config
        self.net = MoodUNet(c.channels, c.norm).to(memory_format=torch.channels_last_3d)
        self.updates = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the cross-entropy with the soft mask inside the organ, at several scales."""
        import torch

        from ..ahead import drawn_ahead
        from ..losses import masked_cross_entropy_pyramid

        c = self.config
        optimiser = make_optimiser(
            ctx, torch.optim.AdamW, self.net.parameters(), lr=c.lr, weight_decay=c.weight_decay, fused=True
        )
        total = max(ctx.updates(c.updates), 1)
        cycle = ctx.keep(torch.optim.lr_scheduler.OneCycleLR(optimiser, c.lr, total_steps=total))
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            images, targets, rois = (part[:, None] for part in batch[1:])
            with autocast(ctx.device, ctx.precision):
                logits = self.net.pyramid(images)
            return masked_cross_entropy_pyramid(logits, targets, rois.float())

        def step(_: int) -> dict[str, torch.Tensor]:
            loss = update(optimiser, loss_of(draw()))
            cycle.step()
            return {"bce": loss}

        def source(held: HealthySet) -> NextBatch:  # a single patient to watch by has no other as donor
            return self.batch_source(held, ctx, "held out", c.donors if len(held.patients) > 1 else "scans")

        watch = held_out_loss(ctx, c.updates, [self.net], source, loss_of)
        with drawn_ahead(self.batch_source(healthy, ctx, "fit"), ctx) as draw:
            self.updates = run_updates(ctx, c.updates, step, watch=watch)

    def batch_source(self, healthy: HealthySet, ctx: FitContext, phase: str, donors: str = "") -> NextBatch:
        """Return what yields clean crops, crops with anomalies, soft masks (float32) and organs (bool), (n, D, H, W).

        Raises:
            DataError: the healthy set shows one patient, and ``donors`` asks for others.
        """
        import torch

        from ..resident import sent
        from ..synthesis.volume_blends import BLENDS
        from .parts.crop_changes import CropChanges
        from .parts.volume_crops import VolumeCrops

        c, stack = self.config, healthy.volumes(self.view)
        crops, pieces = VolumeCrops(stack, c.crop), VolumeCrops(stack, (c.sides[1],) * 3)
        order = batches(ctx, len(crops.cases), c.batch, "order", phase)
        rng = ctx.rng("anomalies", phase)
        change = CropChanges(probability=c.change_p)
        patients = [healthy.parts[case].case.patient for case in crops.cases]
        any_scan = (donors or c.donors) == "scans"
        others = [[k for k, name in enumerate(patients) if any_scan or name != own] for own in patients]
        if not all(others):
            raise DataError(
                f"foreign pieces need healthy scans of two patients or more, found {patients[0]} alone; add scans to "
                "the training set, or set donors=scans to take them from the same scan"
            )

        def taken(crops: VolumeCrops, case: int) -> Piece:
            run = crops.run_of(case, rng)
            crop = crops.around(run, crops.centre(run, rng))
            return crop.image, crop.roi

        def one(case: int) -> tuple[np.ndarray, np.ndarray, Foreign | None]:
            clean, roi = change(*taken(crops, case), rng)
            if rng.random() >= c.probability:
                return clean, roi, None
            return clean, roi, self.placed(roi, taken(pieces, int(rng.choice(others[case]))), rng)

        def draw() -> Batch:
            *parts, placed = zip(*(one(int(case)) for case in next(order)), strict=True)
            clean, rois = (torch.stack([sent(crop, ctx.device) for crop in crops]) for crops in parts)
            images, targets = clean.clone(), torch.zeros_like(clean)
            for k, foreign in enumerate(placed):
                if foreign is not None:
                    piece, mask = sent(foreign.image, ctx.device), sent(foreign.mask, ctx.device)
                    own, roi = clean[k][foreign.box], rois[k][foreign.box]
                    images[k][foreign.box] = torch.where(roi, BLENDS[c.blend](own, piece, mask), own)
                    targets[k][foreign.box] = mask
            return clean, images, targets, rois

        return draw

    def placed(self, roi: np.ndarray, piece: Piece, rng: np.random.Generator) -> Foreign | None:
        """Change a foreign cube and draw its mask and its place in a crop, by the organ of the crop.

        The mask lies where both show organ; None without such a place after ``MAX_DRAWS`` draws.
        """
        from ..synthesis.blend_shapes import BlendShapes
        from ..synthesis.foreign_volume import PatchChanges

        c = self.config
        shapes = BlendShapes(sides=c.sides, alpha=c.alpha)
        image, tissue = PatchChanges()(*piece, rng)
        for _ in range(MAX_DRAWS):
            corner = [int(rng.integers(n - c.sides[1] + 1)) for n in roi.shape]
            box = tuple(slice(a, a + c.sides[1]) for a in corner)
            mask = shapes(rng) * (roi[box] & tissue)
            if mask.any():
                return Foreign(image, mask, box)
        return None

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        clean, images, targets, _rois = self.batch_source(healthy, ctx, "preview")()
        middle = self.config.crop[0] // 2
        pictures = {"healthy": clean, "with foreign pieces": images, "target": targets}
        return {title: volumes[:, middle].cpu().numpy() for title, volumes in pictures.items()}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the sigmoid of the logits, averaged over windows that slide over the organ; 0 outside."""
        from scipy.special import expit

        from .parts.volume_crops import slide

        c, image = self.config, np.multiply(array, roi, dtype=np.float32)
        self.net.eval()
        logits = slide(
            lambda x: self.net(x).float(),
            image,
            roi,
            c.crop,
            overlap=c.overlap,
            device=self.device,
            weights="constant",
        )
        return (expit(logits) * roi).astype(np.float32)
