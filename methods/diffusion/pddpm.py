"""pDDPM: diffuse one box of a slice at a time, and restore it in one call with the rest of the slice in view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from ..config import STANDARD_SLICES, ConfigError
from .parts.one_step import OneStepConfig, OneStepDDPM

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PDDPMConfig(OneStepConfig):
    """Settings of :class:`PDDPM`.

    Attributes:
        box: side of the boxes, which tile what the network sees; half of it in the release.
    """

    box: int = 48

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "patch": 16,
            "box": 8,
            "base": 8,
            "multipliers": (1, 2),
            "blocks": 1,
            "heads": 1,
            "frequency": 8.0,
            "lr": 1e-3,
            "batch": 4,
            "updates": 6,
        },
        "quick": {
            "size": 64,
            "patch": 32,
            "box": 16,
            "base": 8,
            "blocks": 1,
            "heads": 1,
            "frequency": 16.0,
            "lr": 4e-3,
            "batch": 8,
            "updates": 240,
            "median": 0,
            "erode": 2,
        },
        "standard": {
            **STANDARD_SLICES,
            "patch": 64,
            "box": 32,
            "base": 32,
            "heads": 1,
            "frequency": 43.0,
            "lr": 1e-3,
            "batch": 8,
            "updates": 1500,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box < 1 or self.side % self.box:
            raise ConfigError(f"box={self.box}: choose a side whose multiple is {self.side}, that of the square")


class PDDPM(OneStepDDPM):
    """Learns to restore a diffused box of a healthy slice from the rest; every box of a slice is tried in turn."""

    card = MethodCard(
        name="pddpm",
        title="Patched diffusion model",
        year=2023,
        family="diffusion",
        citation="Behrendt et al., Patched Diffusion Models for Unsupervised Anomaly Detection in Brain MRI, MIDL 2023",
        reference="arXiv:2303.03758",
        figures=(
            ("input", "96², brain MRI, [−1, 1]", "96² around the organ, masked, [−1, 1]"),
            same("network", "U-Net 128–256, 3 levels of 3 blocks, middle attention"),
            same("loss", "L1 of the clean slice in one of four boxes, T 1000, cosine"),
            same("optimiser", "Adam 10⁻⁴, batch 32"),
            ("length", "1,600 epochs, best validation loss", "1,600 epochs"),
        ),
        notes="Simplex noise is new for every slice and update (one field per batch in the release). The edge of the "
        "region is kept (erode=0). The last weights score, and no threshold is chosen on scans with lesions. "
        "No CT figures are published by the authors.",
    )
    Config = PDDPMConfig
    tuned: ClassVar = {
        "lr": (1e-5, 1e-3, "log"),
        "noise": ["simplex", "gaussian"],
        "erode": (0, 3),
    }

    def boxes(self, device: str | torch.device) -> torch.Tensor:
        """Return the boxes of the grid, row by row."""
        import torch

        along = torch.arange(self.config.side, device=device) // self.config.box
        number = along[:, None] * (self.config.side // self.config.box) + along
        return number == torch.arange((self.config.side // self.config.box) ** 2, device=device)[:, None, None, None]
