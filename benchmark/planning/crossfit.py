"""Which lesion labels a top line learns from, and which of its models maps which patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...common.seeds import derive
from ...datasets.reading.side_tables import natural_key
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ..runs.records import LabelUse

if TYPE_CHECKING:
    from .task_data import TaskData

MOST_FOLDS = 5
FOLD_SEED = 0
TRAININGS = ("cross-fit", "unseen")
Labelled = tuple[PreparedCase, TruthRef]


@dataclass(frozen=True)
class LabelPlan:
    """The models of a top line: for each the labelled cases that it ``learns`` from, and the patients that it maps.

    No model maps a patient it learns from; ``sets`` are those that the labels come from.
    """

    training: str
    learns: tuple[tuple[Labelled, ...], ...]
    maps: tuple[tuple[str, ...], ...]
    sets: tuple[str, ...]

    def model_of(self, patient: str) -> int:
        """Return which model maps the cases of a patient of the test set."""
        return next(k for k, patients in enumerate(self.maps) if patient in patients)

    def use(self) -> LabelUse:
        return LabelUse(
            training=self.training,
            sets=list(self.sets),
            folds=[list(patients) for patients in self.maps] if self.training == "cross-fit" else [],
            cases=[[case.id for case, _ in learns] for learns in self.learns],
        )


def folds(patients: Iterable[str]) -> list[tuple[str, ...]]:
    """Return at most five groups of patients that differ in size by one at most; every patient is in exactly one.

    They depend on the patients alone, so that runs with several seeds vary the training and not the folds.
    """
    people = sorted(set(patients), key=natural_key)
    order = sorted(people, key=lambda person: (derive(FOLD_SEED, "cross-fit", person), person))
    count = min(MOST_FOLDS, len(people))
    return [tuple(sorted(order[k::count], key=natural_key)) for k in range(count)]


def label_plan(data: TaskData, training: str) -> LabelPlan | str:
    """Return how a top line is trained (see ``SupervisedMethod``) for the test set of a task, or why it cannot be."""
    if training == "unseen":
        return _unseen(data)
    if training != "cross-fit":
        return f"its class says training={training!r}; choose {' or '.join(TRAININGS)}"
    if not data.voxel_truth:
        return f"learns from lesion masks; {data.dataset} has slice labels only"
    groups = folds(case.patient for case in data.test)
    if len(groups) < 2:
        return f"cross-fitting leaves patients out, and {data.dataset} has one patient: nobody else to learn from"
    learns = tuple(
        tuple((case, data.truths[case.id]) for case in data.test if case.patient not in group) for group in groups
    )
    return LabelPlan("cross-fit", learns, tuple(groups), (data.dataset,))


def _unseen(data: TaskData) -> LabelPlan | str:
    found = data.other_lesions
    if not found.cases:
        looked = f" (looked for {', '.join(found.looked_for)})" if found.looked_for else ""
        return (
            f"learns from the other {data.anatomy} sets with lesion masks, of which the data root holds none that may "
            f"train{looked}; it never trains on {data.dataset} itself"
        )
    everybody = tuple(dict.fromkeys(case.patient for case in data.test))
    sets = tuple(dict.fromkeys(case.dataset for case, _ in found.cases))
    return LabelPlan("unseen", (tuple(found.cases),), (everybody,), sets)
