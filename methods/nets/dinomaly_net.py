"""Dinomaly's trained part: a bottleneck with dropout and a decoder of transformer blocks with linear attention."""

import torch
from torch import nn
from torch.nn.functional import elu

from .layers import SeededDropout

EPS = 1e-8


class LinearAttention(nn.Module):
    """Attention with φ = ELU + 1 on queries and keys instead of a softmax: φ(q)(φ(k)ᵀv) / (φ(q)·Σφ(k) + 10⁻⁸).

    Guo et al. 2025, §3.3. The published v1 has no ε, and a denominator may vanish. Tokens (n, t, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        with torch.autocast(tokens.device.type, enabled=False):  # sums over all tokens
            q, k, v = elu(q.float()) + 1, elu(k.float()) + 1, v.float()
            weight = (q @ k.sum(dim=2)[..., None]) + EPS
            found = q @ (k.transpose(2, 3) @ v) / weight
        return self.out(found.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """A pre-norm transformer block: linear attention, then an MLP of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attention = LinearAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class DinomalyNet(nn.Module):
    """Bottleneck and decoder; tokens (n, t, width) give the outputs of all blocks, the last one first.

    Args:
        width: of the tokens.
        heads: of the attention; a divisor of ``width``.
        depth: blocks.
        dropout: in the bottleneck: before, in and behind its MLP.
        narrow: width of a first layer of the bottleneck, as in Dinomaly2; None goes into the MLP at once.
    """

    def __init__(self, width: int, heads: int, depth: int, dropout: float, narrow: int | None = None) -> None:
        super().__init__()
        self.narrowing = None if narrow is None else nn.Linear(width, narrow)
        self.mlp = nn.Sequential(
            SeededDropout(dropout),
            nn.Linear(narrow or width, 4 * width),
            nn.GELU(),
            SeededDropout(dropout),
            nn.Linear(4 * width, width),
            SeededDropout(dropout),
        )
        self.blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        tokens = self.mlp(tokens if self.narrowing is None else self.narrowing(tokens))
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return outputs[::-1]
