"""What was run, on which data, where: the facts that the report lists after its results."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..benchmark.runs.records import Record
from .columns import made_on
from .formats import counted, number, percent
from .tables import Tables


def data_facts(records: Sequence[Record]) -> dict[str, str]:
    """Return the facts on the data of a section."""
    first = records[0].data
    found = Counter(first.roi_sources.values())
    sources = [f"{source}: {counted(n, 'case')}" for source, n in sorted(found.items())]
    healthy = sum(case.lesions == [] for case in first.facts.values())
    facts = {
        "Test cases": f"{counted(len(first.cases), 'case')} of {counted(len(set(first.patients.values())), 'patient')}"
        + (f", {healthy} without a lesion" if healthy else ""),
        "Healthy cases": f"{len(first.train_cases)} for training and calibration",
        "Region of interest": "; ".join([first.roi_source, *sources]),
        "Fingerprint of test images": _several({_digest(r.data.cases) for r in records}),
        "Fingerprint of labels": _several({_digest(r.data.truth) for r in records}),
        "Fingerprint of healthy images": _several({_digest(r.data.train_cases) for r in records}),
        "Split": _several({_digest(r.data.split) for r in records}),
    }
    if first.only:
        facts["Only"] = ", ".join(first.only)
    if first.excluded:
        facts["Left out"] = ", ".join(first.excluded)
    if first.phantom is not None:
        facts["Phantom"] = ", ".join(
            f"{k} {v}" for k, v in sorted(first.phantom.items()) if not isinstance(v, dict | list)
        )
    return facts


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def _several(digests: set[str]) -> str:
    found = ", ".join(sorted(digests))
    return found if len(digests) == 1 else f"{found}: cells were run on different data"


def run_facts(info: Mapping[str, Any], records: Sequence[Record], tables: Tables) -> dict[str, str]:
    """Return the facts on the run."""
    seeds = info.get("seeds") or sorted({r.cell.seed for r in records})
    facts = {
        "Command": str(info.get("command", "not recorded")),
        "Profile": ", ".join(sorted({r.profile for r in records})) or str(info.get("profile", "not recorded")),
        "Seeds": ", ".join(map(str, seeds)) or "none",
        "Cells": f"{len(records)} finished, {len(tables.failures)} failed",
        "Skipped": counted(len(tables.skipped), "method"),
    }
    numerics = sorted(
        {
            f"{r.cost.device}, {counted(r.cost.threads, 'thread')}, {r.cost.precision}" + ", compiled" * r.cost.compiled
            for r in records
        }
    )
    if numerics:
        facts["Computed on"] = "; ".join(numerics)
    if info.get("created"):
        facts["Started"] = str(info["created"])
    timing = info.get("timing")
    if timing:
        facts["Timing of the last call"] = ", ".join(_timed(dict(timing[-1])))
    return facts


def environment(info: Mapping[str, Any], records: Sequence[Record]) -> dict[str, str]:
    """Return what the run was made in."""
    found = info.get("environment") or (records[-1].environment if records else {})
    facts = {
        str(key): ", ".join(f"{k} {v}" for k, v in sorted(value.items())) if isinstance(value, Mapping) else str(value)
        for key, value in found.items()
    }
    return facts | instruction_sets(records)


def instruction_sets(records: Sequence[Record]) -> dict[str, str]:
    """Say which cells were made on which instruction sets, where there are several."""
    cells: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        if made_on(record):
            cells.setdefault(made_on(record), []).append(record.cell.slug)
    if len({level for levels in cells for level in levels}) < 2:
        return {}
    told = [f"{' and '.join(levels)}: {', '.join(slugs)}" for levels, slugs in cells.items()]
    return {"Several instruction sets": f"last bits may differ between cells. {'. '.join(told)}"}


def _timed(timing: Mapping[str, Any]) -> list[str]:
    shown = []
    for name, value in timing.items():
        words = name.removesuffix("_s").replace("_", " ")
        if name.endswith("share"):
            shown.append(f"{words} {percent(value)} %")
        elif isinstance(value, int | float):
            shown.append(f"{words} {number(value)}{' s' if name.endswith('_s') else ''}")
    return shown
