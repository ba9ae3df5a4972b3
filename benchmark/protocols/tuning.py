"""What thresholds are tuned for, at every cut at once, and the studies that find them (docs/protocols.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.atomic import new_file
from ...common.seeds import derive
from ..runs.records import Threshold
from ..scoring.bins import Bins, CaseCounts
from ..scoring.ranking_metrics import Curves

if TYPE_CHECKING:
    import optuna

MAX_TRIALS = 40
PLAIN = (0.0, 0.0)
PostProcessing = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Objective:
    """The ``values`` at every cut of pooled curves, float64 (bins + 1,); inside a bin the best may be ``bound`` higher.

    ``shares``, float64 (bins + 1,), of the tuned voxels lie at or below the threshold of each cut, ascending.
    """

    curves: Curves
    shares: np.ndarray
    values: np.ndarray
    bound: float

    def cut_at(self, quantile: float) -> int:
        """Return the lowest cut that leaves at least ``quantile`` of the tuned voxels at or below its threshold."""
        return min(int(np.searchsorted(self.shares, quantile)), len(self.values) - 1)

    @property
    def best_cut(self) -> int:
        """The cut with the largest value (the lowest threshold of several)."""
        return int(np.argmax(self.values))

    @property
    def best(self) -> float:
        return float(self.values[self.best_cut])


class MeanDice:
    """The mean over patients with a lesion of their Dice, for any group of patients.

    A patient with several cases counts with the mean Dice of those that have a lesion; cases without a lesion only
    shape the quantiles. Cases are counted in the bins of ``axis``, whose own counts are not used; ``cut_all`` says
    whether the cut below the lowest score may be chosen.
    """

    def __init__(
        self, axis: Curves, patients: Sequence[str], counts: Sequence[CaseCounts], *, cut_all: bool = True
    ) -> None:
        self.axis = axis
        self.cut_all = cut_all
        self._cases = [(p, c, *_steps(c)) for p, c in zip(patients, counts, strict=True)]

    @classmethod
    def every_cut(cls, bins: Bins, patients: Sequence[str], counts: Sequence[CaseCounts]) -> MeanDice:
        """Use every bin that holds a voxel of the cases, so that the best cut is the exhaustive search's."""
        axis = Curves.of(bins, counts)
        place = np.searchsorted(axis.lower, bins.lower)
        return cls(axis, patients, [replace(c, index=place[c.index]) for c in counts])

    def over(self, patients: Collection[str]) -> Objective | None:
        """Return the objective of a group; None where none of them has a lesion."""
        chosen = [case for case in self._cases if case[0] in patients]
        per_patient = Counter(patient for patient, counts, *_ in chosen if counts.positives)
        if not per_patient:
            return None
        steps, inside = np.zeros((2, len(self.axis.lower)))
        voxels = np.zeros(len(self.axis.lower), np.int64)
        for patient, counts, step, within in chosen:
            voxels[counts.index] += counts.negative + counts.positive
            if counts.positives:
                weight = 1.0 / (per_patient[patient] * len(per_patient))
                steps[counts.index] += weight * step
                inside[counts.index] += weight * within
        values = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
        if not self.cut_all:
            values[0] = -1.0
        higher = np.where(self.axis.exact, 0.0, values[1:] + inside)
        shares = np.concatenate([[0], np.cumsum(voxels)]) / voxels.sum()
        return Objective(self.axis, shares, values, max(0.0, float(higher.max() - values.max())))


def _steps(counts: CaseCounts) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the Dice of a case changes at its bins, going down, and at best inside of them."""
    if not counts.positives:
        return np.zeros(len(counts.index)), np.zeros(len(counts.index))
    tp = np.cumsum(counts.positive[::-1])[::-1]
    predicted = np.cumsum((counts.negative + counts.positive)[::-1])[::-1]
    dice = 2 * tp / (predicted + counts.positives)
    above = np.append(dice[1:], 0.0)
    # The best threshold inside a bin takes all of its positives and none of its negatives.
    return dice - above, 2 * tp / (predicted - counts.negative + counts.positives) - above


class Studies:
    """The studies of one cell: seeded, sequential, kept in memory and written to one journal file at the end."""

    def __init__(self, path: Path | None, *, seed: int, trials: int) -> None:
        self.path = path
        self.seed = seed
        self.trials = max(1, min(trials, MAX_TRIALS))
        self.prefix = "cell" if path is None else path.stem
        self._logs: list[dict[str, Any]] = []
        self._storage: Any = None

    def search(self, asked: Threshold, objectives: Mapping[PostProcessing, Objective], shift: float = 0.0) -> Threshold:
        """Run one study over quantiles of the scores, and post-processing where there is a choice.

        Returns the threshold that was asked for with the values of the best trial. Objectives go by (smoothing in mm,
        least volume in mm³), ``PLAIN`` always among them; ``shift`` is added to the value of every trial with another
        one (docs/protocols.md, validation patients). The optimum of the plain map, exact over all cuts, is the first
        trial; the optima of the post-processed maps follow, the best first, then the sampler's own proposals.
        """
        import optuna

        name = asked.protocol if asked.fold is None else f"{asked.protocol}/fold-{asked.fold}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=self._journal(),
            sampler=optuna.samplers.TPESampler(seed=derive(self.seed, "tuning", name)),
            study_name=f"{self.prefix}/{name}",
            direction="maximize",
        )
        smoothings, sizes = sorted({s for s, _ in objectives}), sorted({m for _, m in objectives})
        for post in sorted(objectives, key=lambda post: (post != PLAIN, -objectives[post].best, post))[: self.trials]:
            first = {"quantile": float(objectives[post].shares[objectives[post].best_cut])}
            named = {"smoothing_mm": post[0], "min_size_mm3": post[1]}
            study.enqueue_trial(first | (named if len(objectives) > 1 else {}))

        def value(trial: optuna.Trial) -> float:
            post = PLAIN
            if len(objectives) > 1:
                smoothing = trial.suggest_categorical("smoothing_mm", smoothings)
                post = (smoothing, trial.suggest_categorical("min_size_mm3", sizes))
            cut = objectives[post].cut_at(trial.suggest_float("quantile", 0.0, 1.0))
            return float(objectives[post].values[cut]) + (0.0 if post == PLAIN else shift)

        study.optimize(value, n_trials=self.trials)
        found = {"smoothing_mm": PLAIN[0], "min_size_mm3": PLAIN[1], **study.best_params}
        objective = objectives[found["smoothing_mm"], found["min_size_mm3"]]
        cut = objective.cut_at(found["quantile"])
        found |= {"threshold": objective.curves.threshold(cut), "quantile": float(objective.shares[cut])}
        return asked.model_copy(
            update=found | {"value": study.best_value, "study": study.study_name, "trials": len(study.trials)}
        )

    def write(self) -> None:
        """Write all studies to the journal file, replacing an older one at once.

        ``optuna.load_study(study_name=…, storage=JournalStorage(JournalFileBackend(path)))`` reads it.
        """
        if self.path is None:
            return
        from optuna.storages.journal import JournalFileBackend

        with new_file(self.path) as temporary:
            JournalFileBackend(str(temporary)).append_logs(self._logs)

    def _journal(self) -> Any:
        if self._storage is None:
            from optuna.storages.journal import BaseJournalBackend, JournalStorage

            kept = self._logs

            class Memory(BaseJournalBackend):
                def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
                    return kept[log_number_from:]

                def append_logs(self, logs: list[dict[str, Any]]) -> None:
                    kept.extend(logs)

            self._storage = JournalStorage(Memory())
        return self._storage
