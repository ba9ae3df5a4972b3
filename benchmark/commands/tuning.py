"""``bench tune``: the same budget of trials for every method, on lesions that were planted into healthy scans."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ...common.atomic import write_text
from ...common.errors import UasbenchError
from ...common.foreign import contained
from ...common.seeds import derive
from ...methods.config import resolve
from ..catalogue.registry import datasets, runnable
from ..experiments import TUNED
from ..long_form import collect
from ..planning.options import OptionError, RunOptions, Variant
from ..planning.plan import DETERMINISTIC_SEED
from ..planning.selection import said
from ..planning.task_data import task_pairs
from ..runs.folder import RunFolder, hold
from ..runs.records import CellKey, Record
from .running import run

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

OBJECTIVE, SETTINGS = "ap", "settings"
STUDIES, PLAN, CELLS = "studies.journal", "tuned.yaml", "trials"
AT_ONCE = 4
"""Trials of a method between two looks at what the others have reached."""


@dataclass(frozen=True)
class Trial:
    """One setting of a method and what it reached: mean AP over planted patients and seeds, None where it failed."""

    method: str
    number: int
    settings: dict[str, Any]
    value: float | None
    core_s: float


@dataclass(frozen=True)
class Search:
    """What became of a method: its own settings' value, its trials, and why it has none."""

    method: str
    default: float | None = None
    trials: tuple[Trial, ...] = ()
    reason: str = ""

    @property
    def best(self) -> Trial | None:
        """The trial with the highest value, the first of several."""
        return max((t for t in self.trials if t.value is not None), key=lambda t: t.value or 0.0, default=None)

    def expected_best(self) -> list[float]:
        """Return the expected best value of 1, 2, … trials drawn from these (Dodge et al., EMNLP 2019, eq. 1–3).

        >>> Search("m", trials=tuple(Trial("m", i, {}, v, 0.0) for i, v in enumerate((0.1, 0.3)))).expected_best()
        [0.2, 0.25]
        """
        values = np.sort([t.value for t in self.trials if t.value is not None])
        share = np.arange(len(values) + 1) / max(1, len(values))
        return [round(float(values @ np.diff(share**k)), 12) for k in range(1, len(values) + 1)]


def tune(
    options: RunOptions, out: Path, trials: int, minutes: float | None = None, console: Console | None = None
) -> tuple[RunFolder, list[Search]]:
    """Search the settings that each method offers; a stopped search goes on with the same call.

    The test set of the options is never opened: a trial is a row of a run on the planted set of its healthy partner
    (:class:`~uasbench.datasets.planted.sets.Planted`), whose patients train nothing. Every method gets as many trials,
    fewer only where its trainings and maps have taken ``minutes`` of a core before. Optuna's TPE suggests, seeded by
    method and trial. Below ``out`` lie the run of the trials (``trials``), the studies (``studies.journal``), and an
    experiment with the default and the tuned rows (``tuned.yaml``).

    Returns:
        the run of the trials, and what became of each method, by name.

    Raises:
        UasbenchError: the options cannot be used, nobody has something to tune, no set has planted lesions, or another
            bench chooses settings in ``out``.
    """
    ((test, train),) = task_pairs(options, datasets())
    base = _on_planted(options, train, out / CELLS)
    names, searches = [], []
    for name in runnable().select(options.methods):
        if reason := _nothing_to_tune(name, base):
            searches.append(Search(name, reason=reason))
        else:
            names.append(name)
    if not names:
        raise UasbenchError("; ".join(f"{one.method}: {one.reason}" for one in searches))
    out.mkdir(parents=True, exist_ok=True)
    with hold(RunFolder(out), doing="chooses settings in"):  # open trials of a journal are those of a stopped search
        studies = [_Study(name, base, out / STUDIES) for name in names]
        while True:
            asked = [(study, number) for study in studies for number in study.ask(trials, minutes)]
            rows = {"methods": ",".join(names), "variants": [row for study in studies for row in study.rows()]}
            folder, _ = run(base.model_copy(update=rows), console=console)
            if not asked:
                break
            for study, number in asked:
                study.tell(number)
        searches += [study.found() for study in studies]
        write_text(out / PLAN, _plan(options, test, train, searches))
    return folder, sorted(searches, key=lambda one: one.method)


def _on_planted(options: RunOptions, train: str, out: Path) -> RunOptions:
    planted = [n for n, card in datasets().cards().items() if (card.role, card.partner) == ("planted", train)]
    if not planted:
        raise OptionError(f"{train} has no set with planted lesions to choose settings on; docs/plugins.md tells how")
    return options.model_copy(update={"datasets": planted[:1], "train": train, "out": out, "trials": 1})


def _nothing_to_tune(name: str, base: RunOptions) -> str:
    """Return why a method is not tuned, an empty text where it is."""
    import optuna

    if runnable().card(name).trivial:
        return "learns nothing"
    try:
        return "" if _suggested(name, base, optuna.create_study().ask()) else "offers no setting to tune"
    except Exception as error:  # a method's own code: the others are tuned all the same
        return said(error)


def _suggested(name: str, base: RunOptions, trial: optuna.Trial) -> dict[str, Any]:
    """Return what a method suggests for a trial, as plain values that its settings take."""
    anatomy = datasets().card(base.datasets[0]).anatomy
    with contained():
        cls: Any = runnable().get(name)
        settings = cls(resolve(cls.Config, base.profile, anatomy)).search_space(trial)
        plain = json.loads(json.dumps(dict(settings)))
        resolve(cls.Config, base.profile, anatomy, plain)
    return plain


class _Study:
    """The trials of one method: asked of Optuna, run as rows ``METHOD@tN``, told from their records."""

    def __init__(self, name: str, base: RunOptions, journal: Path) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self.base = name, base
        self.seeds = [DETERMINISTIC_SEED] if runnable().card(name).deterministic else base.seeds
        storage = JournalStorage(JournalFileBackend(os.fspath(journal)))
        self.study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)

    def ask(self, trials: int, minutes: float | None) -> list[int]:
        """Return the numbers of the trials to run next: those that a stop left open, and new ones within the budget."""
        import optuna

        known = self.study.get_trials(deepcopy=False)
        running = [trial for trial in known if trial.state == optuna.trial.TrialState.RUNNING]
        asked = [trial.number for trial in running if SETTINGS in trial.user_attrs]
        for trial in running:
            if SETTINGS not in trial.user_attrs:  # stopped before it had any
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        spent = sum(trial.core_s for trial in self.trials())
        last = len(known) if minutes is not None and spent >= 60 * minutes else trials
        for number in range(len(known), min(last, len(known) + AT_ONCE - len(asked))):
            seed = derive(0, "tune", self.name, number)
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            new = self.study.ask()
            new.set_user_attr(SETTINGS, _suggested(self.name, self.base, new))
            asked.append(new.number)
        return asked

    def tell(self, number: int) -> None:
        """Tell Optuna what a trial reached; one that failed, that it did."""
        import optuna

        value = self._value(self._records(f"{self.name}@t{number}"))
        state = optuna.trial.TrialState.FAIL if value is None else None
        self.study.tell(number, value, state=state)

    def rows(self) -> list[Variant]:
        """Return the rows of all trials so far."""
        return [Variant(label=f"t{n}", method=self.name, settings=s) for n, s in self._settings().items()]

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials so far; a training that several share is paid for by the first of them."""
        found, paid = [], set[str]()
        for number, settings in self._settings().items():
            records = self._records(f"{self.name}@t{number}")
            core_s = sum((_unpaid(r, paid) + r.cost.score_s) * r.cost.threads for r in records)
            found.append(Trial(self.name, number, settings, self._value(records), core_s))
        return tuple(found)

    def found(self) -> Search:
        return Search(self.name, self._value(self._records(self.name)), self.trials())

    def _settings(self) -> dict[int, dict[str, Any]]:
        known = self.study.get_trials(deepcopy=False)
        return {trial.number: trial.user_attrs[SETTINGS] for trial in known if SETTINGS in trial.user_attrs}

    def _records(self, row: str) -> list[Record]:
        """Return the records of a row, of a seed each."""
        base = self.base
        keys = (CellKey(method=row, dataset=base.datasets[0], train=str(base.train), seed=seed) for seed in self.seeds)
        folder = RunFolder(base.folder())
        return [folder.record(path) for path in map(folder.record_path, keys) if path.exists()]

    def _value(self, records: Sequence[Record]) -> float | None:
        """Return the mean AP of a row over patients and seeds, None where a seed is missing."""
        if len(records) < len(self.seeds):
            return None
        (found,) = (s for s in collect(records) if (s.key.metric, s.unit) == (OBJECTIVE, "patient"))
        return found.mean if found.by_patient else None


def _unpaid(record: Record, paid: set[str]) -> float:
    """Return the seconds of a record's trainings that are not in ``paid``, where they are then; each costs the same."""
    new = set(record.ids.fits) - paid
    paid |= new
    return record.cost.fit_s * len(new) / len(record.ids.fits)


def _plan(options: RunOptions, test: str, train: str, searches: Sequence[Search]) -> str:
    """Return the experiment that compares default and tuned settings on the test set."""
    tuned = [one for one in searches if one.best is not None]
    variants = [
        {"label": TUNED, "method": one.method, "set": one.best.settings} for one in tuned if one.best is not None
    ]
    plan = {
        "title": f"Default and tuned settings on {test}",
        "dataset": test,
        "train": train,
        "methods": ",".join(one.method for one in tuned),
        "variants": variants,
        "profile": options.profile,
        "notes": f"Settings were chosen by {OBJECTIVE} on lesions planted into {train}; no lesion label was used.",
    }
    return yaml.safe_dump(plan, sort_keys=False, allow_unicode=True)
