"""Tables that lie beside the scans: whose each case is (``patients.csv``), and which are left out (``exclude.csv``)."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...common.errors import DataError, brief, did_you_mean, shortened

_MOST_DIGITS = 18
_LONGEST_FIELD = 200
_MOST_ROWS, _MOST_COLUMNS = 100_000, 100  # a sheet may claim a million of empty ones
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

CaseKey = tuple[str, str]
"""Name of the set, id of the case."""


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key that orders ``volume-2`` before ``volume-10``."""
    parts = (part for part in re.split(r"(\d+)", text) if part)
    return [(0, int(part)) if is_number(part) else (1, part) for part in parts]


def is_number(text: str) -> bool:
    """Whether a text is a whole number in digits: not ``²``, a digit that ``int`` refuses, and not of 19 or more.

    >>> is_number("12"), is_number("²"), is_number("9" * 5000)
    (True, False, False)
    """
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def patients_of(root: Path, dataset: str, cases: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the patient of each case by ``patients.csv`` (columns set, case, patient) of the data root, and warnings.

    A case that the table does not name is a patient of its own; a warning tells of rows without a case.
    """
    path = root / "patients.csv"
    cases = list(cases)
    patients: dict[CaseKey, str] = {}
    for line, row in read_table(path, ("set", "case", "patient")) if path.is_file() else ():
        key = row["set"], row["case"]
        if patients.setdefault(key, row["patient"]) != row["patient"]:
            raise DataError(
                f"{path}, line {line}: case {row['case']!r} of set {row['set']!r} is given to two patients, "
                f"{patients[key]!r} and {row['patient']!r}; keep one row"
            )
    rows = {case: patient for (name, case), patient in patients.items() if name == dataset}
    warnings = [
        f"{path}: case {case!r} of set {dataset!r} is not among the cases found{did_you_mean(case, cases)}"
        for case in sorted(set(rows) - set(cases), key=natural_key)
    ]
    return {case: rows.get(case, case) for case in cases}, warnings


def left_out_of(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the cases that ``exclude.csv`` (columns set, case, reason) of the data root leaves out, with the reasons.

    ``names`` are those under which the scans are known: the set's own, and that of the set whose scans it shows again.
    """
    path, names = root / "exclude.csv", set(names)
    rows = read_table(path, ("set", "case", "reason")) if path.is_file() else []
    return {row["case"]: row["reason"] for _, row in rows if row["set"] in names}


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read the named columns of a CSV file, or of the first sheet of an ``.xlsx``, with line numbers, no blank lines.

    Raises:
        DataError: no such column, an empty field, one of more than 200 or of control characters, or no such table.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    lines = _sheet_lines(path) if path.suffix.lower() == ".xlsx" else _csv_lines(path)
    _, names = next(lines, (0, []))
    if missing := [c for c in columns if c not in names]:
        found = shortened(", ".join(names), 120) or "nothing"
        raise DataError(
            f"{path}: no column {', '.join(missing)} (found: {found}); the first line must be {','.join(columns)}"
        )
    for line, values in lines:
        row = dict(zip(names, values, strict=False))
        if not any(row.values()):
            continue
        if empty := [c for c in columns if not row.get(c)]:
            raise DataError(f"{path}, line {line}: empty field {', '.join(empty)}; fill it in")
        if odd := [c for c in columns if len(row[c]) > _LONGEST_FIELD or _CONTROL.search(row[c])]:
            raise DataError(
                f"{path}, line {line}: {odd[0]} has control characters or more than "
                f"{_LONGEST_FIELD}: {shortened(row[odd[0]], 40)!r}; check the quotes and commas"
            )
        rows.append((line, {c: row[c] for c in columns}))
    return rows


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for values in reader:
                yield reader.line_num, [value.strip() for value in values]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as CSV ({brief(error, 120)}); save it as UTF-8 text with commas"
        ) from error


def _sheet_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        lines = [
            ["" if value is None else str(value).strip() for value in row]
            for row in sheet.iter_rows(values_only=True, max_row=_MOST_ROWS, max_col=_MOST_COLUMNS)
        ]
        book.close()
    except Exception as error:  # each damage of the archive has an exception of its own
        raise DataError(
            f"{path}: cannot be read as a workbook ({brief(error, 120)}); save it again, or as CSV"
        ) from error
    yield from enumerate(lines, start=1)
