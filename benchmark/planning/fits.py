"""The fits behind a cell: one, one per member of an ensemble, or one per fold of a cross-fitted top line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.seeds import derive
from ...datasets.storing.prepared import PreparedCase
from ..runs.records import Skip
from ..stages.task import Numerics, ZRange
from . import ids
from .crossfit import Labelled, LabelPlan, label_plan
from .selection import Candidate
from .task_data import TaskData


@dataclass(frozen=True)
class PlannedFit:
    """One training.

    Attributes:
        parts: healthy cases with their slice ranges; none for a method that learns from labels.
        unlabelled: the test cases, for a method that may see them without their labels.
        labelled: cases with their truths, for a method that learns from labels.
        name: which of several trainings it is, such as ``fold 2/5``, for the display.
    """

    id: str
    seed: int
    parts: Sequence[tuple[PreparedCase, ZRange]] = ()
    unlabelled: Sequence[PreparedCase] = ()
    labelled: Sequence[Labelled] = ()
    name: str = ""


@dataclass(frozen=True)
class PlannedFits:
    """The trainings of a cell and who maps what.

    Attributes:
        models: for each model the positions of its trainings; several are members whose median is the map.
        labels: how labels are used, for top lines.
    """

    fits: tuple[PlannedFit, ...]
    models: tuple[tuple[int, ...], ...]
    labels: LabelPlan | None = None

    def model_of(self, case: PreparedCase) -> int:
        """Return the model that maps a test case."""
        return 0 if self.labels is None else self.labels.model_of(case.patient)


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


def planned_fits(numerics: Numerics, data: TaskData, candidate: Candidate, seed: int) -> PlannedFits:
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
    seeds = fit_seeds(candidate.members, seed)
    fits, models = [], []
    for fold, labelled in enumerate(learns):
        models.append(tuple(range(len(fits), len(fits) + len(seeds))))
        for member, fit_seed in enumerate(seeds):
            name = ", ".join(_numbered(fold, len(learns), "fold") + _numbered(member, len(seeds), "member"))
            fits.append(_fit(numerics, data, candidate, fit_seed, labelled, name))
    return PlannedFits(tuple(fits), tuple(models), labels)


def fit_seeds(members: int | None, seed: int) -> list[int]:
    """Return the seed of each fit of a model: the run's own, or one per member of an ensemble."""
    return [seed] if members is None else [derive(seed, "member", index) for index in range(members)]


def _fit(
    numerics: Numerics, data: TaskData, candidate: Candidate, seed: int, labelled: Sequence[Labelled], name: str
) -> PlannedFit:
    """Return one training; a method meets the scans that its card allows and no others."""
    learns_from_labels = candidate.training is not None
    parts = [] if learns_from_labels else data.training()
    unlabelled = data.test if candidate.card.uses == "unlabelled-test" else []
    address = ids.fit_id(
        trainer=candidate.trainer,
        module=candidate.module,
        config=candidate.fit_config,
        parts=[(case.fingerprint, z) for case, z in parts],
        split="" if learns_from_labels else data.split.hash,
        unlabelled=[(case.dataset, case.id, case.fingerprint) for case in unlabelled],
        labelled=[(case.dataset, case.id, case.fingerprint, truth.fingerprint) for case, truth in labelled],
        extra=candidate.extra_identity,
        seed=seed,
        numerics=[numerics.device, numerics.threads, numerics.precision],
    )
    return PlannedFit(address, seed, parts, unlabelled, labelled, name)


def _numbered(index: int, count: int, what: str) -> list[str]:
    return [f"{what} {index + 1}/{count}"] if count > 1 else []
