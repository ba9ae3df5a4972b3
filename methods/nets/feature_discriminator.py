"""SimpleNet's two small networks on patch features: an adaptor and a discriminator."""

import torch
from torch import nn
from torch.nn.functional import leaky_relu


def feature_adaptor(dims: int) -> nn.Linear:
    """Return one linear layer with a bias and nothing behind it (Liu et al. 2023, §3.2)."""
    layer = nn.Linear(dims, dims)
    nn.init.xavier_normal_(layer.weight)
    return layer


class FeatureDiscriminator(nn.Module):
    """Tells features of healthy patches from altered ones: linear, batch norm, leaky ReLU 0.2, linear without bias.

    Liu et al. 2023, §3.4. Features (m, dims) give one number each, (m,).
    """

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.head = nn.Linear(dims, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.tail = nn.Linear(hidden, 1, bias=False)
        for layer in (self.head, self.tail):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.tail(leaky_relu(self.norm(self.head(features)), 0.2))[:, 0]
