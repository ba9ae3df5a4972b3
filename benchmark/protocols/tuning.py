"""Every tuned threshold is the value of an Optuna study (docs/protocols.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...common.atomic import new_file
from ...common.seeds import derive
from ..runs.records import Threshold
from .objective import Objective

MAX_TRIALS = 40
PLAIN = (0.0, 0.0)
PostProcessing = tuple[float, float]


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
        smoothings, sizes = (sorted(set(values)) for values in zip(*objectives, strict=True))
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
