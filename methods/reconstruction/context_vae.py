"""Context-encoding variational autoencoder: it also learns to fill in squares that were cut out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from .parts.base import INPUT_FIGURE, SCORE_BATCH, TRAINING_FIGURES
from .parts.residual import residual
from .vae import VAE, VAEConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ContextVAEConfig(VAEConfig):
    """Settings of :class:`ContextVAE`.

    Attributes:
        square: side of a square as a share of the slice's: 32 of 128 pixels in Yao et al. 2021.
        most_squares: a slice loses one to this many squares.
        context: weight of the filled-in slices' loss; the plain slices' has 1 − context.
        score: ``rec`` is the residual, ``grad`` the absolute gradient of the lower bound with respect to the slice,
            ``product`` both multiplied.
    """

    square: float = 0.25
    most_squares: int = 3
    context: float = 0.5
    score: Literal["rec", "grad", "product"] = field(default="rec", metadata={"stage": "score"})

    profiles: ClassVar = VAEConfig.profiles_with(quick={"updates": 300}, standard={"updates": 2800})


class ContextVAE(VAE):
    """Learns to reproduce healthy slices and to guess, from the rest of a slice, squares that it cannot see."""

    card = MethodCard(
        name="context-vae",
        title="Context-encoding variational autoencoder",
        year=2018,
        family="reconstruction",
        citation="Zimmerer et al., Context-encoding Variational Autoencoder for Unsupervised Anomaly Detection, "
        "arXiv 1812.05941, 2018; the trunk: Baur et al., Medical Image Analysis 69, 2021",
        reference="arXiv:1812.05941",
        figures=(
            INPUT_FIGURE,
            ("network", "Zimmerer: 4×4 stride 2, 16–1024, no norm, z 128", "trunk of ae, dense mean and log σ, z 128"),
            (
                "loss",
                "Zimmerer: ½ VAE + ½ filled in; Yao: squares of 32",
                "½ loss of vae + ½ L1 of cut slices, 1–3 squares of 32",
            ),
            *TRAINING_FIGURES,
        ),
        notes="One to three squares of 32 pixels at 128² (Yao et al.) are set to 0 around the organ; the target is the "
        "clean slice, where one published trainer compares with the cut one. Squares are filled in from the mean code.",
    )
    Config = ContextVAEConfig
    tuned: ClassVar = {**VAE.tuned, "square": (0.1, 0.4), "most_squares": (1, 5), "score": ["rec", "grad", "product"]}

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the weighted sum of the plain loss and of the error of filled-in slices, and its terms."""
        from torch.nn import functional

        c = self.config
        plain = super().losses(x, roi, draws)
        cut = cut_squares(x, roi, max(1, round(c.square * c.size)), c.most_squares, draws)
        context = functional.l1_loss(self.net(cut)[0].float(), x)
        loss = (1 - c.context) * plain["loss"] + c.context * context
        return {"loss": loss, "l1": plain["l1"], "kl": plain["kl"], "context": context}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the map named by ``score`` inside the (eroded) region of interest, 0 elsewhere."""
        if self.config.score == "rec":
            return super().score_view(array, roi, spacing)
        from .parts.input_gradient import gradient_maps

        self.net.eval()
        map_ = np.abs(gradient_maps(self.slice_losses, array, batch=SCORE_BATCH, device=self.device))
        if self.config.score == "product":
            map_ *= residual(array, self.reconstruct(array), self.config.sign)
        return self.finish(map_, roi)


def cut_squares(x: torch.Tensor, roi: torch.Tensor, side: int, most: int, draws: torch.Generator) -> torch.Tensor:
    """Return slices (n, 1, H, W) with one to ``most`` squares of ``side`` pixels set to 0.

    Their centres lie anywhere in the bounding box of ``roi``, or of a slice without any region of interest.
    """
    import torch

    n = len(x)
    cut = torch.ones((n, most), dtype=torch.bool, device=x.device)
    count = torch.randint(1, most + 1, (n, 1), generator=draws, device=x.device)
    cut &= torch.arange(most, device=x.device) < count
    spans = []
    for axis in (2, 3):
        length = x.shape[axis]
        inside = roi.any(5 - axis)[:, 0].int()
        low, high = inside.argmax(1), length - 1 - inside.flip(1).argmax(1)
        share = torch.rand((n, most), generator=draws, device=x.device)
        start = low[:, None] + (share * (high - low + 1)[:, None]).long() - side // 2
        offset = torch.arange(length, device=x.device) - start[..., None]
        spans.append((offset >= 0) & (offset < side))
    rows, columns = spans
    squares = (rows[..., :, None] & columns[..., None, :] & cut[..., None, None]).any(1)
    return x.masked_fill(squares[:, None], 0)
