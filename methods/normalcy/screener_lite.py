"""Screener in small: self-supervised descriptors of voxels, and how unlikely each is given what surrounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ...datasets.views.volume_view import VolumeView
from ..card import MethodCard
from ..context import FitContext
from ..method import Method
from ..training import autocast
from .parts.screener_settings import ScreenerLiteConfig

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet
    from .parts.crop_pairs import CropPairs

MARGIN = 2  # voxels around the organ whose scores the way back to the native grid may read


class ScreenerLite(Method):
    """Learns descriptors of voxels and their density in healthy scans; its map is −log of the density.

    Attributes:
        scale: float32 (2, channels) for ``descriptor`` and ``condition``: mean and standard deviation over cells of
            training crops.
        updates: optimiser updates done, by training.
    """

    card = MethodCard(
        name="screener-lite",
        title="Screener in small: density of self-supervised voxel descriptors",
        year=2025,
        family="normalcy",
        citation="Goncharov et al.: Screener: self-supervised pathology segmentation in medical CT images, 2025",
        reference="arXiv:2502.08321",
        slice_score="top1%",
        figures=(
            (
                "input",
                "96 × 96 × 64, 1.5 × 1.5 × 2.25 mm, whole body, CLAHE",
                "64 × 64 × 32, 1.5 × 1.5 × 2.25 mm, masked, CLAHE",
            ),
            (
                "network",
                "two 3D U-Nets, widths n/p, 32 outputs; Gaussian or flow",
                "two 3D U-Nets, 16–256, 32 outputs; diagonal Gaussian",
            ),
            (
                "loss",
                "VICReg of 8,192 pairs in up to 8,192 dimensions; −log q",
                "VICReg of 2,048 pairs in 2,048 dimensions; −log q",
            ),
            (
                "optimiser",
                "AdamW 3·10⁻⁴, warm-up 1/30, decay 10⁻⁶, batch 8, then 4",
                "AdamW 3·10⁻⁴, warm-up 1/30, cosine, decay 10⁻⁶, batch 4",
            ),
            ("length", "300,000 + 300,000 + 500,000 updates", "20,000 + 20,000 + 10,000 updates"),
        ),
        notes="A reduced version: fewer and smaller crops, a Gaussian, and healthy scans of one organ where the paper "
        "learns from 32,382 unfiltered scans of whole bodies. Its numbers are those of whole bodies and say nothing of "
        "this version. Widths, masks, jitter and CLAHE are not in the paper (docs/methods/screener-lite.md).",
    )
    Config = ScreenerLiteConfig
    tuned: ClassVar = {
        "lr": (1e-4, 3e-3, "log"),
        "noise": (0.0, 0.3),
        "condition": ["masking", "position", "none"],
    }
    requires = ("monai",)

    @property
    def view(self) -> VolumeView:
        c = self.config
        return VolumeView(size=c.size, spacing=c.spacing, window=c.window)

    def build(self) -> None:
        import torch

        from ..nets.voxel_descriptors import ConditionalGaussian, VoxelDescriptors

        c = self.config
        self.descriptor = VoxelDescriptors(c.channels, c.width, c.expander).to(memory_format=torch.channels_last_3d)
        if c.condition == "masking":
            context = VoxelDescriptors(c.channels, c.width, c.expander, inputs=2)
            self.context = context.to(memory_format=torch.channels_last_3d)
        self.density = ConditionalGaussian(c.width, c.condition_width, c.hidden)
        widths = {"descriptor": c.width, "condition": c.condition_width}
        self.scale = {name: np.stack([np.zeros(n), np.ones(n)]).astype(np.float32) for name, n in widths.items()}
        self.updates: dict[str, int] = {}

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train the descriptor, then the condition, then the density of one given the other."""
        from .parts.density_training import crop_batches, learn_density, moments
        from .parts.descriptor_training import learn_descriptors

        c, pairs = self.config, self.pairs(healthy)
        self.updates = {}
        nets = {"descriptor": self.descriptor}
        if c.condition == "masking":
            nets["condition"] = self.context
        for name, net in nets.items():
            first = sum(self.updates.values())
            self.updates[name] = learn_descriptors(net, name, pairs, self.pairs, ctx, c, first)
            net.eval()
        if ctx.updates(c.density_updates):
            self.scale = moments(lambda x: self.cells(x, ctx.precision), crop_batches(pairs, ctx, c, "scale"))
        first = sum(self.updates.values())
        self.updates["density"] = learn_density(
            self.density, lambda x: self.scaled(x, ctx.precision), pairs, self.pairs, ctx, c, first
        )

    def pairs(self, healthy: HealthySet) -> CropPairs:
        """Return what crops are drawn from."""
        from .parts.crop_pairs import CropPairs

        return CropPairs(healthy.volumes(self.view), self.config.crop, equalise=self.config.equalise)

    def cells(self, x: torch.Tensor, precision: str = "fp32") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return descriptors and conditions of the cells of a crop and which show the organ, (n, channels, z, y, x).

        Args:
            x: image, organ and, for ``position``, the places of the voxels; (n, 2 or 5, Z, Y, X).
        """
        import torch

        from .parts.masked_cells import pooled, waves

        c, image, roi = self.config, x[:, :1], x[:, 1:2]
        with autocast(self.device, precision):
            descriptors = self.descriptor(image)
            nothing_masked = torch.cat([image, torch.zeros_like(image)], dim=1)
            seen = self.context(nothing_masked) if c.condition == "masking" else x[:, 2:]
        descriptors, filled = pooled(descriptors, roi, c.pool)
        conditions, _ = pooled(seen, roi, c.pool) if seen.shape[1] else (descriptors[:, :0], filled)
        return descriptors, waves(conditions, c.octaves) if c.condition == "position" else conditions, filled

    def scaled(self, x: torch.Tensor, precision: str = "fp32") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return :meth:`cells` in units of their standard deviations from their means."""
        from ..resident import sent

        descriptors, conditions, filled = self.cells(x, precision)
        scales = (sent(self.scale[name], x.device) for name in ("descriptor", "condition"))
        (mean, std), (condition_mean, condition_std) = (scale[..., None, None, None] for scale in scales)
        return (descriptors - mean) / std, (conditions - condition_mean) / condition_std, filled

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        from .parts.descriptor_training import pair_batches

        c = self.config
        views = pair_batches(self.pairs(healthy), ctx, c, True, "preview")()[0].cpu().numpy()
        middle = c.crop[0] // 2
        return {
            "one crop, blocks masked": views[: c.batch, 0, middle],
            "another crop of the same scan": views[c.batch :, 0, middle],
        }

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return −log q of the cells, interpolated, plus a constant that makes it at least 0.

        It is 0 beyond ``MARGIN`` voxels from the organ.
        """
        from scipy import ndimage

        from ...common.boxes import bounding_box
        from ..pseudo_anomaly.parts.volume_crops import slide
        from .parts.crop_pairs import equalised, places
        from .parts.density_training import channels
        from .parts.masked_cells import spread

        c = self.config
        for net in (self.descriptor, self.density, *([self.context] if c.condition == "masking" else [])):
            net.eval()
        image = equalised(array, roi) if c.equalise else np.multiply(array, roi, dtype=np.float32)
        where = places(bounding_box(roi), np.zeros(3, int), roi.shape) if c.condition == "position" else None

        def surprise(x: torch.Tensor) -> torch.Tensor:
            descriptors, conditions, filled = self.scaled(x)
            found = self.density.surprise(descriptors, conditions) + self.density.LOG_VARIANCE * c.width / 2
            return spread(found, filled, x.shape[2:])

        near = ndimage.binary_dilation(roi, np.ones((3, 3, 3)), MARGIN)
        volume = channels(image, roi, where)
        return slide(surprise, volume, near, c.crop, overlap=c.overlap, device=self.device)
