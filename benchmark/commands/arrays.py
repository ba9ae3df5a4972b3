"""The arrays of a run in the user's hands: scans, truths, maps and predictions, as they were measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from pydantic import ValidationError

from ...common.errors import DataError, UasbenchError, did_you_mean
from ...datasets.case import Spacing
from ...datasets.readers import Readers
from ...datasets.reading.placing import place_of
from ...datasets.storing.entries import SEAL
from ...datasets.storing.prepared import PreparedCase, TruthRef, load_truth
from ..planning.again import Source, key_of, options_again
from ..planning.scans import Scans
from ..planning.tasks import scan_alone
from ..protocols.catalogue import PROTOCOLS
from ..protocols.masks import predicted_masks
from ..runs.folder import RunFolder, RunFolderError
from ..runs.map_store import read_map
from ..runs.records import Record
from ..scoring.cases import MeasureCase
from ..stages.map import finished
from ..stages.measure import MeasureTask


class NotInRunError(UasbenchError):
    """The run has no such method, case, seed or protocol."""


@dataclass(frozen=True, eq=False)
class RunCase:
    """A test case of a run.

    Attributes:
        image: float32, shape (z, y, x), Hounsfield units; z from feet to head, y from front to back, x to the left.
        roi: bool, same shape, the region of interest.
        truth: bool, same shape, the lesions, or None in a set with slice labels only.
        slice_labels: bool, shape (z,): which slices show a lesion.
        spacing: voxel size in mm, order z, y, x.
    """

    dataset: str
    id: str
    patient: str
    image: np.ndarray
    roi: np.ndarray
    truth: np.ndarray | None
    slice_labels: np.ndarray | None
    spacing: Spacing
    _place: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    @cached_property
    def affine(self) -> np.ndarray:
        """Float64 (4, 4), from indices (z, y, x) to RAS millimetres, as the header of the scan says it.

        It is read from the file of the scan, unlike all else, which the cache keeps.

        Raises:
            DataError: the data root is not there, or the file is not the one that was prepared.
        """
        return self._place(self.image)

    def __repr__(self) -> str:
        lesion = "slice labels" if self.truth is None else f"{np.count_nonzero(self.truth)} lesion voxels"
        sides, mm = (" × ".join(f"{side:g}" for side in sides) for sides in (self.image.shape, self.spacing))
        return f"RunCase({self.dataset} {self.id}: {sides} voxels of {mm} mm, {lesion})"


def pick(
    records: Sequence[Record],
    *,
    method: str | None = None,
    case: str | None = None,
    seed: int | None = None,
    dataset: str | None = None,
) -> Record:
    """Return the first record with all that is named: the one of the lowest seed.

    Raises:
        NotInRunError: there is none, or cases of several sets have that name.
    """
    found = list(records)
    asked = {"dataset": dataset, "method": method, "case": case, "seed": seed}
    for name, wanted in asked.items():
        known = dict.fromkeys(value for record in found for value in _values(record, name))
        if wanted is not None and wanted not in known:
            raise NotInRunError(_unknown(name, wanted, known))
        found = [record for record in found if wanted is None or wanted in _values(record, name)]
    if not found:
        raise NotInRunError("the run has no finished cell")
    if len(sets := dict.fromkeys(record.cell.dataset for record in found)) > 1 and case is not None:
        raise NotInRunError(f"case {case!r} is one of {' and of '.join(sets)}; say which: dataset={next(iter(sets))!r}")
    return found[0]


def _values(record: Record, name: str) -> Iterable[str | int]:
    return record.data.cases if name == "case" else [getattr(record.cell, name)]


def _unknown(what: str, wanted: str | int, known: Iterable[str | int]) -> str:
    names = [str(name) for name in known]
    listed = f"{', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
    return f"no {what} {wanted!r} in this run{did_you_mean(str(wanted), names) or '.'} It has: {listed}"


class Arrays:
    """Reads what the cells of a run were measured from and what they made.

    Scans and truths come from the prepared data of the run's cache; where these are gone, one case is prepared again
    from its files. What is read is compared with the fingerprints of the record.
    """

    def __init__(self, folder: RunFolder, source: Source | None = None) -> None:
        self.folder = folder
        self.source = source or Source()

    def case(self, record: Record, case: str) -> RunCase:
        """Open a test case of a record with its truth.

        Raises:
            DataError: it is neither in the cache nor in the data root, or is another scan than the one mapped.
        """
        scan, ref = self._scan(record, case)
        opened, truth = scan.case(), load_truth(ref)

        def place(image: np.ndarray) -> np.ndarray:
            (file,) = self._from_files(record, case).refs
            return place_of(file, image).affine(image.shape)

        image, roi, spacing = opened.image, opened.roi, scan.spacing
        labels = truth.lesion, truth.slice_labels
        return RunCase(record.cell.dataset, case, scan.patient, image, roi, *labels, spacing, place)

    def map(self, record: Record, case: str) -> np.ndarray:
        """Return the map of a case on its own grid, float32 (z, y, x); it needs no data.

        Raises:
            RunFolderError: the run does not keep it.
            MapError: its file is damaged.
        """
        return read_map(self._maps(record) / f"{case}.map").native()

    def prediction(self, record: Record, case: str, protocol: str) -> np.ndarray | str:
        """Return the mask of a case that was measured under a protocol, bool (z, y, x), or why there is none.

        Raises:
            NotInRunError: the record has no such protocol, or not on the grid of the scan.
            DataError: as :meth:`case`.
            RunFolderError: as :meth:`map`.
        """
        chosen = [t for t in record.thresholds if t.protocol == protocol]
        if not chosen:
            raise NotInRunError(_unknown("protocol", protocol, dict.fromkeys(t.protocol for t in record.thresholds)))
        if protocol in PROTOCOLS and PROTOCOLS[protocol].grid is not None:
            raise NotInRunError(f"{protocol} is measured on a grid of its own and has no mask on that of the scan")
        measured = self.measured(record, case)
        for _, mask in predicted_masks(measured, measured.native_map(), measured.roi(), chosen):
            return mask
        return next((t.reason for t in chosen if measured.patient in t.patients and t.reason), "no threshold")

    def measured(self, record: Record, case: str) -> MeasureCase:
        """Return a case with its map as the scorer opens it.

        Raises:
            DataError: as :meth:`case`.
            RunFolderError: as :meth:`map`.
        """
        maps = self._maps(record)
        scan, truth = self._scan(record, case)
        own = path if (path := maps / f"{case}.mask").exists() else None
        return MeasureCase(scan, maps / f"{case}.map", truth, own, region=record.method.region)

    def _maps(self, record: Record):
        maps = self.folder.map_dir(record.cell)
        if finished(maps) != record.ids.map:
            raise RunFolderError(f"{maps} does not hold the maps of {record.cell.slug}; run the same 'bench run' again")
        return maps

    def _scan(self, record: Record, case: str) -> tuple[PreparedCase, TruthRef]:
        found = self._planned(record, case)
        if found is None:
            scans = self._from_files(record, case)
            found = scans.cases[0], scans.truths[case]
        scan, truth = found
        if (scan.fingerprint, truth.fingerprint) != (record.data.cases[case], record.data.truth[case]):
            raise DataError(f"case {case} of {record.cell.dataset} is not the scan, or has not the labels, of this run")
        return replace(scan, patient=record.data.patients[case]), truth

    def _planned(self, record: Record, case: str) -> tuple[PreparedCase, TruthRef] | None:
        """Return what the plan of the cell points to, None where it or the prepared data are gone."""
        try:
            task = MeasureTask.model_validate_json(self.folder.cell_path(record.cell).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None
        scan = next((one for one in task.cases if one.id == case), None)
        truth = task.truths.get(case)
        if scan is None or truth is None or not all((path / SEAL).exists() for path in (scan.path, truth.path)):
            return None
        return scan, truth

    def _from_files(self, record: Record, case: str) -> Scans:
        options = options_again(self.folder.info(), key_of(record), self.source)
        with Readers(1) as readers:
            scans = scan_alone(options, case, readers)
        if [one.id for one in scans.cases] != [case]:
            raise DataError(f"case {case} of {record.cell.dataset} is not below the data root of this run")
        return scans
