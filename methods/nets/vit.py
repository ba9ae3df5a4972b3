"""Vision transformers of timm for grey images: the patch features of chosen blocks, and their prefix tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import model_entrypoint
from torch import nn

from ..config import ConfigError
from .timm_nets import GreyBackbone

TABLE = "pos_embed"
_HOMES = ("timm.models.vision_transformer", "timm.models.eva")


class ViTFeatures(GreyBackbone):
    """Patch features of chosen blocks of a timm vision transformer, such as DINOv2's or DINOv3's.

    Blocks behind the last one that is asked for are left out. A position table is resampled once, to the grid of
    ``size``, as timm does it (bicubic, antialiased); images of another size are read too, and resampled for at each
    call.

    Args:
        backbone: timm model name, such as ``vit_small_patch14_dinov2.lvd142m``.
        blocks: whose outputs, counted from 0, or from −1 backwards; ascending.
        size: side of the images in pixels, a multiple of the patch.
        norm: send the outputs through the network's last LayerNorm, as for its final features.
        average: return the mean over the blocks instead of one map per block.

    Attributes:
        patch: side of a patch in pixels.
        width: channels of the tokens.
        prefix: number of tokens before those of the patches: class token and registers.

    Raises:
        ConfigError: timm has no such transformer, it has no such blocks or no LayerNorm at its end, or its patches do
            not fill ``size``.
    """

    def __init__(
        self, backbone: str, blocks: Sequence[int], *, size: int, norm: bool = False, average: bool = False
    ) -> None:
        net = _transformer(backbone)
        super().__init__(backbone, net)
        depth = len(net.blocks)
        self.blocks = tuple(block + depth if block < 0 else block for block in blocks)
        if not self.blocks or list(self.blocks) != sorted({*self.blocks} & {*range(depth)}):
            raise ConfigError(
                f"blocks {tuple(blocks)}: {backbone} has blocks 0 to {depth - 1} (−1 is the last); give them ascending"
            )
        if norm and not isinstance(net.norm, nn.LayerNorm):
            raise ConfigError(f"norm=on: {backbone} has no LayerNorm behind its last block; use norm=off")
        self.norm, self.average = norm, average
        self.patch, self.width = int(net.patch_embed.patch_size[0]), int(net.embed_dim)
        self.prefix = int(net.num_prefix_tokens)
        check_side(backbone, size, self.patch)
        maps = 1 if average else len(self.blocks)
        self.channels, self.strides = (self.width,) * maps, (self.patch,) * maps
        net.blocks = net.blocks[: self.blocks[-1] + 1]
        self.own_grid, self.grid = net.patch_embed.grid_size, (size // self.patch,) * 2
        if self._table is not None:
            self.own_tokens = self._table.shape[1]
            net.pos_embed = nn.Parameter(self._on_grid(self._table.detach()))
            net.patch_embed.grid_size = self.grid

    def forward(self, grey: torch.Tensor) -> list[torch.Tensor]:
        """Return maps (n, width, H / patch, W / patch) of images (n, 1, H, W): one per block, or their mean.

        Raises:
            ConfigError: a side of the images is no multiple of the patch.
        """
        return [patches for patches, _ in self.with_prefix(grey)]

    def with_prefix(self, grey: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each map with its prefix tokens (n, prefix, width): the class token first, then the registers.

        Raises:
            ConfigError: a side of the images is no multiple of the patch.
        """
        for side in grey.shape[-2:]:
            check_side(self.backbone, side, self.patch)
        found = self.net.forward_intermediates(
            self.normalised(grey),
            indices=list(self.blocks),
            norm=self.norm,
            output_fmt="NCHW",
            intermediates_only=True,
            return_prefix_tokens=self.prefix > 0,
        )
        pairs = [pair if self.prefix else (pair, pair.new_empty(len(pair), 0, self.width)) for pair in found]
        if not self.average:
            return pairs
        return [(_mean([patches for patches, _ in pairs]), _mean([tokens for _, tokens in pairs]))]

    def fill(self, state: Mapping[str, torch.Tensor]) -> Self:
        """Load pretrained weights, whose position table is resampled; parts that are not used are left aside.

        Raises:
            WeightsError: a tensor is missing or has another shape.
        """
        table = state.get(TABLE)
        if self._table is not None and table is not None and table.shape == (1, self.own_tokens, self.width):
            state = {**state, TABLE: self._on_grid(table)}
        return super().fill(state)

    @property
    def _table(self) -> torch.Tensor | None:
        return getattr(self.net, TABLE, None)

    def _on_grid(self, table: torch.Tensor) -> torch.Tensor:
        """Bring a position table (1, own tokens, width) from the network's own grid to that of ``size``."""
        prefix = 0 if self.net.no_embed_class else self.prefix
        return resample_abs_pos_embed(table, list(self.grid), list(self.own_grid), num_prefix_tokens=prefix)


def is_transformer(backbone: str) -> bool:
    """Say whether a name of timm is one that :class:`ViTFeatures` can build.

    Raises:
        ConfigError: timm has no such model.
    """
    try:
        return model_entrypoint(backbone.partition(".")[0]).__module__ in _HOMES
    except Exception as error:  # timm's own types differ from model to model
        raise ConfigError(f"backbone={backbone}: timm has no such model ({error})") from error


def check_side(backbone: str, side: int, patch: int) -> None:
    """Refuse images that patches do not fill.

    Raises:
        ConfigError: ``side`` is no multiple of ``patch``; the message names the nearest ones that are.
    """
    if side < patch or side % patch:
        low = max(patch, side // patch * patch)
        raise ConfigError(
            f"{side} pixels: {backbone} has patches of {patch} pixels, so that a side is a multiple of {patch}; "
            f"use {' or '.join(str(near) for near in dict.fromkeys((low, (side // patch + 1) * patch)))}"
        )


def _transformer(backbone: str) -> Any:
    if not is_transformer(backbone):
        raise ConfigError(f"backbone={backbone}: not a vision transformer; use one of timm's vit_*, such as DINOv2's")
    try:
        # The table is for one size; without this the network refuses images of any other.
        return timm.create_model(backbone, pretrained=False, num_classes=0, dynamic_img_size=True)
    except Exception as error:  # timm's own types differ from model to model
        raise ConfigError(f"backbone={backbone}: timm cannot build it ({error})") from error


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.float() for tensor in tensors]).mean(dim=0)
