"""Labels of whole slices: ``slice_labels.csv``, and the published arrays of COVID-CT-MD."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from ...common.errors import DataError, brief
from .side_tables import is_number, read_table

COLUMNS = ("case", "slice_index", "label")


@dataclass(frozen=True, eq=False)
class SliceLabels:
    """Labels of the slices of many cases.

    Attributes:
        cases: label (True: a lesion is seen) by slice index, by case.
        from_head: whether index 0 is the slice nearest to the head; otherwise the first slice as stored.
        padded: whether rows go on with False behind the last slice.
    """

    paths: tuple[Path, ...]
    cases: Mapping[str, Mapping[int, bool]]
    from_head: bool = False
    padded: bool = False

    def of(self, case: str, count: int) -> np.ndarray:
        """Return the labels of ``case``, bool, shape (count,), in the order of the indices; every slice needs one."""
        known = self.cases.get(case)
        if known is None:
            raise DataError(f"{self.paths[0]}: no labels of {case}; add one row per slice")
        beyond = [index for index, label in known.items() if index >= count and (label or not self.padded)]
        if beyond:
            raise DataError(
                f"{self.paths[0]}: {case} has {count} slices, but slice {max(beyond)} is labelled "
                f"({len(beyond)} labels outside the scan); pair the labels with their own scan, slices counted from 0"
            )
        missing = [index for index in range(count) if index not in known]
        if missing:
            raise DataError(
                f"{self.paths[0]}: {case} has {count} slices, {len(missing)} of them without a label (first: slice "
                f"{missing[0]}); add the rows, 0 where nothing was seen"
            )
        return np.array([known[index] for index in range(count)], dtype=bool)


def read_slice_labels(path: Path) -> SliceLabels:
    """Read a table with columns case, slice_index (a whole number from 0 on), label (0 or 1)."""
    cases: dict[str, dict[int, bool]] = defaultdict(dict)
    for line, row in read_table(path, COLUMNS):
        if row["label"] not in ("0", "1"):
            raise DataError(
                f"{path}, line {line}: label {row['label']!r} of {row['case']}; expected 0 (nothing seen) or 1 (lesion)"
            )
        if not is_number(row["slice_index"]):
            raise DataError(
                f"{path}, line {line}: slice_index {row['slice_index'][:40]!r} of {row['case']}; "
                "expected a whole number, counted from 0"
            )
        index, label = int(row["slice_index"]), row["label"] == "1"
        if cases[row["case"]].setdefault(index, label) != label:
            raise DataError(f"{path}, line {line}: slice {index} of {row['case']} has both labels; keep one row")
    if not cases:
        raise DataError(f"{path}: no labels; add one row per slice ({','.join(COLUMNS)})")
    return SliceLabels((path,), dict(cases))


def read_published(index: Path, array: Path) -> SliceLabels:
    """Read ``Slice-level-labels*.npy`` (cases, slices from the head) with the names of ``Index.csv``.

    Afshar et al. 2021 publish 79 rows for the labels 0 to 79: label 43 is in neither file, so the rows of the two files
    correspond in order, and a label index behind the gap is not the row of the array.
    """
    rows = read_table(index, ("Label Index", "Folder/ID"))
    try:
        labels = np.load(array, allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, TokenError, MemoryError) as error:
        raise DataError(f"{array}: cannot be read as an array ({brief(error)}); download it again") from error
    if labels.dtype.kind not in "biuf":
        raise DataError(
            f"{array}: holds no numbers (kind {labels.dtype.kind}), expected 0 and 1; use the published file"
        )
    if labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"{array}: shape {labels.shape}, values {labels.min(initial=0):g} to {labels.max(initial=0):g}; expected "
            "one row of 0 and 1 per case; use the published file"
        )
    numbers = [row["Label Index"] for _, row in rows]
    if len(rows) != len(labels) and numbers != [str(n) for n in range(len(rows))]:
        raise DataError(
            f"{array}: {len(labels)} rows, but {index.name} names {len(rows)} cases with gaps; "
            "use the two files of one release"
        )
    if len(rows) > len(labels):
        raise DataError(f"{array}: {len(labels)} rows for {len(rows)} cases of {index.name}; use one release of both")
    cases = {
        row["Folder/ID"]: dict(enumerate(values.astype(bool).tolist()))
        for (_, row), values in zip(rows, labels[: len(rows)], strict=True)
    }
    return SliceLabels((array, index), cases, from_head=True, padded=True)
