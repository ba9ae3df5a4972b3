"""SAM (Kirillov et al., ICCV 2023) from a file of its published form, behind the interface of :mod:`.refining`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.errors import DataError, brief

if TYPE_CHECKING:
    import torch

PACKAGE = "segment_anything"
SMALLEST = "sam_vit_b_01ec64.pth"
PUBLISHED = {
    "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912": "sam_vit_b_01ec64.pth",
    "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622": "sam_vit_l_0b3195.pth",
    "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e": "sam_vit_h_4b8939.pth",
}
"""SHA-256 of the three files that were published with SAM, under the Apache-2.0 licence; nothing else is known."""
AT_ONCE = 16
HEADS_OF_DECODER = 8
PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


class SamError(DataError):
    """A file cannot be read as weights of SAM."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which is read once as long as it does not change."""
    about = path.stat()
    return _sha256(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4)
def _sha256(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class SamPredictor:
    """SAM on slices; of one point it returns the answer of three that it trusts most, of a point in a box its only one.

    Raises:
        SamError: the file cannot be read, or holds no SAM.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        from segment_anything import SamPredictor as Slices

        model: Any = network(read(path), str(path)).to(device)
        self.params = sum(parameter.numel() for parameter in model.parameters())
        self._slices: Any = Slices(model)

    def look(self, pixels: np.ndarray) -> None:
        """Take a slice, uint8 (y, x), as grey in three channels."""
        self._slices.set_image(np.repeat(pixels[..., None], 3, axis=2))

    def predict(self, points: np.ndarray, boxes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return masks, bool (n, y, x), and expected IoU, float32 (n,)."""
        parts = [slice(start, start + AT_ONCE) for start in range(0, len(points), AT_ONCE)]
        found = [self._some(points[part], None if boxes is None else boxes[part]) for part in parts]
        masks, ious = zip(*found, strict=True)
        return np.concatenate(masks), np.concatenate(ious)

    def _some(self, points: np.ndarray, boxes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        import torch

        slices, size = self._slices, self._slices.original_size
        placed = torch.as_tensor(slices.transform.apply_coords(points, size), device=slices.device)
        labels = torch.ones(len(points), 1, dtype=torch.int, device=slices.device)
        boxed = None
        if boxes is not None:
            boxed = torch.as_tensor(slices.transform.apply_boxes(boxes, size), device=slices.device).float()
        masks, ious, _ = slices.predict_torch(
            placed.float()[:, None], labels, boxed, multimask_output=boxes is None
        )  # fmt: skip
        best = ious.argmax(dim=1)
        row = torch.arange(len(best), device=best.device)
        return masks[row, best].cpu().numpy(), ious[row, best].float().cpu().numpy()


def read(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name; code in it is never run.

    Raises:
        SamError: it holds something else.
    """
    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a file that is not what it should be
        raise SamError(f"{path} cannot be read as PyTorch weights ({brief(error)}); take {SMALLEST}") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise SamError(f"{path} holds no tensors by name; take {SMALLEST}")
    return found


def network(state: Mapping[str, torch.Tensor], name: str) -> torch.nn.Module:
    """Return the network whose weights these are, of any size, ready to be asked.

    Raises:
        SamError: they are none of SAM.
    """
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from torch.nn import LayerNorm

    try:
        grid, patch = state["image_encoder.pos_embed"].shape[1], state["image_encoder.patch_embed.proj.weight"].shape[2]
        channels, width = state["image_encoder.neck.0.weight"].shape[:2]
        relative = _relative(state)
        windows = {(len(table) + 1) // 2 for table in relative} - {grid}
        encoder = ImageEncoderViT(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=width,
            depth=len(relative),
            num_heads=width // relative[0].shape[1],
            mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
            out_chans=channels,
            norm_layer=partial(LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
            use_rel_pos=True,
            window_size=windows.pop() if windows else 0,
            global_attn_indexes=tuple(i for i, table in enumerate(relative) if (len(table) + 1) // 2 == grid),
        )
        prompt = PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * patch, grid * patch),
            mask_in_chans=state["prompt_encoder.mask_downscaling.6.weight"].shape[1],
        )
        decoder = MaskDecoder(
            transformer=TwoWayTransformer(
                depth=2,
                embedding_dim=channels,
                num_heads=HEADS_OF_DECODER,
                mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            ),
            transformer_dim=channels,
            iou_head_hidden_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        )
        model = Sam(encoder, prompt, decoder, PIXEL_MEAN, PIXEL_STD)
        model.load_state_dict(dict(state))
    except (KeyError, IndexError, RuntimeError, AssertionError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SamError(f"{name} holds no weights of SAM ({why}); take {SMALLEST}") from error
    return model.eval().requires_grad_(False)


def _relative(state: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return the tables of relative places of all blocks: as wide as a head, twice as long as a window less one."""
    depth = sum(name.endswith("attn.rel_pos_h") for name in state)
    return [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"] for i in range(depth)]
