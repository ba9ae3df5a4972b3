"""The pictures of a cell: the best, the median and the worst patient, the slice with most lesion of each."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...common.atomic import write_file
from ..runs.records import Threshold
from .cases import CaseReader


def choose(dice: Mapping[int, float]) -> dict[str, int]:
    """Return the case numbers of the best, median and worst Dice (fewer names where there are fewer cases)."""
    ranked = sorted(dice, key=lambda i: (-dice[i], i))
    if not ranked:
        return {}
    named = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    return {name: i for k, (name, i) in enumerate(named.items()) if i not in list(named.values())[:k]}


def write_gallery(
    path: Path,
    reader: CaseReader,
    dice: Mapping[int, float],
    thresholds: Mapping[str, Threshold],
    window: tuple[float, float],
) -> None:
    """Write ``gallery.npz``.

    For each of best, median and worst it holds ``<name>/image`` (uint8, windowed), ``<name>/roi``, ``<name>/truth``,
    ``<name>/prediction`` (bool) and ``<name>/map`` (float32, 0 outside the ROI), all (y, x); ``meta`` is JSON text:
    name → case, patient, z, dice, protocol, threshold. ``dice`` goes by case number, ``thresholds`` by patient; the
    window says which HU are black and white.
    """
    arrays: dict[str, np.ndarray] = {}
    meta = {}
    for name, i in choose(dice).items():
        cropped, case = reader.read(i), reader.cases[i]
        threshold = thresholds[case.patient]
        assert cropped.lesion is not None
        z = int(cropped.lesion.sum(axis=(1, 2)).argmax())
        image = case.image()[cropped.box[0].start + z]
        low, high = window
        grey = np.clip((np.asarray(image, np.float32) - low) / (high - low), 0, 1)
        arrays[f"{name}/image"] = np.rint(grey * 255).astype(np.uint8)
        crops = {"roi": cropped.roi[z], "truth": cropped.lesion[z], "prediction": cropped.binarise(threshold)[z]}
        crops["map"] = np.where(cropped.roi[z], cropped.map[z], np.float32(0))
        for part, crop in crops.items():
            placed = arrays[f"{name}/{part}"] = np.zeros(image.shape, crop.dtype)
            placed[cropped.box[1:]] = crop
        where = {"case": case.id, "patient": case.patient, "z": cropped.box[0].start + z, "dice": dice[i]}
        meta[name] = where | {"protocol": threshold.protocol, "threshold": threshold.threshold}
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_file(path, buffer.getvalue())
