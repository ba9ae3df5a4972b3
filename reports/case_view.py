"""One slice of a case as several methods of a run see it, drawn from what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..benchmark.commands.arrays import Arrays, NotInRunError, RunCase, pick
from ..benchmark.runs.records import Record
from ..datasets.anatomy import find_anatomy
from .figures.panels import Slice
from .figures.side_by_side import methods_figure, middle_slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(
    arrays: Arrays,
    records: Sequence[Record],
    case: str,
    methods: str | Iterable[str] | None = None,
    *,
    protocol: str,
    seed: int | None = None,
    z: int | None = None,
    dataset: str | None = None,
) -> Figure:
    """Draw the slice ``z``, by default the one with most lesion; a method without a mask has none, and a word of it.

    Raises:
        NotInRunError: no such case, method, seed or slice, or no method has a mask under the protocol.
        DataError: the scan is not at hand.
    """
    first = pick(records, case=case, dataset=dataset)
    names = methods.split(",") if isinstance(methods, str) else methods
    if names is None:
        own = (r for r in records if r.cell.dataset == first.cell.dataset and case in r.data.cases)
        names = dict.fromkeys(r.cell.method for r in own if seed in (None, r.cell.seed))
    chosen = [pick(records, method=name.strip(), case=case, seed=seed, dataset=first.cell.dataset) for name in names]
    opened = arrays.case(first, case)
    if z is None:
        z = middle_slice(opened.roi, opened.truth, opened.slice_labels)
    if not 0 <= z < len(opened.image):
        raise NotInRunError(f"z={z}: case {case} has slices 0 to {len(opened.image) - 1}")
    rows = dict(_row(arrays, record, opened, protocol, z) for record in chosen)
    return methods_figure(f"{first.cell.dataset} {case}, slice {z}, protocol {protocol}", rows)


def _row(arrays: Arrays, record: Record, case: RunCase, protocol: str, z: int) -> tuple[str, Slice]:
    low, high = find_anatomy(record.data.anatomy).window
    grey = np.clip((case.image[z] - low) / (high - low), 0, 1)
    measured, mask = arrays.measured(record, case.id), arrays.prediction(record, case.id, protocol)
    counted = measured.roi()[z]
    empty = np.zeros_like(counted)
    one = Slice(
        image=np.rint(255 * grey).astype(np.uint8),
        roi=case.roi[z],
        truth=empty if case.truth is None else case.truth[z] & counted,
        map=np.where(counted, measured.native_map()[z], np.float32(0)),
        prediction=empty if isinstance(mask, str) else mask[z],
        meta={"case": case.id, "patient": case.patient},
    )
    return f"{record.cell.method}\nseed {record.cell.seed}\n{_said(record, case.id, protocol, mask)}", one


def _said(record: Record, case: str, protocol: str, mask: np.ndarray | str) -> str:
    if isinstance(mask, str):
        return "no mask"
    rows = (r for r in record.per_case if (r.case, r.protocol, r.metric) == (case, protocol, "dice"))
    value = next((row.value for row in rows), None)
    return "Dice n/a" if value is None else f"Dice {100 * value:.1f} %"
