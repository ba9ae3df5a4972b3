"""Who is compared with whom: cases left out, scans that share slices, and patients in two sets."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import DataError, did_you_mean
from .reading.tables import CaseKey, natural_key

MIN_SHARED_SLICES = 3
Find = Callable[[CaseKey], CaseKey]


def parse_excludes(texts: Iterable[str]) -> dict[str, set[str]]:
    """Turn ``SET:ID`` texts into the ids to leave out of each set."""
    excludes: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        dataset, colon, case = text.strip().partition(":")
        if not (dataset and colon and case):
            raise DataError(f"--exclude {text!r}: expected SET:ID, for example lits:volume-32")
        excludes[dataset].add(case)
    return dict(excludes)


def apply_excludes(dataset: str, cases: Sequence[str], excludes: Mapping[str, Collection[str]]) -> list[str]:
    """Return the cases that stay, in their order; an unknown id or an empty rest is refused."""
    wanted = excludes.get(dataset, ())
    for case in sorted(set(wanted) - set(cases)):
        raise DataError(f"--exclude {dataset}:{case}: set {dataset!r} has no such case{did_you_mean(case, cases)}")
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
