"""U-Net with weight-standardised convolutions: the denoiser of Kascenas et al. 2022."""

import torch
from torch import nn
from torch.nn import functional

STD_FLOOR = 1e-5


def group_count(channels: int) -> int:
    """Return the number of normalisation groups: the middle one of the sorted divisors.

    >>> [group_count(c) for c in (64, 128, 256, 512)]
    [8, 16, 16, 32]
    """
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    return divisors[len(divisors) // 2]


class WeightStandardisedConv2d(nn.Conv2d):
    """Convolution whose filters have zero mean and unit standard deviation whenever they are applied."""

    def standardised_weight(self) -> torch.Tensor:
        """Return the weight (out, in, kh, kw) with mean 0 and divided by (standard deviation + 1e-5) per filter."""
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return (self.weight - mean) / (std + STD_FLOOR)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve with the standardised weight."""
        return self._conv_forward(input, self.standardised_weight(), self.bias)


class ConvBlock(nn.Sequential):
    """Twice: reflect pad, weight-standardised 3×3 convolution with bias, swish, group normalisation, in this order."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                WeightStandardisedConv2d(channels, out_channels, 3, padding=1, padding_mode="reflect"),
                nn.SiLU(),
                nn.GroupNorm(group_count(out_channels), out_channels),
            ]
        super().__init__(*layers)


class WeightStandardisedUNet(nn.Module):
    """U-Net of ``depth`` levels with widths 2^wf, 2^(wf+1), …; average pooling down, transposed convolution up.

    Kascenas et al. 2022, "Denoising autoencoders for unsupervised anomaly detection in brain MRI" (wf 6, depth 4),
    reused by Zhang et al. 2023 as restoration net. There is no output activation and no running statistic.

    Args:
        depth: number of levels; images are halved ``depth`` − 1 times.
        wf: binary logarithm of the width of the first level.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, depth: int = 4, wf: int = 6) -> None:
        super().__init__()
        widths = [2 ** (wf + level) for level in range(depth)]
        self.down = nn.ModuleList(ConvBlock(i, o) for i, o in zip([in_channels, *widths[:-1]], widths, strict=True))
        coarse_to_fine = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in coarse_to_fine)
        self.up = nn.ModuleList(ConvBlock(2 * o, o) for _, o in coarse_to_fine)
        self.head = nn.Conv2d(widths[0], out_channels, 1)
        self.factor = 2 ** (depth - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H, W).

        Raises:
            ValueError: H or W is not a multiple of 2^(depth − 1), or too small for the reflecting border.
        """
        height, width = x.shape[-2:]
        if height % self.factor or width % self.factor or min(height, width) < 2 * self.factor:
            raise ValueError(
                f"image size {height}×{width}: this U-Net needs multiples of {self.factor}, at least {2 * self.factor}"
            )
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.avg_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            x = block(torch.cat([enlarge(x), skips.pop()], dim=1))
        return self.head(x)
