"""MONAI's residual 3D U-Net, the network of NormNet and of the label-free synthetic tumours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def residual_unet(channels: Sequence[int], residual_units: int, classes: int = 2) -> torch.nn.Module:
    """Return MONAI's ``UNet`` for one input channel: stride 2 per level, instance normalisation, PReLU.

    Args:
        channels: widths of the levels, the first level included, which already halves the resolution.
        residual_units: convolutions per residual block.
        classes: output channels.
    """
    from monai.networks.nets.unet import UNet

    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=tuple(channels),
        strides=(2,) * (len(channels) - 1),
        num_res_units=residual_units,
        norm="instance",
    )
