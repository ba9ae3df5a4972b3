"""Scans of a data root: discovered, prepared, and told apart by patient."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...common.errors import DataError
from ...datasets.dataset import CaseRef, Dataset
from ...datasets.patients import CaseKey, apply_excludes, join_twins
from ...datasets.storing.prepared import PreparedCase, ShowProgress, TruthRef
from ...datasets.storing.store import Store
from ...datasets.views.volume_view import AnyView
from ..catalogue.registry import Registry


@dataclass(frozen=True)
class Scans:
    """Prepared cases of a set, their truths by case id, their image files, and remarks on the set and on its cases."""

    cases: list[PreparedCase] = field(default_factory=list)
    truths: dict[str, TruthRef] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    case_notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScanSource:
    """Where scans come from, what the methods see of them, and by set the cases that are left out."""

    registry: Registry
    root: Path
    store: Store
    views: Sequence[AnyView]
    excludes: Mapping[str, set[str]]
    workers: int
    progress: ShowProgress | None = None

    def scans(self, name: str, *, truth: bool) -> Scans:
        """Discover and prepare a set.

        Raises:
            DataError: it is not there or cannot be used.
        """
        dataset = self.registry.get(name)()
        return self._prepared(dataset, dataset.discover(self.root), truth)

    def scans_if_there(self, name: str) -> Scans:
        """Discover and prepare a set with its truths; it is empty where it is absent.

        Raises:
            DataError: it is there and cannot be used.
        """
        dataset = self.registry.get(name)()
        survey = getattr(dataset, "survey", None)
        if survey is not None and survey(self.root).absent:
            return Scans()
        try:
            refs = dataset.discover(self.root)
        except DataError:
            if survey is not None:
                raise
            return Scans()
        return self._prepared(dataset, refs, truth=True)

    def _prepared(self, dataset: Dataset, refs: Sequence[CaseRef], truth: bool) -> Scans:
        name, by_id = dataset.card.name, {ref.id: ref for ref in refs}
        wanted = [by_id[case] for case in apply_excludes(name, list(by_id), self.excludes)]
        found = self.store.prepare(
            dataset, wanted, views=self.views, truth=truth, workers=self.workers, progress=self.progress
        )
        notes = [f"{name}: {note}" for note in getattr(dataset, "notes", ())]
        on_cases = [f"{name}:{ref.id}: {note}" for ref in wanted for note in ref.notes]
        return Scans(found.cases, found.truths, [ref.image for ref in wanted], notes, on_cases)


def key(case: PreparedCase) -> CaseKey:
    """Return what tells a case from those of all sets."""
    return case.dataset, case.id


def people(cases: Iterable[PreparedCase]) -> dict[CaseKey, str]:
    """Return the patient of each case."""
    return {key(case): case.patient for case in cases}


def joined(*groups: Sequence[PreparedCase]) -> tuple[list[list[PreparedCase]], list[str]]:
    """Return the cases with one patient where two share slices, under whatever names, and warnings that say so.

    Raises:
        DataError: whole volumes occur twice.
    """
    everyone = [case for group in groups for case in group]
    twins = join_twins({key(case): case.slice_hashes() for case in everyone}, people(everyone))
    named = [[replace(case, patient=twins.patients[key(case)]) for case in group] for group in groups]
    return named, list(twins.warnings)
