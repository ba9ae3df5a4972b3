"""The other lesion sets of a data root, for top lines that never train on the set they are tested on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...datasets.patients import overlapping
from ...datasets.storing.prepared import PreparedCase, TruthRef
from .scans import ScanSource, joined, key, people


@dataclass(frozen=True)
class OtherLesions:
    """Labelled cases of other sets; ``looked_for`` names the sets that were sought, there or not."""

    cases: list[tuple[PreparedCase, TruthRef]] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def other_lesions(
    target: str, source: ScanSource, test: Sequence[PreparedCase], calibrating: Sequence[PreparedCase]
) -> OtherLesions:
    """Prepare the lesion sets of the target's organ that lie in the data root, without tested and calibrating patients.

    ``target`` is tested, with the cases ``test``; the maps of ``calibrating`` set the quantiles of ``healthy-q*``.

    Raises:
        DataError: a set that is there cannot be used.
    """
    cards = source.registry.cards()
    wanted = ("lesion", cards[target].anatomy, "voxel")
    names = [n for n, card in cards.items() if n != target and (card.role, card.anatomy, card.truth) == wanted]
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
    return OtherLesions(kept, names, [*notes, *warnings, *leaks.values()])
