"""Who is compared with whom: cases chosen and left out, scans that share slices, and patients in two sets."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..common.errors import DataError, did_you_mean
from .reading.side_tables import CaseKey, natural_key

MIN_SHARED_SLICES = 3


@dataclass(frozen=True)
class ChosenCases:
    """By set, the cases that a command names with ``--only`` and with ``--exclude``.

    The patients of a phantom are not those of the set whose name it bears: there ``--only`` keeps what it can.
    """

    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    exclude: Mapping[str, Collection[str]] = field(default_factory=dict)
    phantom: bool = False

    @classmethod
    def of(cls, only: Iterable[str] = (), exclude: Iterable[str] = (), *, phantom: bool = False) -> "ChosenCases":
        """Read ``SET:ID`` texts.

        Raises:
            DataError: a text is none.
        """
        return cls(_by_set("--only", only), _by_set("--exclude", exclude), phantom)

    @property
    def sets(self) -> set[str]:
        """The sets of which a case is named."""
        return {*self.only, *self.exclude}

    def of_set(self, dataset: str, cases: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the cases that stay, in their order, and warnings.

        Raises:
            DataError: an id that the set does not have, or nothing stays.
        """
        only, exclude = set(self.only.get(dataset, cases)), set(self.exclude.get(dataset, ()))
        warnings = []
        if self.phantom and (missing := sorted(only - set(cases), key=natural_key)):
            found = only & set(cases)
            use = ", ".join(sorted(found, key=natural_key)) or "all of its cases, and --only is void"
            warnings.append(f"WARNING {dataset}: the phantom has no {', '.join(missing)}; used: {use}")
            only = found or set(cases)
        for option, named in (("--only", only), ("--exclude", exclude)):
            for case in sorted(named - set(cases)):
                raise DataError(
                    f"{option} {dataset}:{case}: set {dataset!r} has no such case{did_you_mean(case, cases)}"
                )
        kept = [case for case in cases if case in only and case not in exclude]
        if not kept:
            raise DataError(f"--exclude leaves no case of set {dataset!r}; leave out fewer")
        return kept, warnings


def _by_set(option: str, texts: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        dataset, colon, case = text.strip().partition(":")
        if not (dataset and colon and case):
            raise DataError(f"{option} {text!r}: expected SET:ID, for example lits:volume-32")
        found[dataset].add(case)
    return dict(found)


def join_twins(
    hashes: Mapping[CaseKey, Sequence[str]], patients: Mapping[CaseKey, str]
) -> tuple[dict[CaseKey, str], list[str]]:
    """Make cases with common slices one patient, also across sets; return the patients, and what was joined.

    Two cases are joined when at least three different, non-constant slices agree bit by bit (all of them where a case
    has fewer): CT noise makes one chance agreement of a real slice impossible, while a synthetic or blank page may
    repeat once or twice. A joined patient keeps a name from ``patients.csv`` where there is one, otherwise it is
    called ``set:case`` after its first case.

    Raises:
        DataError: two cases are the same volume slice by slice, but for those of two sets that are known to be one
            patient's.
    """
    keys = sorted(patients, key=lambda key: (key[0], natural_key(key[1])))
    _refuse_copies(keys, hashes, patients)
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
    group = {key: [key] for key in keys}

    def join(a: CaseKey, b: CaseKey) -> None:
        if b not in group[a]:
            members = sorted([*group[a], *group[b]], key=keys.index)
            group.update((key, members) for key in members)

    by_patient: dict[CaseKey, CaseKey] = {}
    for key in keys:
        for identity in _identities(key, patients[key]):
            join(key, by_patient.setdefault(identity, key))
    warnings = []
    for (a, b), count in sorted(shared.items(), key=lambda item: (keys.index(item[0][0]), keys.index(item[0][1]))):
        if count < min(MIN_SHARED_SLICES, len(slices[a]), len(slices[b])):
            continue
        if b not in group[a]:
            warnings.append(
                f"{_name(a)} and {_name(b)} share {count} slices: they count as one patient "
                "(say so in patients.csv to silence this)"
            )
        join(a, b)
    return {key: _joined_name(group[key], patients) for key in patients}, warnings


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


def same_person(a: CaseKey, patient_a: str, b: CaseKey, patient_b: str) -> bool:
    """Whether the patients that are named for two cases are one."""
    return not set(_identities(a, patient_a)).isdisjoint(_identities(b, patient_b))


def _identities(key: CaseKey, patient: str) -> tuple[CaseKey, ...]:
    """A name holds inside its set; one that is more than the case id holds everywhere."""
    own = (key[0], patient)
    return (own,) if patient == key[1] else (own, ("", patient))


def _name(key: CaseKey) -> str:
    return f"{key[0]}:{key[1]}"


def _refuse_copies(
    keys: Sequence[CaseKey], hashes: Mapping[CaseKey, Sequence[str]], patients: Mapping[CaseKey, str]
) -> None:
    first: dict[tuple[str, ...], CaseKey] = {}
    for key in keys:
        volume = tuple(hashes.get(key, ()))
        if any(volume) and first.setdefault(volume, key) != key:
            other = first[volume]
            if other[0] != key[0] and same_person(key, patients[key], other, patients[other]):
                continue  # sets that are known to share scans, of which the patient is left out on one side
            raise DataError(
                f"{_name(other)} and {_name(key)} are the same volume; remove one of them, "
                f"or leave it out with --exclude {_name(key)}"
            )


def _joined_name(members: Sequence[CaseKey], patients: Mapping[CaseKey, str]) -> str:
    if set.intersection(*(set(_identities(key, patients[key])) for key in members)):
        return patients[members[0]]
    return next((patients[key] for key in members if patients[key] != key[1]), _name(members[0]))
