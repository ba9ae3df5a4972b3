"""Every table of a run as a pandas frame: pure functions of the records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..benchmark.runs.folder import RunFolder
from ..benchmark.runs.records import Failure, Record, Skip
from ..benchmark.scores import Scores, collect, per_case_values
from .columns import COST, FAILURES, PER_CASE, SKIPPED, Facts, MethodOnData, facts, flag_text, sort_rows
from .paired import paired_tests, run_references
from .summary import summary


@dataclass(frozen=True)
class Tables:
    """The tables of a run, with columns and meanings in docs/tables.md, and what they were computed from."""

    info: Mapping[str, Any]
    records: Sequence[Record]
    scores: Sequence[Scores]
    facts: Mapping[MethodOnData, Facts]
    summary: pd.DataFrame
    per_case: pd.DataFrame
    paired_tests: pd.DataFrame
    cost: pd.DataFrame
    failures: pd.DataFrame
    skipped: pd.DataFrame

    def items(self) -> list[tuple[str, pd.DataFrame]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, pd.DataFrame)]


def make_tables(
    records: Sequence[Record],
    failures: Sequence[Failure] = (),
    skipped: Sequence[Skip] = (),
    info: Mapping[str, Any] | None = None,
) -> Tables:
    """Compute every table; the same records give the same frames in whatever order they come.

    The ``references`` (data set → method) of ``info``, which is ``run.json``, decide what paired tests compare with.
    """
    info, known, scores = info or {}, facts(records), collect(records)
    failed = [f.cell.model_dump() | f.model_dump(exclude={"cell"}) for f in failures]
    return Tables(
        info,
        records,
        scores,
        known,
        summary=summary(scores, known),
        per_case=per_case(records, known),
        paired_tests=paired_tests(scores, known, run_references(records, info)),
        cost=cost(records, known),
        failures=_listed(failed, FAILURES, ["dataset", "train", "method", "seed", "stage"], info),
        skipped=_listed([s.model_dump() for s in skipped], SKIPPED, ["dataset", "method"], info),
    )


def tables_of(folder: RunFolder) -> Tables:
    """Compute every table of a run folder."""
    return make_tables(folder.records(), folder.failures(), folder.skipped(), folder.info())


def summary_of(folder: RunFolder) -> pd.DataFrame:
    """Compute the summary of a run folder alone."""
    records = folder.records()
    return summary(collect(records), facts(records))


def per_case(records: Sequence[Record], known: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return every value per case and seed."""
    frame = per_case_values(records)
    keys = list(zip(*(frame[name] for name in (*MethodOnData._fields, "protocol", "metric", "case")), strict=True))
    texts = {key: flag_text(known[MethodOnData(*key[:3])].of_number(*key[3:])) for key in set(keys)}
    frame["flags"] = [texts[key] for key in keys]
    frame["profile"] = [known[MethodOnData(*key[:3])].profile for key in keys]
    order = ["dataset", "train", "method", "seed", "patient", "case", "protocol", "metric"]
    return sort_rows(frame.reindex(columns=PER_CASE), order)


def cost(records: Sequence[Record], known: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return what every cell cost: seconds and MiB."""
    rows = []
    for record in records:
        spent = record.cost.model_dump()
        spent["updates"] = json.dumps(record.cost.updates, sort_keys=True) if record.cost.updates else ""
        spent["peak_gpu_mib"] = np.nan if record.cost.peak_gpu_mib is None else record.cost.peak_gpu_mib
        flags = flag_text({*known[MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)].flags})
        rows.append({**record.cell.model_dump(), **spent, "profile": record.profile, "flags": flags})
    return sort_rows(pd.DataFrame(rows, columns=COST), ["dataset", "train", "method", "seed"])


def _listed(rows: Sequence[dict], columns: list[str], order: Sequence[str], info: Mapping[str, Any]) -> pd.DataFrame:
    flags = "phantom" if info.get("phantom") else ""
    return sort_rows(pd.DataFrame([row | {"flags": flags} for row in rows], columns=columns), order)
