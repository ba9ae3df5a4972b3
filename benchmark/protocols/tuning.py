"""Every tuned threshold is the value of an Optuna study (docs/protocols.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.atomic import new_file
from ...common.seeds import derive
from ..runs.records import Threshold
from .objective import Objective

if TYPE_CHECKING:
    import optuna

MAX_TRIALS = 40
PLAIN = (0.0, 0.0)
PostProcessing = tuple[float, float]


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """What a study searches: a quantile of the scores, and post-processing where there is a choice.

    Objectives go by (smoothing in mm, least volume in mm³), ``PLAIN`` always among them; ``shift`` is added to the
    value of every trial with another one (docs/protocols.md, validation patients).
    """

    objectives: Mapping[PostProcessing, Objective]
    shift: float = 0.0

    def value(self, post: PostProcessing, quantile: float) -> float:
        return self.objectives[post].at(quantile) + (0.0 if post == PLAIN else self.shift)


@dataclass(frozen=True)
class TuningResult:
    """The best trial of a study."""

    post: PostProcessing
    threshold: float
    quantile: float
    value: float
    study: str
    trials: int

    def record(self, protocol: str, *, patients: Sequence[str], tuned_on: Sequence[str]) -> Threshold:
        """Return the threshold as the record stores it: the patients it is applied to, and those it was tuned on."""
        return Threshold(
            protocol=protocol,
            threshold=self.threshold,
            quantile=self.quantile,
            smoothing_mm=self.post[0],
            min_size_mm3=self.post[1],
            patients=list(patients),
            tuned_on=list(tuned_on),
            value=self.value,
            study=self.study,
            trials=self.trials,
        )


class Studies:
    """The studies of one cell: seeded, sequential, kept in memory and written to one journal file at the end."""

    def __init__(self, path: Path | None, *, seed: int, trials: int) -> None:
        self.path = path
        self.seed = seed
        self.trials = max(1, min(trials, MAX_TRIALS))
        self.prefix = "cell" if path is None else path.stem
        self._logs: list[dict[str, Any]] = []
        self._storage: Any = None

    def search(self, name: str, space: SearchSpace) -> TuningResult:
        """Run one study and return its best trial.

        The optimum of the plain map, exact over all cuts, is the first trial; the optima of the post-processed maps
        follow, the best first, then the sampler's own proposals.
        """
        import optuna

        study_name = f"{self.prefix}/{name}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=self._journal(),
            sampler=optuna.samplers.TPESampler(seed=derive(self.seed, "tuning", name)),
            study_name=study_name,
            direction="maximize",
        )
        chosen = len(space.objectives) > 1
        posts = sorted(space.objectives, key=lambda post: (post != PLAIN, -space.objectives[post].best, post))
        for post in posts[: self.trials]:
            objective = space.objectives[post]
            first = {"quantile": float(objective.shares[objective.best_cut])}
            named = {"smoothing_mm": post[0], "min_size_mm3": post[1]}
            study.enqueue_trial(first | (named if chosen else {}))
        study.optimize(lambda trial: _try(trial, space, chosen), n_trials=self.trials)
        best = study.best_trial
        post = (best.params["smoothing_mm"], best.params["min_size_mm3"]) if chosen else PLAIN
        objective = space.objectives[post]
        cut = objective.cut_at(best.params["quantile"])
        threshold, quantile = objective.curves.threshold(cut), float(objective.shares[cut])
        assert best.value is not None
        return TuningResult(post, threshold, quantile, best.value, study_name, len(study.trials))

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


def _try(trial: optuna.Trial, space: SearchSpace, chosen: bool) -> float:
    post = PLAIN
    if chosen:
        smoothing = trial.suggest_categorical("smoothing_mm", sorted({s for s, _ in space.objectives}))
        size = trial.suggest_categorical("min_size_mm3", sorted({m for _, m in space.objectives}))
        post = (smoothing, size)
    return space.value(post, trial.suggest_float("quantile", 0.0, 1.0))
