"""MONAI's residual U-Net: the network of NormNet, the label-free synthetic tumours and the supervised top line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def residual_unet(channels: Sequence[int], residual_units: int, dims: int = 3) -> torch.nn.Module:
    """Return MONAI's ``UNet`` for one input channel and two classes: stride 2 per level, instance normalisation, PReLU.

    Args:
        channels: widths of the levels, the first level included, which already halves the resolution.
        residual_units: convolutions per residual block.
        dims: 3 for volumes, 2 for slices.
    """
    from monai.networks.nets.unet import UNet

    return UNet(
        spatial_dims=dims,
        in_channels=1,
        out_channels=2,
        channels=tuple(channels),
        strides=(2,) * (len(channels) - 1),
        num_res_units=residual_units,
        norm="instance",
    )
