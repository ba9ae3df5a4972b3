"""Encoder-decoders of several methods: denoiser, DRAEM's pair, layers of a volume, MONAI's U-Net, wide residual net."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from .layers import ascend, chain, check_sides, descend

STD_FLOOR = 1e-5
DRAEM_STD = 0.02
RESTORATION_BASE, DISCRIMINATIVE_BASE = 128, 64
STEM = 16
WIDE_EPS, WIDE_MOMENTUM = 1e-3, 0.01  # Keras's defaults, with which the released code trains


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
        return self._conv_forward(input, self.standardised_weight(), self.bias)


def standardised_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """Reflect pad, weight-standardised 3×3 convolution with bias, swish, group normalisation, in this order."""
    convolution = WeightStandardisedConv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
    return [convolution, nn.SiLU(), nn.GroupNorm(group_count(outputs), outputs)]


class WeightStandardisedUNet(nn.Module):
    """U-Net of ``depth`` levels with widths 2^wf, 2^(wf+1), …; average pooling down, transposed convolution up.

    Kascenas et al. 2022, "Denoising autoencoders for unsupervised anomaly detection in brain MRI" (wf 6, depth 4),
    reused by Zhang et al. 2023 as restoration net. There is no output activation and no running statistic.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, depth: int = 4, wf: int = 6) -> None:
        super().__init__()
        widths = [2 ** (wf + level) for level in range(depth)]
        self.down = nn.ModuleList(chain(standardised_unit, i, o, o) for i, o in pairwise([in_channels, *widths]))
        self.pool = nn.AvgPool2d(2)
        coarse_to_fine = list(pairwise(widths[::-1]))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in coarse_to_fine)
        self.up = nn.ModuleList(chain(standardised_unit, 2 * o, o, o) for _, o in coarse_to_fine)
        self.head = nn.Conv2d(widths[0], out_channels, 1)
        self.factor = 2 ** (depth - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H, W).

        Raises:
            ValueError: H or W is not a multiple of 2^(depth − 1), or too small for the reflecting border.
        """
        check_sides(x, self.factor, 2 * self.factor)
        return self.head(ascend(descend(x, self.down, self.pool), self.enlarge, self.up))


def draem_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """3×3 convolution, batch normalisation, ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class _DRAEMTrunk(nn.Module):
    """Levels of two convolutions with max pooling down and bilinear enlarging plus one convolution up.

    Args:
        narrower: published over present width.
    """

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int], *, skips: bool, narrower: float
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(chain(draem_unit, i, o, o) for i, o in pairwise([in_channels, *widths]))
        self.pool = nn.MaxPool2d(2)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        width = widths[-1]
        for level in range(len(widths) - 2, -1, -1):
            here, out = widths[level], widths[max(level - 1, 0)]
            larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.up.append(nn.Sequential(larger, *draem_unit(width, out if skips else width)))
            self.merge.append(chain(draem_unit, out + here, out, out) if skips else chain(draem_unit, width, here, out))
            width = out
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)
        self.skips = skips
        self.factor = 2 ** (len(widths) - 1)
        self.narrower = narrower

    def draw_as_draem(self) -> None:
        """Draw convolution weights from N(0, 0.02) and normalisation weights from N(1, 0.02), in place of PyTorch's.

        The weights of a narrower net are larger by the root of the ratio of widths, which keeps their norm: under
        normalisation small weights make the steps of the optimiser large, and a narrow net then learns nothing.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, DRAEM_STD * self.narrower**0.5)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, DRAEM_STD)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H, W).

        Raises:
            ValueError: H or W is not a multiple of 2^(levels − 1).
        """
        check_sides(x, self.factor)
        features = descend(x, self.down, self.pool)
        if self.skips:
            return self.head(ascend(features, self.up, self.merge))
        x = features[-1]
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(up(x))
        return self.head(x)


class RestorationAE(_DRAEMTrunk):
    """DRAEM's reconstructive network: widths base × (1, 2, 4, 8, 8), no skips, no output activation."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1, base: int = RESTORATION_BASE) -> None:
        widths = [base * w for w in (1, 2, 4, 8, 8)]
        super().__init__(in_channels, out_channels, widths, skips=False, narrower=RESTORATION_BASE / base)


class DiscriminativeUNet(_DRAEMTrunk):
    """DRAEM's discriminative network: widths base × (1, 2, 4, 8, 8, 8), skips, logits of two classes."""

    def __init__(self, in_channels: int = 2, out_channels: int = 2, base: int = DISCRIMINATIVE_BASE) -> None:
        widths = [base * w for w in (1, 2, 4, 8, 8, 8)]
        super().__init__(in_channels, out_channels, widths, skips=True, narrower=DISCRIMINATIVE_BASE / base)


def volume_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """3×3×3 convolution, batch normalisation without running statistics, ReLU."""
    norm = nn.BatchNorm3d(outputs, track_running_stats=False)
    return [nn.Conv3d(inputs, outputs, 3, padding=1), norm, nn.ReLU(inplace=True)]


class LayerUNet(nn.Module):
    """3D U-Net of Çiçek et al. 2016 with a head per layer: normal tissue, lesion, mask (Zhang et al. 2021).

    Two 3×3×3 convolutions per level, max pooling, up-convolutions of 2×2×2 and concatenated skips. Going down, the
    first convolution of a level has half of its width. Batch normalisation keeps no running statistics: at test too it
    uses those of the batch, so that a window's result depends on what is scored with it.

    Args:
        channels: widths of the levels; 64, 128, 256, 512 in both papers.
        inputs: input channels.
    """

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 512), inputs: int = 1) -> None:
        super().__init__()
        self.down = nn.ModuleList(chain(volume_unit, i, o // 2, o) for i, o in pairwise((inputs, *channels)))
        self.pool = nn.MaxPool3d(2)
        steps = list(pairwise(channels[::-1]))
        self.enlarge = nn.ModuleList(nn.ConvTranspose3d(i, i, 2, stride=2, bias=False) for i, _ in steps)
        self.up = nn.ModuleList(chain(volume_unit, i + o, o, o) for i, o in steps)
        self.normal, self.lesion, self.mask = (nn.Conv3d(channels[0], 1, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the normal layer, the lesion layer and the logits of the mask, each (n, 1, Z, Y, X).

        Args:
            x: (n, inputs, Z, Y, X); every side a multiple of 2^(levels − 1).
        """
        x = ascend(descend(x, self.down, self.pool), self.enlarge, self.up)
        return self.normal(x), self.lesion(x), self.mask(x)


def residual_unet(channels: Sequence[int], residual_units: int, dims: int = 3) -> nn.Module:
    """Return MONAI's ``UNet`` for one input channel and two classes: stride 2 per level, instance normalisation, PReLU.

    Its weights are laid out with channels last, which halves the time of convolutions on a CPU.

    Args:
        channels: widths of the levels, the first level included, which already halves the resolution.
        residual_units: convolutions per residual block.
        dims: 3 for volumes, 2 for slices.
    """
    from monai.networks.nets.unet import UNet

    net = UNet(
        spatial_dims=dims,
        in_channels=1,
        out_channels=2,
        channels=tuple(channels),
        strides=(2,) * (len(channels) - 1),
        num_res_units=residual_units,
        norm="instance",
    )
    return net.to(memory_format=torch.channels_last_3d if dims == 3 else torch.channels_last)


class WideBlock(nn.Module):
    """Pre-activated residual block: twice batch norm, ReLU, 3×3 convolution (Zagoruyko and Komodakis 2016).

    Where the width changes, the shortcut is a 1×1 convolution of the first activation; else it is the input, its mean
    over ``stride`` × ``stride`` pixels. An enlarging block doubles both branches, the main one after its first
    convolution (Tan et al. 2022, released code).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, enlarge: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels, WIDE_EPS, WIDE_MOMENTUM)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels, WIDE_EPS, WIDE_MOMENTUM)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes = in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None
        self.pool = nn.AvgPool2d(stride)
        self.enlarge = nn.Upsample(scale_factor=2) if enlarge else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H / stride, W / stride), or twice H and W."""
        active = torch.relu(self.norm1(x))
        kept = self.pool(x) if self.shortcut is None else self.shortcut(active)
        changed = self.conv2(torch.relu(self.norm2(self.enlarge(self.conv1(active)))))
        return self.enlarge(kept) + changed


class WideResidualNet(nn.Module):
    """Wide residual encoder and decoder without skips between the two; one logit per pixel (FPI, PII).

    Tan et al. 2022, released code: a 3×3 convolution to 16 channels; five or six stages of N blocks with 16k, 32k, 64k,
    64k, … channels, all but the first halving the grid; as many enlarging blocks as there are halvings, the last three
    with 16k, 16 and ``out_channels`` channels, those before with 32k. What the last block gives are the logits.

    Args:
        depth: n: 10N + 6 has five stages, which halve four times, and 12N + 7 six, which halve five times.
        widen: k.

    Raises:
        ValueError: ``depth`` is neither.
    """

    def __init__(self, depth: int = 16, widen: int = 4, in_channels: int = 1, out_channels: int = 1) -> None:
        super().__init__()
        stages = 5 + depth % 2
        blocks, rest = divmod(depth - stages - 1, 2 * stages)
        if rest or blocks < 1:
            raise ValueError(f"depth {depth}: these nets have 10N + 6 layers (16, 26, …) or 12N + 7 (19, 31, …)")
        widths = [STEM, *(STEM * widen * g for g in (1, 2, *(4,) * (stages - 2)))]
        coarse_to_fine = [widths[-1], *(widths[2],) * (stages - 4), widths[1], STEM, out_channels]
        self.stem = nn.Conv2d(in_channels, STEM, 3, padding=1, bias=False)
        strides = (1, *(2,) * (stages - 1))
        self.down = nn.Sequential(
            *(_group(i, o, blocks, stride) for (i, o), stride in zip(pairwise(widths), strides, strict=True))
        )
        self.up = nn.Sequential(*(WideBlock(i, o, enlarge=True) for i, o in pairwise(coarse_to_fine)))
        self.factor = 2 ** (stages - 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to logits (n, out_channels, H, W).

        Raises:
            ValueError: H or W is not a multiple of 16, or of 32 with six stages.
        """
        check_sides(x, self.factor)
        return self.up(self.down(self.stem(x)))


def _group(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = WideBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(WideBlock(out_channels, out_channels) for _ in range(blocks - 1)))
