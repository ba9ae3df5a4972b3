"""Pictures that compare methods: cases from easy to hard, whatever a method makes of them, and the errors of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runs.records import CaseFacts
from .lesions import Components, millilitres
from .pictured_slices import Decisions, Pictured, most_lesion

STEPS = 5
MOST_ERRORS = 3
SERIES, MISSED, GAP, DENSE = "series", "missed", "gap", "dense"
SPACING_TOLERANCE_MM = 0.01


def from_easy_to_hard(facts: Mapping[str, CaseFacts]) -> list[str]:
    """Return the cases with a lesion, easy ones first: by the sum of their ranks in lesion volume and contrast.

    Contrast is that of all lesions in units of the noise of the organ. The order knows no method's result, so that
    every method shows the same cases.
    """
    lesioned = {case: f for case, f in facts.items() if f.lesion_ml and f.contrast_hu is not None}

    def ranks(values: Mapping[str, float]) -> dict[str, int]:
        return {case: rank for rank, case in enumerate(sorted(values, key=lambda c: (-values[c], c)))}

    by_volume = ranks({case: f.lesion_ml or 0.0 for case, f in lesioned.items()})
    by_contrast = ranks({c: abs(f.contrast_hu or 0.0) / max(f.noise_hu or 0.0, 1e-6) for c, f in lesioned.items()})
    return sorted(lesioned, key=lambda case: (by_volume[case] + by_contrast[case], case))


def series(decisions: Decisions, facts: Mapping[str, CaseFacts]) -> list[Pictured]:
    """Return up to five cases spread evenly from easy to hard, each by the slice with most lesion."""
    reader, order = decisions.reader, from_easy_to_hard(facts)
    places = np.unique(np.rint(np.linspace(0, len(order) - 1, STEPS)).astype(int)) if order else []
    numbers = {case.id: i for i, case in enumerate(reader.cases)}
    chosen = [(k, numbers[order[place]], facts[order[place]]) for k, place in enumerate(places, 1)]
    return [
        Pictured(f"{SERIES}-{k}", i, most_lesion(reader, i), decisions, _of_lesions(of_case))
        for k, i, of_case in chosen
        if i in decisions
    ]


def _of_lesions(facts: CaseFacts) -> dict[str, Any]:
    return {"lesion_ml": facts.lesion_ml, "contrast_hu": facts.contrast_hu, "noise_hu": facts.noise_hu}


@dataclass(frozen=True)
class _Error:
    """A connected part of a case that was missed or marked in error."""

    ml: float
    case: int
    z: int
    hu: float
    slices: int
    slice_mm: float


def errors(
    decisions: Decisions, dim_below: float | None = None, trained_slice_mm: float | None = None
) -> tuple[list[Pictured], dict[str, Any]]:
    """Return the largest missed parts and the largest false ones of two kinds, one of a case each, and their sums.

    These are candidates for the three kinds of failure of Yao et al. 2021, Fig. 8. A false part is of the kind ``GAP``
    in a scan whose slices lie further apart than ``trained_slice_mm``, those of any scan that was trained on; in all
    others it is ``DENSE``, where a reader may find other pathology such as fibrosis. Where there is a HU value below
    which a lesion is dim, the summary says which share of the missed lesion voxels is dim, and which share of the dim
    ones was missed.
    """
    found: dict[str, list[_Error]] = {MISSED: [], GAP: [], DENSE: []}
    voxels: dict[str, int] = dict.fromkeys(("lesion", "dim", "missed", "missed_dim"), 0)
    volume = dict.fromkeys(found, 0.0)
    widest = np.inf if trained_slice_mm is None else trained_slice_mm + SPACING_TOLERANCE_MM
    for i, case in enumerate(decisions.reader.cases):
        if i not in decisions:
            continue
        cropped, mask = decisions.reader.read(i), decisions.mask(i)
        assert cropped.lesion is not None
        image = case.image()[cropped.box]
        false = GAP if cropped.spacing[0] > widest else DENSE
        for kind, wrong in ((MISSED, cropped.lesion & ~mask), (false, mask & ~cropped.lesion)):
            volume[kind] += millilitres(int(np.count_nonzero(wrong)), cropped.spacing)
            if (largest := _largest(wrong, image, i, cropped.spacing)) is not None:
                found[kind].append(largest)
        if dim_below is not None:
            dim, missed = image < dim_below, cropped.lesion & ~mask
            for name, part in (("lesion", cropped.lesion), ("missed", missed)):
                voxels[name] += int(np.count_nonzero(part))
            voxels["dim"] += int(np.count_nonzero(cropped.lesion & dim))
            voxels["missed_dim"] += int(np.count_nonzero(missed & dim))
    pictures = [
        Pictured(f"{kind}-{k}", error.case, error.z, decisions, _of_error(error))
        for kind, all_ in found.items()
        for k, error in enumerate(sorted(all_, key=lambda e: (-e.ml, e.case))[:MOST_ERRORS], 1)
    ]
    summary: dict[str, Any] = {"missed_ml": volume[MISSED], "false_ml": volume[GAP] + volume[DENSE]}
    if trained_slice_mm is not None:
        summary |= {"trained_slice_mm": trained_slice_mm, "gap_ml": volume[GAP]}
    if dim_below is not None:
        summary |= {
            "dim_below_hu": dim_below,
            "dim_share_of_lesion": _share(voxels["dim"], voxels["lesion"]),
            "dim_share_of_missed": _share(voxels["missed_dim"], voxels["missed"]),
            "missed_share_of_dim": _share(voxels["missed_dim"], voxels["dim"]),
            "missed_share_of_bright": _share(voxels["missed"] - voxels["missed_dim"], voxels["lesion"] - voxels["dim"]),
        }
    return pictures, summary


def _largest(wrong: np.ndarray, image: np.ndarray, case: int, spacing: tuple[float, float, float]) -> _Error | None:
    parts = Components.of(wrong)
    if not len(parts):
        return None
    number = int(parts.sizes.argmax())
    voxels = parts.voxels[parts.owners == number]
    per_slice = np.bincount(voxels[:, 0])
    return _Error(
        ml=millilitres(len(voxels), spacing),
        case=case,
        z=int(per_slice.argmax()),
        hu=float(image[tuple(voxels.T)].mean(dtype=np.float64)),
        slices=int(np.count_nonzero(per_slice)),
        slice_mm=spacing[0],
    )


def _of_error(error: _Error) -> dict[str, Any]:
    return {"ml": error.ml, "hu": error.hu, "slices": error.slices, "slice_mm": error.slice_mm}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
