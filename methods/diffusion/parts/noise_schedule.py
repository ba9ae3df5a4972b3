"""The diffusion process of this family and its steps back: DDPM (Ho et al. 2020) and DDIM (Song et al. 2021)."""

import math
from typing import Literal

import numpy as np
import torch

from ...resident import sent

Schedule = Literal["linear", "cosine"]
FIRST_BETA, LAST_BETA, REFERENCE_STEPS = 1e-4, 0.02, 1000
COSINE_OFFSET, LARGEST_BETA = 0.008, 0.999


class Diffusion:
    """Variance schedule of ``steps`` steps.

    Args:
        steps: length of the whole diffusion.
        schedule: ``linear`` β, or the ᾱ of a squared cosine (Nichol and Dhariwal 2021, eq. 17).

    Attributes:
        betas: float64 (steps,), variance added by each step.
        kept: float64 (steps,), ᾱ, the share of the image's variance that is left after step t.
    """

    def __init__(self, steps: int = 1000, schedule: Schedule = "linear") -> None:
        scale = REFERENCE_STEPS / steps
        self.betas = np.linspace(scale * FIRST_BETA, scale * LAST_BETA, steps)
        if schedule == "cosine":
            angle = (np.arange(steps + 1) / steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2
            left = np.cos(angle) ** 2
            self.betas = np.minimum(1 - left[1:] / left[:-1], LARGEST_BETA)
        self.kept = np.cumprod(1 - self.betas)
        self._kept_on: dict[torch.device, torch.Tensor] = {}  # a copy in every update would be waited for

    def noisy(self, clean: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return √ᾱ_t · clean + √(1 − ᾱ_t) · noise; images (n, 1, H, W), ``t`` int64 (n,)."""
        if clean.device not in self._kept_on:
            self._kept_on[clean.device] = sent(self.kept, clean.device)
        kept = self._kept_on[clean.device][t].view(-1, 1, 1, 1)
        return kept.sqrt().to(clean.dtype) * clean + (1 - kept).sqrt().to(clean.dtype) * noise

    def clean(self, noisy: torch.Tensor, t: int, noise: torch.Tensor) -> torch.Tensor:
        """Return the clean image that ``noise`` implies, cut to [−1, 1]."""
        kept = float(self.kept[t])
        return ((noisy - math.sqrt(1 - kept) * noise) / math.sqrt(kept)).clamp(-1, 1)

    def ancestral(self, noisy: torch.Tensor, t: int, clean: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """Return a draw of the image at t − 1 given the one at ``t``: posterior mean plus √β_t · ``fresh``.

        At t = 0 it is the mean, which is ``clean``.
        """
        beta, kept = float(self.betas[t]), float(self.kept[t])
        before = float(self.kept[t - 1]) if t > 0 else 1.0
        mean = math.sqrt(before) * beta / (1 - kept) * clean
        mean = mean + math.sqrt(1 - beta) * (1 - before) / (1 - kept) * noisy
        return mean + math.sqrt(beta) * fresh if t > 0 else mean

    def implicit(self, noisy: torch.Tensor, t: int, clean: torch.Tensor, to: int) -> torch.Tensor:
        """Return the image at ``to`` < ``t`` along the deterministic path (DDIM, η = 0); −1 is the clean image.

        The noise that is carried on is the one that leads from ``clean`` to ``noisy``.
        """
        if to < 0:
            return clean
        kept, after = float(self.kept[t]), float(self.kept[to])
        noise = (noisy - math.sqrt(kept) * clean) / math.sqrt(1 - kept)
        return math.sqrt(after) * clean + math.sqrt(1 - after) * noise


def path(distance: int, steps: int) -> list[int]:
    """Return the steps to visit from noise level ``distance`` down to 0, evenly spaced, both ends included.

    >>> path(200, 5), path(4, 50)
    ([199, 149, 100, 50, 0], [3, 2, 1, 0])
    """
    return sorted({round(t) for t in np.linspace(distance - 1, 0, min(steps, distance))}, reverse=True)
