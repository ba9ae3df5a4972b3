"""Losses of the methods, in plain torch: importing MONAI costs every process seconds and half a GiB."""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional


def focal_loss(logits: torch.Tensor, target: torch.Tensor, gamma: float = 2.0, smooth: float = 1e-5) -> torch.Tensor:
    """Focal loss on a softmax, −(1 − p_t)^γ · log p_t with α = 1, averaged over pixels.

    The one-hot target is clamped to [smooth, 1 − smooth] and p_t raised by ``smooth``, so that it never reaches 0
    (DRAEM, Zavrtanik et al. 2021, released code; Zhang et al. 2023, eq. 3). Logits (n, 2, H, W) before the softmax,
    target (n, H, W) bool or 0 and 1.
    """
    normal, anomalous = torch.softmax(logits.float(), dim=1).unbind(1)
    truth = target.bool()
    right, wrong = torch.where(truth, anomalous, normal), torch.where(truth, normal, anomalous)
    p_t = (right * (1 - smooth) + wrong * smooth + smooth).clamp(max=1)
    return (-((1 - p_t) ** gamma) * torch.log(p_t)).mean()


def soft_dice(a: torch.Tensor, b: torch.Tensor, smooth: float = 1e-5, *, per_sample: bool = False) -> torch.Tensor:
    """Soft Dice overlap (2·Σab + s) / (Σa + Σb + s), 1 where both are the same mask (Milletari et al. 2016).

    The published loss sums squares in the denominator; plain sums are what Dice and cross-entropy losses use today.

    Args:
        a: probabilities or a mask in [0, 1], (n, …).
        b: same shape.
        smooth: s; two empty masks overlap fully.
        per_sample: sum over each sample alone instead of the whole batch.

    Returns:
        float32, (n,) with ``per_sample``, else a scalar.
    """
    a, b = a.float(), b.float()
    axes = tuple(range(int(per_sample), a.ndim))
    return (2 * (a * b).sum(axes) + smooth) / (a.sum(axes) + b.sum(axes) + smooth)


def dice_and_cross_entropy(
    logits: torch.Tensor, lesion: torch.Tensor, roi: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 1 − the soft Dice of the lesion over the whole batch, and the mean cross-entropy; both inside the ROI.

    The batch is one sum, so that slices without a lesion do not turn their whole Dice on a single pixel.

    Args:
        logits: (n, 2, …), before the softmax.
        lesion: bool (n, …).
        roi: bool (n, …); other pixels count nowhere.
    """
    inside = roi.float()
    truth = lesion.float() * inside
    chance = torch.softmax(logits.float(), dim=1)[:, 1] * inside
    entropy = functional.cross_entropy(logits.float(), lesion.long(), reduction="none")
    return 1 - soft_dice(chance, truth), (entropy * inside).sum() / inside.sum().clamp(min=1)


def masked_cross_entropy(logits: torch.Tensor, target: torch.Tensor, roi: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy with soft targets, averaged over the pixels of ``roi``; all (n, 1, H, W)."""
    loss = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (loss * roi).sum() / roi.sum().clamp(min=1)


def masked_cross_entropy_pyramid(
    logits: Sequence[torch.Tensor], target: torch.Tensor, roi: torch.Tensor
) -> torch.Tensor:
    """Return :func:`masked_cross_entropy` at several scales, with weights 1, ½, ¼, … that add up to 1.

    Args:
        logits: (n, 1, Z, Y, X), each with half the sides of the one before.
        target: float (n, 1, Z, Y, X) in [0, 1], resized linearly for the coarser scales.
        roi: float, same shape; resized in the same way, so that coarse voxels count by their share of it.
    """
    total = target.new_zeros(())
    weights = [0.5**k for k in range(len(logits))]
    for weight, level in zip(weights, logits, strict=True):
        sides = level.shape[2:]
        resized = (functional.interpolate(a, sides, mode="trilinear", align_corners=False) for a in (target, roi))
        total = total + weight / sum(weights) * masked_cross_entropy(level, *resized)
    return total


def soft_dice_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return 1 − the soft Dice of a sigmoid of ``logits`` (n, …) with a float mask, averaged over samples."""
    return 1 - soft_dice(logits.float().sigmoid(), mask, per_sample=True).mean()


def decomposition_losses(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return Dice of the mask, mean absolute errors of both layers, and these once more inside the mask alone.

    All have weight 1 in their sum (Zhang et al. 2021).

    Args:
        outputs: normal layer, lesion layer and logits of the mask, (n, 1, Z, Y, X).
        batch: ``normal``, ``lesion`` and ``mask``, float32 of the same shape.
    """
    normal, lesion, logits = outputs
    mask = batch["mask"]
    inside = mask.sum().clamp(min=1)
    errors = {"normal": (normal.float() - batch["normal"]).abs(), "lesion": (lesion.float() - batch["lesion"]).abs()}
    return {
        "dice": soft_dice_loss(logits, mask),
        **{name: error.mean() for name, error in errors.items()},
        **{f"{name} inside": (error * mask).sum() / inside for name, error in errors.items()},
    }


def ssim_map(a: torch.Tensor, b: torch.Tensor, window: int = 11, sigma: float = 1.5) -> torch.Tensor:
    """Structural similarity at every pixel (Wang et al. 2004), images (n, c, H, W) in [0, 1], zeros around.

    Float32, same shape, 1 where the neighbourhoods are equal.
    """
    a, b = a.float(), b.float()
    moments = _blur(torch.stack([a, b, a * a, b * b, a * b]), window, sigma)
    mean_a, mean_b, square_a, square_b, product = moments
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)


def ssim_loss(a: torch.Tensor, b: torch.Tensor, window: int = 11, sigma: float = 1.5) -> torch.Tensor:
    """1 − mean structural similarity; see :func:`ssim_map`."""
    return 1 - ssim_map(a, b, window, sigma).mean()


def _blur(images: torch.Tensor, window: int, sigma: float) -> torch.Tensor:
    offset = torch.arange(window, dtype=images.dtype, device=images.device) - (window - 1) / 2
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    # Two products with band matrices: at these sizes ten times as fast on a CPU as convolutions of one channel.
    rows, columns = (_band(kernel, side) for side in images.shape[-2:])
    return rows @ images @ columns.T


def _band(kernel: torch.Tensor, side: int) -> torch.Tensor:
    """Return the matrix (side, side) that correlates a vector with a kernel of odd length, zeros around."""
    pixel = torch.arange(side, device=kernel.device)
    tap = pixel[None] - pixel[:, None] + len(kernel) // 2
    return torch.where((tap >= 0) & (tap < len(kernel)), kernel[tap.clamp(0, len(kernel) - 1)], 0.0)


def vicreg(one: torch.Tensor, other: torch.Tensor, eps: float = 1e-4) -> dict[str, torch.Tensor]:
    """Return the three terms of VICReg (Bardes et al. 2022), which are weighted 25, 25 and 1.

    ``invariance`` is the mean squared difference of pairs. ``variance`` is the mean over dimensions of
    max(0, 1 − √(variance + ε)), and ``covariance`` the sum of the squared covariances of two dimensions over the number
    of dimensions, both summed over the two sides.

    Args:
        one, other: embeddings of the same things, (n, dimensions); row i of both is a pair.
    """
    one, other = one.float(), other.float()
    dimensions = one.shape[1]
    variance, covariance = one.new_zeros(()), one.new_zeros(())
    for side in (one, other):
        centred = side - side.mean(dim=0)
        products = centred.T @ centred / (len(side) - 1)
        own = products.diagonal()
        variance = variance + functional.relu(1 - torch.sqrt(own + eps)).mean()
        covariance = covariance + (products.square().sum() - own.square().sum()) / dimensions
    return {
        "invariance": functional.mse_loss(one, other),
        "variance": variance,
        "covariance": covariance,
    }
