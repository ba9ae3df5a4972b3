"""The other lesion sets of a data root, for top lines that never train on the set they are tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...common.errors import DataError
from ...datasets.dataset import CaseRef, Dataset
from ...datasets.patients import apply_excludes, join_twins, overlapping
from ...datasets.reading.tables import CaseKey
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ...datasets.storing.store import Store
from ...datasets.views.volume_view import AnyView
from ..catalogue.registry import Registry


@dataclass(frozen=True)
class OtherLesions:
    """Labelled cases of other sets; ``looked_for`` names the sets that were sought, there or not."""

    cases: list[tuple[PreparedCase, TruthRef]] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def other_lesions(
    target: str,
    registry: Registry,
    root: Path,
    store: Store,
    views: Sequence[AnyView],
    test: Sequence[PreparedCase],
    calibrating: Sequence[PreparedCase],
    excludes: Mapping[str, set[str]],
    *,
    workers: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> OtherLesions:
    """Prepare the lesion sets of the target's organ that lie in the data root, without tested and calibrating patients.

    Args:
        target: name of the set that is tested.
        test: its cases.
        calibrating: healthy cases of the patients whose maps set the quantiles of ``healthy-q*``.

    Raises:
        DataError: a set that is there cannot be used.
    """
    organ = registry.card(target).anatomy
    names = [
        name
        for name, card in registry.cards().items()
        if name != target and (card.role, card.anatomy, card.truth) == ("lesion", organ, "voxel")
    ]
    found, warnings = [], []
    for name in names:
        dataset = registry.get(name)()
        refs = _present(dataset, root, excludes)
        if not refs:
            continue
        prepared = store.prepare(dataset, refs, views=views, truth=True, workers=workers, progress=progress)
        found += [(case, prepared.truths[case.id]) for case in prepared.cases]
        warnings += [f"{name}: {note}" for note in getattr(dataset, "notes", ())]
    kept, left_out = _without(found, test, calibrating)
    return OtherLesions(kept, names, [*warnings, *left_out])


def _present(dataset: Dataset, root: Path, excludes: Mapping[str, set[str]]) -> list[CaseRef]:
    """Return the cases of a set, none where it is absent; a set that is there and damaged is an error."""
    survey = getattr(dataset, "survey", None)
    if survey is not None and survey(root).absent:
        return []
    try:
        refs = {ref.id: ref for ref in dataset.discover(root)}
    except DataError:
        if survey is not None:
            raise
        return []
    return [refs[case] for case in apply_excludes(dataset.card.name, list(refs), excludes)]


def _without(
    found: Sequence[tuple[PreparedCase, TruthRef]], test: Sequence[PreparedCase], calibrating: Sequence[PreparedCase]
) -> tuple[list[tuple[PreparedCase, TruthRef]], list[str]]:
    """Leave out the cases whose patient is tested or calibrates, known by name or by common slices."""
    everyone = [*test, *calibrating, *(case for case, _ in found)]
    twins = join_twins({_key(c): c.slice_hashes() for c in everyone}, {_key(c): c.patient for c in everyone})
    patients = twins.patients

    def people(cases: Iterable[PreparedCase]) -> dict[CaseKey, str]:
        return {_key(c): patients[_key(c)] for c in cases}

    ours = people(case for case, _ in found)
    leaks = {
        key: f"{key[0]}:{key[1]} is left out of training: healthy scans of patient {ours[key]!r} calibrate"
        for key in overlapping(ours, people(calibrating))
    }
    leaks |= overlapping(ours, people(test))
    kept = [(replace(c, patient=patients[_key(c)]), truth) for c, truth in found if _key(c) not in leaks]
    return kept, [*twins.warnings, *leaks.values()]


def _key(case: PreparedCase) -> CaseKey:
    return case.dataset, case.id
