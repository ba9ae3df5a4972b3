"""Training slices on the device of a training, so that a step waits for no copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..common.untried import untried

if TYPE_CHECKING:
    from ..datasets.healthy import SliceStack

CHUNK = 256
SHARE_OF_FREE_MEMORY = 0.25


class ResidentSlices:
    """Slices of a stack as tensors on a device, by number.

    On a GPU all of them are copied once where they fit, and a batch is read there; else batches are copied.

    Args:
        held: keep all slices on the device; None decides by device and free memory.
    """

    def __init__(self, stack: SliceStack, device: str, held: bool | None = None) -> None:
        self.stack = stack
        self.device = device
        self._held = _all(stack, device) if (_fits(stack, device) if held is None else held) else None

    def __len__(self) -> int:
        return len(self.stack)

    def take(self, numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (n, H, W) in the dtype of the view and regions of interest (n, H, W) bool, free to change."""
        if self._held is None:
            images, rois = self.stack.take(numbers)
            return sent(images, self.device), sent(rois, self.device)
        chosen = sent(np.asarray(numbers, np.int64), self.device)
        images, rois = self._held
        return images.index_select(0, chosen), rois.index_select(0, chosen)


def sent(array: np.ndarray, device: str | torch.device) -> torch.Tensor:
    """Copy an array to a device, without waiting until it is there; on the CPU the tensor shares its memory.

    Pinned memory is PyTorch's own to allocate: it hands the same blocks out again once their copies have ended.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if untried(str(device)) else tensor.to(device)


def _fits(stack: SliceStack, device: str) -> bool:
    if not untried(device):
        return False
    size = int(np.prod(stack.shape)) * (stack.dtype.itemsize + 1)
    return size <= SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]


def _all(stack: SliceStack, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.empty(stack.shape, dtype=torch.from_numpy(np.empty(0, stack.dtype)).dtype, device=device)
    rois = torch.empty(stack.shape, dtype=torch.bool, device=device)
    for first in range(0, len(stack), CHUNK):
        part = slice(first, min(first + CHUNK, len(stack)))
        for whole, some in zip((images, rois), stack.take(range(part.start, part.stop)), strict=True):
            whole[part].copy_(torch.from_numpy(some))
    return images, rois
