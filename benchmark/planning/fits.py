"""The fits behind a cell: one, one per member of an ensemble, or one per fold of a cross-fitted top line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...common.seeds import derive
from ...common.untried import untried
from ...datasets.reading.side_tables import natural_key
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ..runs.folder import RunFolder
from ..runs.records import LabelUse, Skip
from ..stages.fit import FitTask
from ..stages.map import Model
from ..stages.task import Numerics
from . import ids
from .selection import Candidate
from .task_data import TaskData

MOST_FOLDS = 3
FOLD_SEED = 0
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

    def use(self) -> LabelUse:
        return LabelUse(
            training=self.training,
            sets=list(self.sets),
            folds=[list(patients) for patients in self.maps] if self.training == "cross-fit" else [],
            cases=[[case.id for case, _ in learns] for learns in self.learns],
        )


@dataclass(frozen=True)
class PlannedFits:
    """The trainings of a cell, which of several each is (such as ``fold 2/5``), and who maps what."""

    tasks: tuple[FitTask, ...]
    names: tuple[str, ...]
    models: tuple[Model, ...]
    labels: LabelPlan | None = None

    def learned_from(self) -> Iterator[PreparedCase]:
        """Give the scans that any of the trainings sees."""
        for task in self.tasks:
            yield from (case for case, _ in (*task.parts, *task.labelled))
            yield from task.unlabelled


def trainable(candidates: Sequence[Candidate], data: TaskData) -> tuple[list[Candidate], list[Skip]]:
    """Part the configurations that can be trained on the data of a task from those that cannot, with the reasons."""
    kept, refused = [], []
    healthy = sorted({case.patient for case, _ in data.training()})
    for candidate in candidates:
        plan = None
        if candidate.training is not None:
            plan = label_plan(data, candidate.training)
        elif len(healthy) < candidate.min_patients:
            plan = (
                f"learns from {candidate.min_patients} healthy patients or more, and {data.train} has {len(healthy)} "
                f"for training ({', '.join(healthy)}); add scans"
            )
        if isinstance(plan, str):
            refused.append(Skip(method=candidate.label, dataset=data.dataset, reason=plan))
        else:
            kept.append(candidate)
    return kept, refused


def planned_fits(folder: RunFolder, numerics: Numerics, data: TaskData, candidate: Candidate, seed: int) -> PlannedFits:
    """Return the trainings that a cell of a :func:`trainable` configuration needs, with their addresses."""
    labels = None if candidate.training is None else label_plan(data, candidate.training)
    assert not isinstance(labels, str), labels
    learns: Sequence[Sequence[Labelled]] = ((),) if labels is None else labels.learns
    seeds = [seed]
    if candidate.members is not None:
        seeds = [derive(seed, "member", index) for index in candidate.members]
    tasks, names, models = [], [], []
    for fold, labelled in enumerate(learns):
        for member, fit_seed in enumerate(seeds):
            task = FitTask(  # a method meets the scans that its card allows and no others
                id="",
                method=candidate.spec,
                seed=fit_seed,
                numerics=numerics,
                parts=() if labels else tuple(data.training()),
                held_out=() if labels else tuple(data.calibrating()),
                unlabelled=tuple(data.test) if candidate.card.uses == "unlabelled-test" else (),
                labelled=tuple(labelled),
                out=folder.fits_dir,
                untried=untried(numerics.device),
            )
            address = ids.fit_id(task, candidate, "" if labels else data.split.hash)
            tasks.append(task.model_copy(update={"id": address, "out": folder.fit_dir(address)}))
            places = (("fold", fold, len(learns)), ("member", member, len(seeds)))
            names.append(", ".join(f"{what} {index + 1}/{count}" for what, index, count in places if count > 1))
        mapped = [case for case in data.test if labels is None or case.patient in labels.maps[fold]]
        models.append(Model(fits=tuple(task.out for task in tasks[-len(seeds) :]), cases=tuple(mapped)))
    return PlannedFits(tuple(tasks), tuple(names), tuple(models), labels)


def folds(patients: Iterable[str]) -> list[tuple[str, ...]]:
    """Return at most three groups of patients that differ in size by one at most; every patient is in exactly one.

    They depend on the patients alone, so that runs with several seeds vary the training and not the folds.
    """
    people = sorted(set(patients), key=natural_key)
    order = sorted(people, key=lambda person: (derive(FOLD_SEED, "cross-fit", person), person))
    return [tuple(sorted(order[k::MOST_FOLDS], key=natural_key)) for k in range(min(MOST_FOLDS, len(people)))]


def label_plan(data: TaskData, training: str) -> LabelPlan | str:
    """Return how a top line is trained (see ``SupervisedMethod``) for the test set of a task, or why it cannot be."""
    if training == "unseen":
        found = data.other_lesions
        if not found.cases:
            looked = f" (looked for {', '.join(found.looked_for)})" if found.looked_for else ""
            return (
                f"learns from the other {data.card.anatomy} sets with lesion masks, of which the data root holds none "
                f"that may train{looked}; it never trains on {data.dataset} itself"
            )
        everybody = tuple(dict.fromkeys(case.patient for case in data.test))
        sets = tuple(dict.fromkeys(case.dataset for case, _ in found.cases))
        return LabelPlan(training, (tuple(found.cases),), (everybody,), sets)
    if training != "cross-fit":
        return f"its class says training={training!r}; choose cross-fit or unseen"
    if data.card.truth != "voxel":
        return f"learns from lesion masks; {data.dataset} has slice labels only"
    groups = folds(case.patient for case in data.test)
    if len(groups) < 2:
        return f"cross-fitting leaves patients out, and {data.dataset} has one patient: nobody else to learn from"
    learns = tuple(
        tuple((case, data.truths[case.id]) for case in data.test if case.patient not in group) for group in groups
    )
    return LabelPlan(training, learns, tuple(groups), (data.dataset,))
