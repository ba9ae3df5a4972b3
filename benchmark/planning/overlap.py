"""Rows whose weights have seen the test set before: named in the record, marked, and refused where masks were seen."""

from collections.abc import Iterable, Sequence

from ...datasets.dataset import DatasetCard
from ...methods.pretraining import Level, Pretraining
from ..runs.records import Skip
from .selection import Candidate

HOLDS = {
    "lits17": ("lits",),
    "msd-liver": ("lits",),
    "msd03": ("lits",),
    "3d-ircadb": ("lits",),
    "ct-org": ("lits",),
    "abdomenct-1k": ("lits", "kits23", "msd-pancreas"),
    "kits19": ("kits23",),
    "kits21": ("kits23",),
    "lidc": ("luna16",),
    "lidc-idri": ("luna16",),
    "covid-19-ct-seg": ("coronacases", "radiopaedia"),
}
"""Data sets under other names or in collections: who has seen the scans of the first has seen scans of the others."""


def overlap_of(candidate: Candidate, tested: DatasetCard) -> Level:
    """Return how much of a test set the weights of a configuration, or its labelled training sets, show: the level."""
    names = names_of(tested)
    if held_by(names) & held_by(candidate.card.labels_elsewhere):
        return "masks"
    return seen(candidate.pretraining, names)


def names_of(tested: DatasetCard) -> list[str]:
    """Return a test set and the set whose scans it shows again, with other masks or with planted lesions."""
    again = tested.wraps or (tested.partner if tested.role == "planted" else None)
    return [tested.name, *([again] if again else [])]


def permitted(
    candidates: Sequence[Candidate], tested: DatasetCard, *, allowed: bool
) -> tuple[list[Candidate], list[Skip]]:
    """Part the configurations that may run on a test set from those that have seen its masks, with the reasons.

    Args:
        allowed: these run, too, and are marked.
    """
    kept, refused = [], []
    for candidate in candidates:
        if overlap_of(candidate, tested) == "masks" and not allowed:
            by = candidate.card.labels_elsewhere or candidate.pretraining.sets
            reason = (
                f"it was trained on masks of {tested.name} before this run ({', '.join(by)}); --allow-overlap runs and "
                "marks it"
            )
            refused.append(Skip(method=candidate.label, dataset=tested.name, reason=reason))
        else:
            kept.append(candidate)
    return kept, refused


def seen(pretraining: Pretraining, names: Iterable[str]) -> Level:
    """Return how much of a data set was seen that goes by these names, ``none`` where it is not named.

    >>> seen(Pretraining("volumes", ("MSD03", "btcv")), ["lits"]), seen(Pretraining("web"), ["lits"])
    ('volumes', 'none')
    """
    return pretraining.level if held_by(names) & held_by(pretraining.sets) else "none"


def held_by(names: Iterable[str]) -> set[str]:
    """Return data sets with all that are the same scans or a part of theirs, lower case."""
    lower = {name.lower() for name in names}
    return lower.union(*(HOLDS.get(name, ()) for name in lower))
