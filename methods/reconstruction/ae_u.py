"""AE-U: an autoencoder that predicts its own error, by which the residual is divided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import SOFT_ORGANS
from ..training import predict
from .parts.base import LUNG_NOTE, SCORE_BATCH, ReconstructionMethod
from .parts.placing import QUICK_FRAME, SMOKE_FRAME, STANDARD_FRAME, PlacedSlices
from .parts.residual import Sign, residual

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AEUConfig(PlacedSlices):
    """Settings of :class:`AEU`.

    Attributes:
        z: length of the latent vector.
        width: width of the first convolution.
        epochs: length of training.
        updates: overrides ``epochs``.
        floor: least log variance of a pixel, for grey values in [−1, 1]. Without one the loss has no lower bound:
            pixels that are always the same, such as those darker than the window, drive it to −∞.
        sign, erode, median: as in :class:`.parts.base.ReconstructionConfig`.
    """

    size: int = 64
    z: int = 16
    width: int = 16
    lr: float = 1e-3
    beta1: float = 0.9
    batch: int = 64
    epochs: int = 250
    updates: int | None = None
    floor: float = -8.0
    sign: Sign = field(default="absolute", metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})
    median: int = field(default=0, metadata={"stage": "score"})

    first_lr: ClassVar[None] = None
    patience: ClassVar[None] = None
    profiles: ClassVar = {
        "smoke": {**SMOKE_FRAME, "size": 32, "width": 4, "z": 8, "batch": 8, "updates": 10},
        "quick": {**QUICK_FRAME, "width": 8, "batch": 8, "updates": 600, "erode": 3},
        "standard": {**STANDARD_FRAME, "width": 8, "batch": 16, "updates": 5000},
    }
    anatomies: ClassVar = {
        "lung": {"window": (-800.0, 100.0), "frame": "volume", "sign": "positive", "erode": 0},
        **SOFT_ORGANS,
    }


class AEU(ReconstructionMethod):
    """Learns to reproduce healthy slices and how well it does; an error larger than expected is anomalous.

    The likelihood is that of a normal distribution per pixel, whose mean and variance the network predicts.
    """

    card = MethodCard(
        name="ae-u",
        title="Autoencoder with predicted uncertainty (AE-U)",
        year=2020,
        family="reconstruction",
        citation="Mao, Xue, Wang, Zhang, Zheng, Liu: Abnormality Detection in Chest X-ray Images Using Uncertainty "
        "Prediction Autoencoders, MICCAI 2020; settings: Cai et al., MedIAnomaly, arXiv:2404.04518",
        reference="doi:10.1007/978-3-030-59725-2_51",
        slice_score="mean",
        figures=(
            ("input", "64², [−1, 1]", "64², [−1, 1], masked; lungs in Yao's frame"),
            same("network", "4×4 stride 2, 16–64, dense 1024, z 16, 2 outputs"),
            ("loss", "exp(−s)·(x − x̂)² + s", "exp(−s)·(x − x̂)² + s in the organ, s ≥ −8"),
            same("optimiser", "Adam 10⁻³, batch 64"),
            same("length", "250 epochs"),
        ),
        notes="Settings are those of the comparison MedIAnomaly, which has no CT. The loss is a mean over the organ, "
        "and the log variance has a floor: where a masked slice is always 0 the published loss falls without end. "
        "A lesion that the network expects to reproduce badly gets a small score; that is the method. " + LUNG_NOTE,
    )
    Config = AEUConfig
    tuned: ClassVar = {"lr": (1e-4, 3e-3, "log"), "z": [8, 16, 32, 64], "erode": (0, 3), "median": [0, 5]}

    def make_net(self) -> torch.nn.Module:
        from ..nets.aeu_net import UncertainAutoencoder

        c = self.config
        return UncertainAutoencoder(c.size, c.z, c.width)

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the mean over the organ of exp(−s)·(x − x̂)² + s, with s the log variance, and the squared error."""
        scaled = 2 * x - 1
        mean, log_variance = self.net(scaled)
        s = log_variance.clamp(min=self.config.floor)
        squared = (scaled - mean) ** 2
        count = roi.sum().clamp(min=1)
        nll = (((-s).exp() * squared + s) * roi).sum() / count
        return {"nll": nll, "l2": (squared * roi).sum() / count}

    def reconstruct(self, array: np.ndarray) -> np.ndarray:
        """Return the predicted slices in [0, 1], float32, shape of ``array`` (slices, H, W)."""
        return self._predict(array, lambda mean, s: (mean + 1) / 2)

    def expected_error(self, array: np.ndarray) -> np.ndarray:
        """Return the predicted standard deviation of the grey values of ``array``, float32, same shape."""
        return self._predict(array, lambda mean, s: (s / 2).exp() / 2)

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the squared residual over the predicted variance inside the (eroded) region of interest.

        The log variance is not added, as in the released code.
        """
        off = residual(array, self.reconstruct(array), self.config.sign)
        return self.finish((off / self.expected_error(array)) ** 2, roi)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the reconstruction and the error that the network expects."""
        return {"reconstruction": self.reconstruct(array), "expected error": self.expected_error(array)}

    def _predict(self, array: np.ndarray, read: Callable[..., torch.Tensor]) -> np.ndarray:
        def forward(x: torch.Tensor) -> torch.Tensor:
            mean, log_variance = self.net(2 * x - 1)
            return read(mean, log_variance.clamp(min=self.config.floor))[:, 0]

        self.net.eval()
        return predict(forward, array, batch=SCORE_BATCH, device=self.device)
