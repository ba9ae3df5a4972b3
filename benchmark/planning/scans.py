"""Scans of a data root: discovered, prepared, and told apart by patient."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...common.errors import DataError, did_you_mean, several
from ...datasets.dataset import CaseRef, DatasetCard
from ...datasets.looking import Found, look
from ...datasets.patients import CaseKey, ChosenCases, join_twins, overlapping
from ...datasets.readers import Readers
from ...datasets.reading.side_tables import left_out_of
from ...datasets.storing.prepared import PreparedCase, ShowProgress, TruthRef
from ...datasets.storing.store import Store
from ...datasets.views.volume_view import AnyView
from ..catalogue.registry import Registry

NAMED = 3


@dataclass(frozen=True)
class Scans:
    """Prepared cases of a set, their truths by case id, their files, and remarks on the set and on its cases.

    ``left_out`` names the cases (``SET:ID``) that ``exclude.csv`` leaves out.
    """

    cases: list[PreparedCase] = field(default_factory=list)
    truths: dict[str, TruthRef] = field(default_factory=dict)
    refs: list[CaseRef] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    case_notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScanSource:
    """Where scans come from, what the methods see of them, and which cases of each set are used."""

    registry: Registry
    root: Path
    store: Store
    views: Sequence[AnyView]
    chosen: ChosenCases
    readers: Readers
    progress: ShowProgress | None = None

    def scans(self, name: str, *, truth: bool) -> Scans:
        """Discover and prepare a set.

        Raises:
            DataError: it is not there or cannot be used.
        """
        return self._prepared(self._found(name), truth)

    def scans_if_there(self, name: str) -> Scans:
        """Discover and prepare a set with its truths; it is empty where it is absent.

        Raises:
            DataError: it is there and cannot be used.
        """
        found = self._found(name)
        return Scans() if found.absent else self._prepared(found, truth=True)

    def _found(self, name: str) -> Found:
        return look(self.registry.get(name)(), self.root, self.readers)

    def _prepared(self, there: Found, truth: bool) -> Scans:
        if there.problems:
            raise DataError("\n".join(there.problems))
        name, by_id = there.dataset.card.name, {ref.id: ref for ref in there.refs}
        kept, warnings = self.chosen.of_set(name, list(by_id))
        reasons = self._reasons(there)
        kept = [case for case in kept if case not in reasons]
        if not kept:
            raise DataError(f"{self.root / 'exclude.csv'} leaves no case of set {name!r}; leave out fewer")
        wanted = [by_id[case] for case in kept]
        found = self.store.prepare(
            there.dataset, wanted, views=self.views, truth=truth, readers=self.readers, progress=self.progress
        )
        told = [f"{name}:{case} is left out by exclude.csv: {reason}" for case, reason in reasons.items()]
        notes = [*(f"{name}: {note}" for note in there.notes), *warnings, *told]
        on_cases = [f"{name}:{ref.id}: {note}" for ref in wanted for note in ref.notes]
        left_out = [f"{name}:{case}" for case in reasons]
        return Scans(found.cases, found.truths, wanted, [*notes, *warned(found.cases)], on_cases, left_out)

    def _reasons(self, there: Found) -> dict[str, str]:
        """Return the cases of a set that exclude.csv leaves out, under any name of their scans, with the reasons."""
        card = there.dataset.card
        shown = card.partner if card.role == "planted" else card.wraps
        listed, cases = left_out_of(self.root, filter(None, (card.name, shown))), [ref.id for ref in there.refs]
        for case in listed if shown is None else ():  # a set that shows others' scans again may lack some of them
            if case not in cases:
                hint = did_you_mean(case, cases)
                raise DataError(f"{self.root / 'exclude.csv'}: set {card.name!r} has no such case as {case!r}{hint}")
        return {case: listed[case] for case in cases if case in listed}


def key(case: PreparedCase) -> CaseKey:
    """Return what tells a case from those of all sets."""
    return case.dataset, case.id


def warned(cases: Iterable[PreparedCase]) -> list[str]:
    """Return the warnings on cases, each once with those that it concerns: three by name, the others counted."""
    concerned: dict[str, list[str]] = {}
    for case in cases:
        for note in case.notes:
            if note.level == "warning":
                concerned.setdefault(note.text, []).append(f"{case.dataset}:{case.id}")
    return [f"WARNING {several(ids, NAMED)}: {text}" for text, ids in concerned.items()]


def people(cases: Iterable[PreparedCase]) -> dict[CaseKey, str]:
    """Return the patient of each case."""
    return {key(case): case.patient for case in cases}


def joined(*groups: Sequence[PreparedCase]) -> tuple[list[list[PreparedCase]], list[str]]:
    """Return the cases with one patient where two share slices, under whatever names, and warnings that say so.

    Raises:
        DataError: whole volumes occur twice.
    """
    everyone = [case for group in groups for case in group]
    patients, warnings = join_twins({key(case): case.slice_hashes() for case in everyone}, people(everyone))
    named = [[replace(case, patient=patients[key(case)]) for case in group] for group in groups]
    return named, warnings


def _alike(one: DatasetCard, other: DatasetCard) -> bool:
    """Whether two sets have lesions of one kind, as far as their cards say."""
    return one.finding is None or other.finding is None or one.finding == other.finding


@dataclass(frozen=True)
class OtherLesions:
    """Labelled cases of other sets; ``looked_for`` names the sets that were sought, there or not.

    ``left_out`` are cases that ``exclude.csv`` leaves out.
    """

    cases: list[tuple[PreparedCase, TruthRef]] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def other_lesions(
    target: str, source: ScanSource, test: Sequence[PreparedCase], calibrating: Sequence[PreparedCase]
) -> OtherLesions:
    """Prepare the lesion sets of the target's organ that lie in the data root, without tested and calibrating patients.

    ``target`` is tested, with the cases ``test``; the maps of ``calibrating`` set the quantiles of ``healthy-q*``.
    A set whose card names another finding than the target's is none of them: tumours teach nothing about pneumonia.

    Raises:
        DataError: a set that is there cannot be used.
    """
    cards = source.registry.cards()
    wanted = ("lesion", cards[target].anatomy, "voxel", None)
    names = [n for n, card in cards.items() if (card.role, card.anatomy, card.truth, card.wraps) == wanted]
    names = [n for n in names if n not in (target, cards[target].wraps) and _alike(cards[n], cards[target])]
    found = [source.scans_if_there(name) for name in names]
    truths = {key(case): scans.truths[case.id] for scans in found for case in scans.cases}
    everyone = [case for scans in found for case in scans.cases]
    (tested, calibrates, ours), warnings = joined(test, calibrating, everyone)
    by_case = people(ours)
    leaks = {
        case: f"{case[0]}:{case[1]} is left out of training: healthy scans of patient {by_case[case]!r} calibrate"
        for case in overlapping(by_case, people(calibrates))
    }
    leaks |= overlapping(by_case, people(tested))
    kept = [(case, truths[key(case)]) for case in ours if key(case) not in leaks]
    notes = [note for scans in found for note in scans.notes]
    left_out = [text for scans in found for text in scans.left_out]
    return OtherLesions(kept, names, [*notes, *warnings, *leaks.values()], left_out)
