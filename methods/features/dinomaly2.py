"""Dinomaly2: Dinomaly with recentred targets, a narrow layer in the bottleneck and a constant rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..card import MethodCard, same
from .dinomaly import DINO2, Dinomaly, DinomalyConfig


@dataclass(frozen=True)
class Dinomaly2Config(DinomalyConfig):
    """Settings of :class:`Dinomaly2`: other values of those of :class:`Dinomaly`."""

    dropout: float = 0.4
    narrow: int | None = 256
    recentre: bool = True
    final_lr: float = 2e-3
    amsgrad: bool = False
    updates: int = 40_000

    profiles: ClassVar = DinomalyConfig.profiles_with(
        smoke={"narrow": 16}, quick={"narrow": 48}, standard={"narrow": 48, "warmup": 2, "easy_updates": 20}
    )


class Dinomaly2(Dinomaly):
    """Dinomaly with recentred targets, a narrow layer in the bottleneck and a constant rate."""

    card = MethodCard(
        name="dinomaly2",
        title="Dinomaly2",
        year=2025,
        family="features",
        citation="Guo et al., One Dinomaly2 Detect Them All: A Unified Framework for Full-Spectrum Unsupervised "
        "Anomaly Detection, 2025",
        reference="arXiv:2510.17611",
        slice_score="top1%",
        pretraining=DINO2,
        figures=(
            ("input", "n/p (medical sets: 280²)", "392², cropped to the roi, masked, equalised"),
            ("network", "preview: ViT-S; bottleneck 256; 8 blocks", "that of dinomaly, bottleneck 256 first"),
            ("loss", "that of dinomaly, recentred targets", "that of dinomaly, recentred targets"),
            (
                "optimiser",
                "StableAdamW 2·10⁻³ (narrow 2·10⁻⁴), decay 10⁻⁴, batch n/p",
                "StableAdamW 2·10⁻³ (narrow 2·10⁻⁴), decay 10⁻⁴, batch 16",
            ),
            same("length", "40,000 updates"),
        ),
        notes="Read from a mirror of preview code; what that leaves open is as in dinomaly. Targets are the LayerNorm "
        "of patch tokens minus the class token; the input of the decoder is not recentred.",
    )
    Config = Dinomaly2Config
