"""The fits behind a cell: one, one per member of an ensemble, or one per fold of a cross-fitted top line."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.seeds import derive
from ..runs.folder import RunFolder
from ..runs.records import Skip
from ..stages.fit import FitTask
from ..stages.task import Numerics
from . import ids
from .crossfit import Labelled, LabelPlan, label_plan
from .selection import Candidate
from .task_data import TaskData


@dataclass(frozen=True)
class PlannedFits:
    """The trainings of a cell and who maps what.

    Attributes:
        tasks: the trainings.
        names: which of several trainings each is, such as ``fold 2/5``, for the display.
        models: for each model the positions of its trainings; several are members whose median is the map.
        labels: how labels are used, for top lines.
    """

    tasks: tuple[FitTask, ...]
    names: tuple[str, ...]
    models: tuple[tuple[int, ...], ...]
    labels: LabelPlan | None = None


def trainable(candidates: Sequence[Candidate], data: TaskData) -> tuple[list[Candidate], list[Skip]]:
    """Part the configurations that can be trained on the data of a task from those that cannot, with the reasons."""
    kept, refused = [], []
    for candidate in candidates:
        reason = _refusal(candidate, data)
        if reason is None:
            kept.append(candidate)
        else:
            refused.append(Skip(method=candidate.label, dataset=data.dataset, reason=reason))
    return kept, refused


def _refusal(candidate: Candidate, data: TaskData) -> str | None:
    if candidate.training is not None:
        plan = label_plan(data, candidate.training)
        return plan if isinstance(plan, str) else None
    patients = {case.patient for case, _ in data.training()}
    if len(patients) < candidate.min_patients:
        return (
            f"learns from {candidate.min_patients} healthy patients or more, and {data.train} has {len(patients)} for "
            f"training ({', '.join(sorted(patients))}); add scans"
        )
    return None


def planned_fits(folder: RunFolder, numerics: Numerics, data: TaskData, candidate: Candidate, seed: int) -> PlannedFits:
    """Return the trainings that a cell needs, with their addresses.

    Raises:
        ValueError: a top line that cannot be trained here, which :func:`.crossfit.label_plan` says beforehand.
    """
    labels = None
    if candidate.training is not None:
        plan = label_plan(data, candidate.training)
        if isinstance(plan, str):
            raise ValueError(f"{candidate.label}: {plan}")
        labels = plan
    learns: Sequence[Sequence[Labelled]] = ((),) if labels is None else labels.learns
    members = candidate.members
    seeds = [seed] if members is None else [derive(seed, "member", index) for index in range(members)]
    tasks, names = [], []
    for fold, labelled in enumerate(learns):
        for member, fit_seed in enumerate(seeds):
            tasks.append(_fit(folder, numerics, data, candidate, fit_seed, labelled))
            names.append(", ".join(_numbered(fold, len(learns), "fold") + _numbered(member, len(seeds), "member")))
    count = len(seeds)
    models = tuple(tuple(range(count * fold, count * (fold + 1))) for fold in range(len(learns)))
    return PlannedFits(tuple(tasks), tuple(names), models, labels)


def _fit(
    folder: RunFolder,
    numerics: Numerics,
    data: TaskData,
    candidate: Candidate,
    seed: int,
    labelled: Sequence[Labelled],
) -> FitTask:
    """Return one training; a method meets the scans that its card allows and no others."""
    learns_from_labels = candidate.training is not None
    task = FitTask(
        id="",
        method=candidate.spec,
        seed=seed,
        numerics=numerics,
        parts=() if learns_from_labels else tuple(data.training()),
        unlabelled=tuple(data.test) if candidate.card.uses == "unlabelled-test" else (),
        labelled=tuple(labelled),
        out=folder.fits_dir,
    )
    address = ids.fit_id(
        task,
        trainer=candidate.card.trainer or candidate.card.name,  # methods that share a trainer share fits
        config=candidate.fit_config,
        split="" if learns_from_labels else data.split.hash,
        extra=candidate.extra_identity,
    )
    return task.model_copy(update={"id": address, "out": folder.fit_dir(address)})


def _numbered(index: int, count: int, what: str) -> list[str]:
    return [f"{what} {index + 1}/{count}"] if count > 1 else []
