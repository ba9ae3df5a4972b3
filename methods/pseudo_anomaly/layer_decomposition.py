"""Layer decomposition: a 3D U-Net takes healthy images with synthetic lesions apart into their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..card import MethodCard, same
from ..context import FitContext
from .parts.layer_method import LayerMethod

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet


class LayerDecomposition(LayerMethod):
    """Learns normal layer, lesion layer and mask of synthetic lesions; its map is the mask's probability."""

    card = MethodCard(
        name="layer-decomposition",
        title="Self-supervised segmentation through layer decomposition",
        year=2021,
        family="pseudo-anomaly",
        citation="Zhang, Xie, Huang, Zhang, Wang: Self-supervised Tumor Segmentation through Layer Decomposition, 2021",
        reference="arXiv:2109.03230",
        figures=(
            ("input", "128³ of MRI, z-scored where not 0", "128³ at 1 mm, z-scored in the organ"),
            same("network", "3D U-Net 64–512, BN of the batch at test, 3 heads"),
            same("loss", "Dice + L1 of both layers + L1 of both in the mask"),
            same("optimiser", "Adam 10⁻², decay 3·10⁻⁵, batch 2, plateau 10"),
            same("length", "≤ 500 epochs × 143 updates, patience 40"),
        ),
        notes="Only the brain experiment of the paper is public; window, voxel size and the brightness of lesions on "
        "CT are this benchmark's own: darker and brighter on the liver, brighter only on the lung. All layers share "
        "the scale of the healthy organ; the release standardises each on its own. Batch "
        "normalisation uses the statistics of what it sees, at test too, where windows are scored one by one.",
    )

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        stack = healthy.volumes(self.view)
        self.pretrain(stack, stack.runs, ctx)

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        stack = healthy.volumes(self.view)
        batch = self.next_layers(stack, ctx, stack.runs, "decomposition")()
        middle = self.config.crop[0] // 2
        pictures = {name: tensor[:, 0, middle].cpu().numpy() for name, tensor in batch.items()}
        grey = {name: np.clip(pictures[name] / 6 + 0.5, 0, 1) for name in ("normal", "image", "lesion")}
        return {
            "healthy": grey["normal"],
            "with synthetic lesions": grey["image"],
            "lesion layer": grey["lesion"],
            "target": pictures["mask"],
        }
