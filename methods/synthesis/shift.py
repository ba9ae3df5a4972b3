"""Random-shape anomalies: the shifted intensities of the liver paper, and the other fillings of random-shape."""

import json
from typing import Any, Literal

import numpy as np
import torch

from ..resident import sent
from . import stretched_noise_cpu, stretched_noise_torch
from .stretched_noise import ShapeConfig

Fill = Literal["shift", "constant", "texture", "control"]
MAX_REDRAWS = 1000


class ShiftedRegions:
    """Fill the tissue of a random-shape mask (docs/methods/two-stage.md, docs/methods/random-shape.md).

    Zhang et al. 2023, §3.1, add one constant C, uniform on ± the range of shifts in grey levels; tissue is what lies
    above 0. On the CPU the masks come from the compiled kernel, on other devices from tensor code.

    Args:
        size: side of the slices.
        device: torch device string that the images live on.
        shapes: masks and shifts.
        fill: ``shift`` adds C to the pixels; ``constant`` paints the tissue's mean plus C; ``texture`` paints the
            stretched noise behind the mask, scaled so that its mean there is the tissue's plus C (both Deng and Li 2022
            as far as it survives in the liver paper); ``control`` shifts half of the masks and fills the others with
            the stretched noise, whose largest value becomes the mean of the tissue.
        in_roi: keep masks inside the region of interest too, beyond which resizing leaves a rim of tissue.
    """

    def __init__(
        self,
        size: int,
        device: str,
        seed: int,
        shapes: ShapeConfig | None = None,
        *,
        fill: Fill = "shift",
        in_roi: bool = True,
    ) -> None:
        self.shapes = shapes = shapes or ShapeConfig()
        if not 0 < shapes.min_shift <= shapes.max_shift:
            raise ValueError(f"shifts of {shapes.min_shift} to {shapes.max_shift}: expected 0 < min_shift <= max_shift")
        self.size = size
        self.device = device
        self.recipe = shapes.recipe
        self.fill = fill
        self.in_roi = in_roi
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uint8 images augmented, float32 in [0, 1], and masks, bool; all (n, H, W)."""
        masks, fields = self._masks((images > 0) & rois if self.in_roi else images > 0)
        clean = images.float()
        shift = sent(self.draw_shifts(len(images)), images.device)[:, None, None]
        filled = clean + shift
        if self.fill in ("constant", "texture"):
            filled = _mean(clean, rois) + shift
        if self.fill == "texture":
            noise = fields.float()
            filled = noise * (filled / _mean(noise, masks).clamp(min=1))
        if self.fill == "control":
            noise = fields.float()
            scale = _mean(images, images > 0) / noise.amax(dim=(1, 2), keepdim=True).clamp(min=1)
            filled = torch.where(self._coins(len(images), 0.5), noise * scale, filled)
        return torch.where(masks, filled.clamp(0, 255).floor(), clean) / 255, masks

    def state_dict(self) -> dict[str, Any]:
        """Return where its generators stand."""
        return {"rng": json.dumps(self._rng.bit_generator.state), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._generator.set_state(state["generator"])

    def draw_shifts(self, count: int) -> np.ndarray:
        """Draw C for each slice, float32 (count,)."""
        sizes = self._rng.uniform(self.shapes.min_shift, self.shapes.max_shift, count)
        signs = self._rng.integers(0, 2, count) * 2 - 1
        return (sizes * signs).astype(np.float32)

    def _masks(self, tissue: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        masks, fields = self._place(tissue)
        if self.shapes.rejection:
            has_tissue = tissue.any(dim=2).any(dim=1)
            for _ in range(MAX_REDRAWS):
                empty = torch.nonzero(has_tissue & ~masks.any(dim=2).any(dim=1))[:, 0]
                if not len(empty):
                    break
                masks[empty], new_fields = self._place(tissue[empty])
                if len(fields):
                    fields[empty] = new_fields
        if self.shapes.p_anomaly < 1:
            masks = masks & self._coins(len(masks), self.shapes.p_anomaly)
        return masks, fields

    def _place(self, tissue: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        masks, fields = self._draw(len(tissue))
        if self.shapes.placement == "roi":
            masks = torch.stack([self._move(mask, to) for mask, to in zip(masks, tissue, strict=True)])
        return masks & tissue, fields

    def _draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.device.startswith("cpu"):
            return stretched_noise_torch.draw(self.recipe, count, self._generator, self.size)
        wanted = self.fill in ("texture", "control")
        masks, fields = stretched_noise_cpu.draw(self.recipe, count, self._rng, self.size, fields=wanted)
        return torch.from_numpy(masks), torch.from_numpy(fields)

    def _move(self, mask: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
        """Shift a mask so that one of its pixels lands on tissue; what leaves the frame is lost."""
        sources, targets = torch.nonzero(mask), torch.nonzero(tissue)
        if not len(sources) or not len(targets):
            return mask
        down, right = (
            targets[int(self._rng.integers(len(targets)))] - sources[int(self._rng.integers(len(sources)))]
        ).tolist()
        moved = torch.zeros_like(mask)
        rows, columns = sources[:, 0] + down, sources[:, 1] + right
        kept = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
        moved[rows[kept], columns[kept]] = True
        return moved

    def _coins(self, count: int, p: float) -> torch.Tensor:
        return sent(self._rng.random(count) < p, self.device)[:, None, None]


def _mean(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the mean of images (n, H, W) over masks, (n, 1, 1)."""
    return (images * inside).sum(dim=(1, 2), keepdim=True) / inside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
