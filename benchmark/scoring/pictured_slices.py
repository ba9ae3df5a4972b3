"""The pictures of a cell: slices of chosen cases, with map, truth, prediction and what the method made of the scan."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...common.atomic import write_file
from ..runs.records import Threshold
from .cases import CaseReader


@dataclass(frozen=True, eq=False)
class Decisions:
    """The masks that a protocol makes of the cases of a cell; ``own`` ones are the method's own masks.

    ``thresholds`` goes by patient.
    """

    reader: CaseReader
    thresholds: Mapping[str, Threshold]
    own: bool = False

    def __contains__(self, case: int) -> bool:
        """Whether there is a mask of a case: its patient may have no threshold."""
        return self.own or self.thresholds[self.reader.cases[case].patient].threshold is not None

    def mask(self, case: int) -> np.ndarray:
        """Return the mask inside the region of interest, bool, cropped like the case."""
        cropped = self.reader.read(case)
        if self.own and (mask := self.reader.cases[case].native_mask()) is not None:
            return mask[cropped.box] & cropped.roi
        return cropped.binarise(self.thresholds[self.reader.cases[case].patient])

    def about(self, case: int) -> dict[str, Any]:
        threshold = self.thresholds[self.reader.cases[case].patient]
        return {"protocol": threshold.protocol, "threshold": None if self.own else threshold.threshold}


@dataclass(frozen=True, eq=False)
class Pictured:
    """A slice that is shown: a case, a slice of its crop, whose masks, and what else a reader is told."""

    name: str
    case: int
    z: int
    decisions: Decisions
    told: Mapping[str, Any] = field(default_factory=dict)


def choose(dice: Mapping[int, float]) -> dict[str, int]:
    """Return the case numbers of the best, median and worst Dice (fewer names where there are fewer cases)."""
    ranked = sorted(dice, key=lambda i: (-dice[i], i))
    if not ranked:
        return {}
    named = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    return {name: i for k, (name, i) in enumerate(named.items()) if i not in list(named.values())[:k]}


def extremes(decisions: Decisions, dice: Mapping[int, float]) -> list[Pictured]:
    """Return the slices with most lesion of the best, the median and the worst patient; ``dice`` goes by case."""
    chosen = choose(dice).items()
    return [Pictured(name, i, most_lesion(decisions.reader, i), decisions, {"dice": dice[i]}) for name, i in chosen]


def most_lesion(reader: CaseReader, case: int) -> int:
    """Return the slice with most lesion, counted in the crop of the case."""
    lesion = reader.read(case).lesion
    assert lesion is not None
    return int(lesion.sum(axis=(1, 2)).argmax())


def write_gallery(
    path: Path, reader: CaseReader, shown: Sequence[Pictured], window: tuple[float, float], **about: Any
) -> None:
    """Write ``gallery.npz``.

    For each picture it holds ``<name>/image`` (uint8, windowed), ``<name>/roi``, ``<name>/truth``,
    ``<name>/prediction`` (bool), ``<name>/map`` (float32, 0 outside the ROI) and ``<name>/restored/<number>`` (float32)
    of what the method made of the scan, all (y, x). ``meta`` is JSON text: name → case, patient, z, protocol,
    threshold, titles of what is restored and what the picture tells; beside the names what ``about`` says of the cell.
    The window says which HU are black and white.
    """
    arrays: dict[str, np.ndarray] = {}
    meta: dict[str, Any] = dict(about)
    low, high = window
    for one in shown:
        cropped, case = reader.read(one.case), reader.cases[one.case]
        assert cropped.lesion is not None
        z = cropped.box[0].start + one.z
        image = case.image()[z]
        grey = np.clip((np.asarray(image, np.float32) - low) / (high - low), 0, 1)
        arrays[f"{one.name}/image"] = np.rint(grey * 255).astype(np.uint8)
        mask = one.decisions.mask(one.case)
        crops = {"roi": cropped.roi[one.z], "truth": cropped.lesion[one.z], "prediction": mask[one.z]}
        crops["map"] = np.where(cropped.roi[one.z], cropped.map[one.z], np.float32(0))
        for part, crop in crops.items():
            placed = arrays[f"{one.name}/{part}"] = np.zeros(image.shape, crop.dtype)
            placed[cropped.box[1:]] = crop
        titles = []
        for title, volume in case.restored():
            arrays[f"{one.name}/restored/{len(titles)}"] = volume[z]
            titles.append(title)
        where = {"case": case.id, "patient": case.patient, "z": z, "restored": titles}
        meta[one.name] = where | one.decisions.about(one.case) | dict(one.told)
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_file(path, buffer.getvalue())
