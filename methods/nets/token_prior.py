"""A vector-quantised autoencoder, from MONAI, and transformers over its codes, as Pinaya et al. 2022 combine them."""

from collections.abc import Sequence
from typing import Literal

import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer
from monai.networks.nets.vqvae import VQVAE
from monai.utils.ordering import Ordering
from torch import nn
from torch.nn import functional

Order = Literal["raster", "transposed"]
STRIDE_KERNEL_DILATION_PADDING = (2, 4, 1, 1)
LEAST_USE = 0.1  # positions per batch that a code stands for, on a moving average


class Quantiser(EMAQuantizer):
    """MONAI's codebook, whose one-hot codes are made without asking a device for their largest number."""

    def quantize(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return encodings (m, width), one-hot codes (m, codes) and code numbers (n, h, w) of maps (n, width, h, w)."""
        flat = inputs.movedim(1, -1).reshape(-1, self.embedding_dim)
        book = self.embedding.weight
        numbers = ((flat**2).sum(1, keepdim=True) + (book**2).sum(1) - 2 * flat @ book.T).argmin(dim=1)
        one_hot = (numbers[:, None] == torch.arange(self.num_embeddings, device=inputs.device)).float()
        return flat, one_hot, numbers.view(len(inputs), *inputs.shape[2:])


class CodedSlices(nn.Module):
    """VQ-VAE of grey images: each level halves the side; what is left are numbers of codebook entries.

    The encoder continues images beyond their border: with zeros there, codes stand for the distance to the border.

    Args:
        channels: of each level.
        units: residual units per level.
        codes, width: entries of the codebook and their length.
        decay, commitment: of the codebook's moving average, and weight of the distance to it in the loss.
    """

    def __init__(
        self, channels: Sequence[int], units: int, codes: int, width: int, decay: float = 0.5, commitment: float = 0.25
    ) -> None:
        super().__init__()
        levels = len(channels)
        self.codes = codes
        self.net = VQVAE(
            *(2, 1, 1, tuple(channels), units, tuple(channels)),
            downsample_parameters=(STRIDE_KERNEL_DILATION_PADDING,) * levels,
            upsample_parameters=((*STRIDE_KERNEL_DILATION_PADDING, 0),) * levels,
            num_embeddings=codes,
            embedding_dim=width,
        )
        self.net.quantizer.quantizer = Quantiser(2, codes, width, commitment, decay)
        for layer in self.net.encoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.padding_mode = "replicate"

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return reconstructions (n, 1, H, W), the quantisation loss, and code numbers int64 (n, h, w).

        In training mode the codebook moves towards what it stands for.
        """
        encoded = self.net.encode(x)
        with torch.autocast(x.device.type, enabled=False):
            quantised, loss, numbers = self.net.quantizer.quantizer(encoded.float())
        return self.net.decode(quantised), loss, numbers

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Return the code numbers of images, int64 (n, h · w), row by row."""
        encoded = self.net.encode(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.net.quantizer.quantizer.quantize(encoded.float())[2].flatten(1)

    @torch.no_grad()
    def revive(self, x: torch.Tensor, draws: torch.Generator) -> None:
        """Move codes that stand for nothing any more to random places of what the encoder makes of images.

        A fresh codebook stands for nothing: all of it moves.
        """
        encoded = self.net.encode(x).float().movedim(1, -1).flatten(0, 2)
        book = self.net.quantizer.quantizer
        chosen = encoded[torch.randint(len(encoded), (self.codes,), generator=draws, device=x.device)]
        dead = book.ema_cluster_size < LEAST_USE
        for vectors in (book.embedding.weight, book.ema_w):
            vectors.copy_(torch.where(dead[:, None], chosen, vectors))
        book.ema_cluster_size.copy_(torch.where(dead, torch.ones_like(book.ema_cluster_size), book.ema_cluster_size))

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the images (n, 1, H, W) of code numbers (n, h · h)."""
        side = round(tokens.shape[1] ** 0.5)
        return self.net.decode(self.net.quantizer.embed(tokens.view(-1, side, side)))


def perplexity(numbers: torch.Tensor, codes: int) -> torch.Tensor:
    """Return how many codes are in use, as the exponential of the entropy of their frequencies; a scalar."""
    counts = torch.zeros(codes, device=numbers.device)
    share = counts.scatter_add(0, numbers.flatten(), torch.ones_like(numbers.flatten(), dtype=counts.dtype))
    share = share / numbers.numel()
    return torch.exp(torch.special.entr(share).sum())


class CausalBlock(nn.Module):
    """Attention to a position and those before it, then two dense layers, each normalised before and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape (n, length, width)."""
        n, length, width = x.shape
        qkv = self.to_qkv(self.norm_attention(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).reshape(n, length, width))
        return x + self.dense(self.norm_dense(x))


class CausalTransformer(nn.Module):
    """Decoder-only transformer with learned positions: the layers of MONAI's, which needs another package.

    Args:
        tokens: size of the vocabulary.
        length: of the longest sequence.
        width, depth, heads: of the blocks.
    """

    def __init__(self, tokens: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(CausalBlock(width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, tokens)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """Map int64 (n, length) to logits (n, length, tokens) of what follows each position."""
        return self.head(self.blocks(self.tokens(sequence) + self.positions.weight[: sequence.shape[1]]))


class TokenPriors(nn.Module):
    """Decoder-only transformers that predict each code of a slice from those before it, one for each ordering.

    Args:
        codes: entries of the codebook; one more token opens each sequence.
        side: of the grid of codes.
        orders: ``raster`` goes row by row, ``transposed`` column by column.
        width, depth, heads: of each transformer.
    """

    orders: torch.Tensor

    def __init__(self, codes: int, side: int, orders: Sequence[Order], width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.codes = codes
        axes: dict[Order, tuple[tuple[int, int], ...]] = {"raster": (), "transposed": ((1, 0),)}
        found = [
            Ordering("raster_scan", 2, (1, side, side), transpositions_axes=axes[order]).get_sequence_ordering()
            for order in orders
        ]
        self.register_buffer("orders", torch.tensor([list(map(int, order)) for order in found]), persistent=False)
        self.nets = nn.ModuleList(CausalTransformer(codes + 1, side**2, width, depth, heads) for _ in orders)

    def logits(self, which: int, sequence: torch.Tensor) -> torch.Tensor:
        """Return logits (n, length, codes + 1) of each token of a sequence (n, length) given those before it."""
        start = torch.full_like(sequence[:, :1], self.codes)
        return self.nets[which](torch.cat([start, sequence[:, :-1]], dim=1)).float()

    def surprise(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return −log p of each token (n, length) under each transformer, float32 (orders, n, length), in place."""
        found = []
        for which, order in enumerate(self.orders):
            sequence = tokens[:, order]
            loss = functional.cross_entropy(self.logits(which, sequence).transpose(1, 2), sequence, reduction="none")
            found.append(loss[:, order.argsort()])
        return torch.stack(found)

    def healed(
        self, which: int, tokens: torch.Tensor, unlikely: torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Replace unlikely tokens one after the other, each given the healed ones before it.

        Args:
            which: number of the transformer.
            tokens: int64 (n, length), row by row.
            unlikely: bool, same shape.
            noise: Gumbel noise (n, length, codes), with which a token is drawn from its distribution; without, it is
                the most likely one. The token that opens sequences is never chosen.
        """
        order = self.orders[which]
        sequence, flags = tokens[:, order].clone(), unlikely[:, order]
        counts, places = flags.sum(dim=1), flags.int().argsort(dim=1, descending=True, stable=True)
        for turn in range(int(counts.max())):
            rows = torch.nonzero(counts > turn)[:, 0]
            at = places[rows, turn]
            logits = self.logits(which, sequence[rows, : int(at.max()) + 1])
            chance = logits[torch.arange(len(rows), device=rows.device), at, : self.codes]
            if noise is not None:
                chance = chance + noise[rows, at]
            sequence[rows, at] = chance.argmax(dim=1)
        return sequence[:, order.argsort()]
