"""Dropout whose masks come from a generator of its own."""

import torch
from torch import nn


class SeededDropout(nn.Module):
    """Dropout that draws from its own generator, so that a fit depends on no global random state.

    Attributes:
        shared: the whole batch gets the same mask: one thinned network instead of one per item.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.shared = False
        self.generator: torch.Generator | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop values with probability p in training mode and scale the rest by 1 / (1 − p)."""
        if not self.training or self.p == 0:
            return x
        keep = torch.empty_like(x[:1] if self.shared else x).bernoulli_(1 - self.p, generator=self.generator)
        return x * keep / (1 - self.p)


def seed_dropout(net: nn.Module, seed: int) -> None:
    """Give the dropout layers of a network one generator, on the device of its parameters."""
    generator = torch.Generator(next(net.parameters()).device).manual_seed(seed)
    for module in net.modules():
        if isinstance(module, SeededDropout):
            module.generator = generator
