"""Who the patients are: ``patients.csv``, cases left out, scans that share slices, and patients in two sets."""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.errors import DataError

CaseKey = tuple[str, str]
"""Name of the set, id of the case."""

MIN_SHARED_SLICES = 3
Find = Callable[[CaseKey], CaseKey]


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key that orders ``volume-2`` before ``volume-10``."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part]


@dataclass(frozen=True)
class PatientTable:
    """The rows of ``patients.csv``: which patient a case belongs to."""

    patients: Mapping[CaseKey, str]
    path: Path | None = None

    def assign(self, dataset: str, cases: Iterable[str]) -> tuple[dict[str, str], list[str]]:
        """Return the patient of each case (its own id where the table is silent) and warnings about unknown cases."""
        cases = list(cases)
        rows = {case: patient for (name, case), patient in self.patients.items() if name == dataset}
        unknown = sorted(set(rows) - set(cases), key=natural_key)
        warnings = [
            f"{self.path}: case {case!r} of set {dataset!r} is not among the cases found{_hint(case, cases)}"
            for case in unknown
        ]
        return {case: rows.get(case, case) for case in cases}, warnings


def read_patients(root: Path) -> PatientTable:
    """Read ``patients.csv`` (columns set, case, patient) of the data root; without the file the table is empty.

    Raises:
        DataError: missing column, empty field, or two patients for one case.
    """
    path = Path(root) / "patients.csv"
    if not path.is_file():
        return PatientTable({})
    patients: dict[CaseKey, str] = {}
    for line, row in read_table(path, ("set", "case", "patient")):
        key = (row["set"], row["case"])
        if patients.setdefault(key, row["patient"]) != row["patient"]:
            raise DataError(
                f"{path}, line {line}: case {row['case']!r} of set {row['set']!r} is given to two patients, "
                f"{patients[key]!r} and {row['patient']!r}; keep one row"
            )
    return PatientTable(patients, path)


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read the named columns of a CSV file with their line numbers; blank lines are skipped.

    Raises:
        DataError: unreadable file, missing column, or empty field.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [c for c in columns if c not in [str(f).strip() for f in reader.fieldnames or ()]]
            if missing:
                found = ", ".join(map(str, reader.fieldnames or ())) or "nothing"
                raise DataError(
                    f"{path}: no column {', '.join(missing)} (found: {found}); "
                    f"the first line must be {','.join(columns)}"
                )
            for raw in reader:
                row = {str(key).strip(): (value or "").strip() for key, value in raw.items() if isinstance(value, str)}
                if not any(row.values()):
                    continue
                empty = [c for c in columns if not row.get(c)]
                if empty:
                    raise DataError(f"{path}, line {reader.line_num}: empty field {', '.join(empty)}; fill it in")
                rows.append((reader.line_num, {c: row[c] for c in columns}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text with commas") from error
    return rows


def parse_excludes(texts: Iterable[str]) -> dict[str, set[str]]:
    """Turn ``SET:ID`` texts into the ids to leave out of each set.

    Raises:
        DataError: a text without a set or an id.
    """
    excludes: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        dataset, colon, case = text.strip().partition(":")
        if not (dataset and colon and case):
            raise DataError(f"--exclude {text!r}: expected SET:ID, for example lits:volume-32")
        excludes[dataset].add(case)
    return dict(excludes)


def apply_excludes(dataset: str, cases: Sequence[str], excludes: Mapping[str, Collection[str]]) -> list[str]:
    """Return the cases that stay, in their order.

    Raises:
        DataError: an excluded id that the set does not have, or nothing left.
    """
    wanted = excludes.get(dataset, ())
    for case in sorted(set(wanted) - set(cases)):
        raise DataError(f"--exclude {dataset}:{case}: set {dataset!r} has no such case{_hint(case, cases)}")
    kept = [case for case in cases if case not in wanted]
    if not kept:
        raise DataError(f"--exclude leaves no case of set {dataset!r}; leave out fewer")
    return kept


def slice_hashes(image: np.ndarray) -> tuple[str, ...]:
    """Return one hash per axial slice of ``image`` (z, y, x); a constant slice has the empty hash."""
    hashes = []
    for plane in np.asarray(image, dtype=np.float32):
        constant = bool(plane.size == 0 or plane.min() == plane.max())
        data = np.ascontiguousarray(plane)
        text = hashlib.blake2b(data.view(np.uint8).data, digest_size=8, salt=_salt(plane.shape)).hexdigest()
        hashes.append("" if constant else text)
    return tuple(hashes)


def _salt(shape: tuple[int, ...]) -> bytes:
    return b"".join(int(n).to_bytes(4, "little") for n in shape)[:16]


@dataclass(frozen=True)
class Twins:
    """Patients after scans that share slices were joined, and what was joined."""

    patients: dict[CaseKey, str]
    warnings: tuple[str, ...]


def join_twins(hashes: Mapping[CaseKey, Sequence[str]], patients: Mapping[CaseKey, str]) -> Twins:
    """Make cases with common slices one patient, also across sets.

    Two cases are joined when at least three different, non-constant slices agree bit by bit (all of them where a case
    has fewer): CT noise makes one chance agreement of a real slice impossible, while a synthetic or blank page may
    repeat once or twice. A joined patient keeps a name from ``patients.csv`` where there is one, otherwise it is
    called ``set:case`` after its first case.

    Raises:
        DataError: two cases are the same volume slice by slice.
    """
    keys = sorted(patients, key=lambda key: (key[0], natural_key(key[1])))
    _refuse_copies(keys, hashes)
    slices = {key: {text for text in hashes.get(key, ()) if text} for key in keys}
    owners: dict[str, list[CaseKey]] = defaultdict(list)
    for key in keys:
        for text in slices[key]:
            owners[text].append(key)
    shared: dict[tuple[CaseKey, CaseKey], int] = defaultdict(int)
    for group in owners.values():
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                shared[a, b] += 1
    parent = {key: key for key in keys}

    def find(key: CaseKey) -> CaseKey:
        while parent[key] != key:
            key = parent[key]
        return key

    by_patient: dict[CaseKey, CaseKey] = {}
    for key in keys:
        for identity in _identities(key, patients[key]):
            _join(parent, find, keys, key, by_patient.setdefault(identity, key))
    warnings = []
    for (a, b), count in sorted(shared.items(), key=lambda item: (keys.index(item[0][0]), keys.index(item[0][1]))):
        if count < min(MIN_SHARED_SLICES, len(slices[a]), len(slices[b])):
            continue
        if find(a) != find(b):
            warnings.append(
                f"{_name(a)} and {_name(b)} share {count} slices: they count as one patient "
                "(say so in patients.csv to silence this)"
            )
        _join(parent, find, keys, a, b)
    return Twins(_names(keys, patients, find), tuple(warnings))


def overlapping(train: Mapping[CaseKey, str], test: Mapping[CaseKey, str]) -> dict[CaseKey, str]:
    """Return the training cases whose patient is also tested, each with the warning to print.

    A patient who is only named after its case counts within one set; across sets it takes a row in ``patients.csv``
    or common slices (see :func:`join_twins`) to be the same person.
    """
    tested: dict[CaseKey, CaseKey] = {}
    for key, patient in test.items():
        for identity in _identities(key, patient):
            tested.setdefault(identity, key)
    dropped: dict[CaseKey, str] = {}
    for key, patient in train.items():
        twin = next((tested[identity] for identity in _identities(key, patient) if identity in tested), None)
        if twin is not None:
            dropped[key] = f"{_name(key)} is left out of training: patient {patient!r} is tested as {_name(twin)}"
    return dropped


def _identities(key: CaseKey, patient: str) -> tuple[CaseKey, ...]:
    """A name holds inside its set; one that is more than the case id holds everywhere."""
    own = (key[0], patient)
    return (own,) if patient == key[1] else (own, ("", patient))


def _join(parent: dict[CaseKey, CaseKey], find: Find, keys: Sequence[CaseKey], a: CaseKey, b: CaseKey) -> None:
    first, second = sorted((find(a), find(b)), key=keys.index)
    parent[second] = first


def _name(key: CaseKey) -> str:
    return f"{key[0]}:{key[1]}"


def _refuse_copies(keys: Sequence[CaseKey], hashes: Mapping[CaseKey, Sequence[str]]) -> None:
    first: dict[tuple[str, ...], CaseKey] = {}
    for key in keys:
        volume = tuple(hashes.get(key, ()))
        if any(volume) and first.setdefault(volume, key) != key:
            other = first[volume]
            raise DataError(
                f"{_name(other)} and {_name(key)} are the same volume; remove one of them, "
                f"or leave it out with --exclude {_name(key)}"
            )


def _names(keys: Sequence[CaseKey], patients: Mapping[CaseKey, str], find: Find) -> dict[CaseKey, str]:
    groups: dict[CaseKey, list[CaseKey]] = defaultdict(list)
    for key in keys:
        groups[find(key)].append(key)
    named: dict[CaseKey, str] = {}
    for members in groups.values():
        common = set.intersection(*(set(_identities(key, patients[key])) for key in members))
        given = [patients[key] for key in members if patients[key] != key[1]]
        name = patients[members[0]] if common else (given[0] if given else _name(members[0]))
        named.update(dict.fromkeys(members, name))
    return {key: named[key] for key in patients}


def _hint(case: str, cases: Iterable[str]) -> str:
    near = difflib.get_close_matches(case, list(cases), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
