"""Every table of a run as a pandas frame: pure functions of the records."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..benchmark.long_form import collect, long_form, per_case_values
from ..benchmark.protocols.catalogue import deciding
from ..benchmark.runs.folder import RunFolder
from ..benchmark.runs.records import Failure, Record, Skip
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import NO_PROTOCOL
from .cases import cases
from .columns import COST, FAILURES, PER_CASE, SKIPPED, Facts, MethodOnData, facts, flag_text, sort_rows
from .failing import Missing, Policy, facts_of_missing, missing_cells, policy_of, told, with_worst
from .gain import tuned_gain
from .paired import paired_tests, run_references
from .ranks import ranks
from .refined import refined_gain
from .summary import summary
from .trivial import BestTrivial, Group, best_trivials


class Tables(Mapping[str, pd.DataFrame]):
    """The tables of a run by name, with columns and meanings in docs/tables.md; each is computed when it is asked for.

    ``records`` may be a function that reads them, which is called when they are needed. The same records give the same
    frames in whatever order they come. The ``references`` (data set → method) of ``info``, which is ``run.json``,
    decide what paired tests compare with, and ``policy`` what counts for cells that failed or are missing.
    """

    NAMES = ("summary", "per_case", "paired_tests", "cases", "cost", "failures", "skipped", "ranks")

    def __init__(
        self,
        records: Sequence[Record] | Callable[[], Sequence[Record]],
        failures: Sequence[Failure] = (),
        skipped: Sequence[Skip] = (),
        info: Mapping[str, Any] | None = None,
        policy: Policy = "exclude",
    ) -> None:
        self._records = records
        self.info: Mapping[str, Any] = info or {}
        self.policy: Policy = policy
        self._failures, self._skipped = failures, skipped

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self.NAMES:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.NAMES)

    def __len__(self) -> int:
        return len(self.NAMES)

    @cached_property
    def records(self) -> Sequence[Record]:
        return self._records() if callable(self._records) else self._records

    @cached_property
    def facts(self) -> dict[MethodOnData, Facts]:
        return facts_of_missing(facts(self.records), self.missing)

    @cached_property
    def missing(self) -> Missing:
        return missing_cells(self.records, self._failures, self.info)

    def told_missing(self, dataset: str = "", train: str = "") -> str:
        """Say what the tables of a (dataset, train) pair, or of all, do with the cells that failed or are missing."""
        return told(self.missing, self.policy, dataset, train)

    @cached_property
    def scores(self) -> list[Scores]:
        scores = collect(self.records)
        return scores if self.policy == "exclude" else with_worst(scores, self.missing)

    @cached_property
    def best_trivials(self) -> dict[Group, BestTrivial]:
        return best_trivials(self.scores, self.facts)

    @cached_property
    def summary(self) -> pd.DataFrame:
        return summary(self.scores, self.facts, self.best_trivials)

    @cached_property
    def per_case(self) -> pd.DataFrame:
        return per_case(self.records, self.facts)

    @cached_property
    def headline_tests(self) -> pd.DataFrame:
        """Those of the paired tests that a headline table needs, which are far fewer."""
        shown = [s for s in self.scores if s.key.metric in ("dice", "slice_auroc")]
        return self._tests([s for s in shown if s.key.protocol in (*deciding(), NO_PROTOCOL)])

    @cached_property
    def paired_tests(self) -> pd.DataFrame:
        return self._tests(self.scores)

    def _tests(self, scores: Sequence[Scores]) -> pd.DataFrame:
        return paired_tests(scores, self.facts, run_references(self.records, self.info), self.best_trivials)

    @cached_property
    def cases(self) -> pd.DataFrame:
        return cases(self.records)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        return ranks(self.scores, self.facts)

    @cached_property
    def tuned(self) -> pd.DataFrame:
        """What tuning has brought; empty, and no table of the run, without rows ``METHOD@tuned`` beside ``METHOD``."""
        return tuned_gain(self.scores, self.facts)

    @cached_property
    def refined(self) -> pd.DataFrame:
        """What SAM has brought; empty, and no table of the run, without rows ``METHOD+PROMPT`` beside ``METHOD``."""
        return refined_gain(self.scores, self.facts)

    @cached_property
    def cost(self) -> pd.DataFrame:
        return cost(self.records, self.facts, self.info.get("energy_kwh", {}))

    @cached_property
    def failures(self) -> pd.DataFrame:
        failed = [f.cell.model_dump() | f.model_dump(exclude={"cell"}) for f in self._failures]
        return _listed(failed, FAILURES, ["dataset", "train", "method", "seed", "stage"], self.info)

    @cached_property
    def skipped(self) -> pd.DataFrame:
        return _listed([s.model_dump() for s in self._skipped], SKIPPED, ["dataset", "method"], self.info)


def tables_of(
    folder: RunFolder, policy: Policy | None = None, records: Callable[[], Sequence[Record]] | None = None
) -> Tables:
    """Return the tables of a run folder, whose records are read once one of them needs these.

    ``policy`` says what counts for cells that failed or are missing; None is that of its last report.
    """
    info = folder.info()
    return Tables(records or folder.records, folder.failures(), folder.skipped(), info, policy or policy_of(info))


def per_case(records: Sequence[Record], known: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return every value per case and seed."""
    frame = per_case_values(long_form(records))
    keys = list(zip(*(frame[name] for name in (*MethodOnData._fields, "protocol", "metric", "case")), strict=True))
    texts = {key: flag_text(known[MethodOnData(*key[:3])].of_number(*key[3:])) for key in set(keys)}
    frame["flags"] = [texts[key] for key in keys]
    frame["profile"] = [known[MethodOnData(*key[:3])].profile for key in keys]
    order = ["dataset", "train", "method", "seed", "patient", "case", "protocol", "metric"]
    return sort_rows(frame.reindex(columns=PER_CASE), order)


def cost(
    records: Sequence[Record], known: Mapping[MethodOnData, Facts], energy_kwh: Mapping[str, float]
) -> pd.DataFrame:
    """Return what every cell cost: seconds, MiB and kWh; ``energy_kwh`` is that of stages, by their names."""
    rows = []
    for record in records:
        spent = record.cost.model_dump()
        spent["updates"] = json.dumps(record.cost.updates, sort_keys=True) if record.cost.updates else ""
        spent["peak_gpu_mib"] = np.nan if record.cost.peak_gpu_mib is None else record.cost.peak_gpu_mib
        stages = [f"map-{record.cell.slug}", *(f"fit-{fit}" for fit in record.ids.fits)]
        spent["energy_kwh"] = sum(energy_kwh.get(stage, np.nan) for stage in stages)
        flags = flag_text({*known[MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)].flags})
        rows.append({**record.cell.model_dump(), **spent, "profile": record.profile, "flags": flags})
    return sort_rows(pd.DataFrame(rows, columns=COST), ["dataset", "train", "method", "seed"])


def _listed(rows: Sequence[dict], columns: list[str], order: Sequence[str], info: Mapping[str, Any]) -> pd.DataFrame:
    flags = "phantom" if info.get("phantom") else ""
    return sort_rows(pd.DataFrame([row | {"flags": flags} for row in rows], columns=columns), order)
