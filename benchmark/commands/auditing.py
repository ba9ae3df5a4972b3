"""``bench data audit``: is a set what it says, and is nobody in it, or in another set beside it, twice."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...common.errors import DataError, several
from ...datasets.audit.known import Told, told_of
from ...datasets.audit.twins import Signature, Twins, find_twins, sign
from ...datasets.dataset import CaseRef, Dataset
from ...datasets.looking import look
from ...datasets.patients import same_person
from ...datasets.readers import Lost, Readers
from ...datasets.reading.listening import loaded
from ...datasets.reading.side_tables import CaseKey, left_out_of

_NAMED = 6
_ADVICE = {"remark": "known", "keep": "strictest choice", "twin": "twins elsewhere"}


@dataclass(frozen=True)
class Audit:
    """What is known of a set, and which of its scans show a body that another name has as well.

    Attributes:
        name, title: of the set.
        cases: how many were compared, with those of ``beside``, the other sets of the data root.
        told: published findings.
        left_out: cases that exclude.csv leaves out, with the reasons.
        twins: pairs with a case of the set; those of one patient by the sets' own tables are left away.
        unread: cases of any set that could not be read, with the errors.
    """

    name: str
    title: str
    cases: int
    beside: dict[str, int]
    told: list[Told]
    left_out: dict[str, str]
    twins: list[Twins] = field(default_factory=list)
    unread: dict[CaseKey, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return everything as lines for a terminal."""
        beside = ", ".join(f"{count} of {name}" for name, count in self.beside.items()) or "no other set"
        lines = [f"{self.name}: {self.title}", f"{self.cases} scans, compared with each other and with {beside}"]
        for title, rows in (
            ("Published", self._published()),
            ("Left out by exclude.csv", [f"{case}: {reason}" for case, reason in self.left_out.items()]),
            ("One body under two names", list(self._pairs())),
            ("Not compared", [f"{_named(key)}: {error}" for key, error in self.unread.items()]),
        ):
            lines += ["", title, *(f"  {row}" for row in rows)] if rows else []
        if not self.twins:
            lines += ["", "No body was found under two names."]
        return "\n".join(lines)

    def _published(self) -> list[str]:
        rows = []
        for told in self.told:
            found = told.finding
            concerned = f" [{several(told.cases, _NAMED)}]" if found.cases and told.cases else ""
            rows.append(f"{_ADVICE[found.advice]}: {found.text}{concerned} ({found.source})")
            if found.advice == "keep" and told.cases:
                rows.append("  " + " ".join(f"--only {self.name}:{case}" for case in told.cases))
        return rows

    def _pairs(self) -> Iterator[str]:
        for pair in self.twins:
            yield f"{_named(pair.a)} and {_named(pair.b)}: {pair.why}"
        if self.twins:
            yield "rows of patients.csv (set,case,patient) with one name make them one patient:"
            for pair in self.twins:
                person = f"{pair.a[0]}-{pair.a[1]}"
                yield from (f"  {name},{case},{person}" for name, case in (pair.a, pair.b))


def audit(root: Path, names: list[str], adapters: Mapping[str, Dataset], readers: Readers) -> list[Audit]:
    """Read every scan of the data root and compare those of the named sets with all.

    ``adapters`` are those that read files of their own.

    Raises:
        DataError: a named set is not there, or shows the scans of another set, which is the one to audit.
    """
    for name in names:
        if name not in adapters:
            raise DataError(f"{name} has no files of its own; audit one of {', '.join(adapters)}")
    signatures: dict[CaseKey, Signature] = {}
    patients: dict[CaseKey, str] = {}
    unread: dict[CaseKey, str] = {}
    present: dict[str, list[str]] = {}
    for name, adapter in adapters.items():
        found = look(adapter, root, readers)
        if found.absent:
            continue
        present[name] = [ref.id for ref in found.refs]
        patients |= {(name, ref.id): ref.patient for ref in found.refs}
        if found.problems:
            unread[name, "-"] = "; ".join(found.problems)
        for ref, outcome in readers.work(partial(_signed, found.dataset), found.refs):
            if isinstance(outcome, Signature):
                signatures[name, ref.id] = outcome
            else:
                unread[name, ref.id] = outcome.reason if isinstance(outcome, Lost) else outcome
    for name in names:
        if name not in present:
            raise DataError(f"{root}: nothing of {name} is there; its layout is {adapters[name].card.layout}")
    pairs = [
        pair for pair in find_twins(signatures) if not same_person(pair.a, patients[pair.a], pair.b, patients[pair.b])
    ]
    return [
        Audit(
            name=name,
            title=adapters[name].card.title,
            cases=len(present[name]),
            beside={other: len(cases) for other, cases in present.items() if other != name},
            told=told_of(name, present[name]),
            left_out=left_out_of(root, [name]),
            twins=[pair for pair in pairs if name in (pair.a[0], pair.b[0])],
            unread=unread,
        )
        for name in names
    ]


def _signed(dataset: Dataset, ref: CaseRef) -> Signature | str:
    try:
        return sign(loaded(dataset, ref.id))
    except (Exception, SystemExit) as error:
        return str(error)


def _named(key: CaseKey) -> str:
    return ":".join(key)
