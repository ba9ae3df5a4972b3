"""The report: one self-contained HTML file, everything escaped, no outside resources."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..benchmark.runs.records import Record
from ..benchmark.scoring.metrics import needs_voxels
from ..common.errors import printable
from . import grid
from .columns import FLAG_LEGEND, KINDS, made_on, metric_name, records_of
from .details import details
from .figures.gallery import CAPTION
from .figures.pictures import GROUPS, Pictures
from .figures.series import SERIES_CAPTION
from .formats import bracket, counted, number, p_value, percent, points
from .gain import gain_grid
from .headline import Headline, HeadlineRow
from .paired import run_references
from .tables import Tables
from .training import NOTE, watched_trainings
from .trivial import BEST_TRIVIAL

TEMPLATES = Path(__file__).parent / "templates"
_SKIP = {"trivial", *KINDS}
_TITLES = {"transductive": "Transductive method", "topline": "Supervised top line", "whole-slices": "In whole slices"}


def render(tables: Tables, headlines: Sequence[Headline], pictures: Pictures) -> str:
    """Return the report as HTML text."""
    info, records = tables.info, tables.records
    return filled(
        "report.html.j2",
        phantom=bool(info.get("phantom")) or any("phantom" in h.flags for h in headlines),
        smoke=any("smoke" in h.flags for h in headlines),
        quick=any("quick" in h.flags for h in headlines),
        sections=[_section(h, tables, pictures) for h in headlines],
        run=_run_facts(info, records, tables),
        warnings=[str(w) for w in info.get("warnings", [])] + pictures.notes,
        methods=_method_grid(records),
        cost=grid.cost_grid(tables.cost),
        failures=grid.failure_grid(tables.failures),
        skipped=grid.skipped_grid(tables.skipped),
        environment=_environment(info, records),
        gallery_caption=CAPTION,
        series_caption=SERIES_CAPTION,
        training_note=NOTE,
        flags=FLAG_LEGEND,
    )


def filled(template: str, **values: Any) -> str:
    """Return a template's HTML text, everything escaped; a value that it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters["data_uri"] = data_uri
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(css=css, **values)


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def data_uri(path: Path) -> str:
    """Return a picture, PNG or SVG by its name, as a data URI: as the source of an image, an SVG runs no script."""
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _section(headline: Headline, tables: Tables, pictures: Pictures) -> dict[str, Any]:
    own = [r for r in tables.records if (r.cell.dataset, r.cell.train) == (headline.dataset, headline.train)]
    methods = {r.cell.method for r in own}
    tests = tables.paired_tests
    return {group: pictures.of(group, headline) for group in GROUPS} | {
        "headline": headline,
        "sentences": sentences(headline, tables.summary, tests),
        "table": grid.headline_grid(headline),
        "tests": grid.paired_grids(tests, headline.dataset, headline.train),
        "seed_tests": grid.paired_grids(tests, headline.dataset, headline.train, unit="seed"),
        "published": grid.published_grid(headline),
        "details": dict(zip(("tables", "notes"), details(headline, tables), strict=True)),
        "tuned": gain_grid(tables.tuned, headline),
        "ranking": grid.rank_grid(tables.ranks, headline),
        "training": dict(zip(("rows", "others"), watched_trainings(own), strict=True)),
        "data": _data_facts(own),
        "missing": [r for r in run_references(tables.records, tables.info)[headline.dataset] if r not in methods],
    }


def sentences(headline: Headline, summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Return two or three sentences for the top of a section; none where nothing is defined."""
    protocol, metric = headline.verdict
    name = metric_name(metric, protocol)
    unit = "patient" if needs_voxels(metric) else "slice"
    where = {"dataset": headline.dataset, "train": headline.train, "protocol": protocol, "metric": metric}
    values = {r["method"]: r for r in records_of(summary, **where, unit=unit)}
    rows = [row for row in headline.rows if row.method in values and not pd.isna(values[row.method]["mean"])]
    learned = [row for row in rows if not row.flags & _SKIP]
    trivial = next((row for row in rows if "best-trivial" in row.flags), None)
    said = []
    if learned:
        best = values[learned[0].method]
        said.append(f"Best learning method: {learned[0].method}, {name} {_value(best)}.")
    if trivial is not None:
        said.append(f"The best trivial baseline, {trivial.method}, reaches {_value(values[trivial.method])}.")
    if trivial is not None and learned:
        beaten = [row for row in learned if "below-best-trivial" not in row.flags]
        verb = "is" if len(beaten) == 1 else "are"
        said.append(f"{len(beaten)} of {counted(len(learned), 'learning method')} {verb} shown to beat it.")
    for flag, title in _TITLES.items():
        said += [f"{title} {row.method}: {_value(values[row.method])}." for row in rows if flag in row.flags]
    if learned:
        said += _tested(learned[0], headline, tests)
    return said


def _value(row: dict) -> str:
    return " ".join(filter(None, [f"{percent(row['mean'])} %", bracket(row["ci_low"], row["ci_high"])]))


def _tested(best: HeadlineRow, headline: Headline, tests: pd.DataFrame) -> list[str]:
    protocol, metric = headline.verdict
    where = {"dataset": headline.dataset, "train": headline.train, "protocol": protocol, "metric": metric}
    said = []
    rows = records_of(tests, **where, unit="patient", method=best.method)
    for row in sorted(rows, key=lambda r: grid.reference_order(r["reference"])):
        pair = f"{best.method} against {'the best trivial' if row['reference'] == BEST_TRIVIAL else row['reference']}"
        if pd.isna(row["p_holm_crossed"]):
            said.append(f"{pair}: {points(row['mean_diff'])} points, no test ({row['reason'] or 'undefined'}).")
            continue
        detects = "too few patients to detect any difference that this metric can show"
        if not row["detectable_crossed"] > 1:
            detects = f"a sample of this size and spread detects {percent(row['detectable_crossed'])} points and more"
        alone = f"p {_equals(row['p_crossed'])}"
        if shown := bracket(row["crossed_low"], row["crossed_high"], signed=True):
            alone = f"interval {shown}, {alone}"
        said.append(
            f"{pair}: {points(row['mean_diff'])} points, {counted(row['n'], 'patient')}; alone {alone}; among "
            f"{counted(row['n_family'], 'method')} p {_equals(row['p_holm_crossed'])} after Holm; {detects}."
        )
    return said


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _data_facts(records: Sequence[Record]) -> dict[str, str]:
    first = records[0].data
    found = Counter(first.roi_sources.values())
    sources = [f"{source}: {counted(n, 'case')}" for source, n in sorted(found.items())]
    facts = {
        "Test cases": f"{counted(len(first.cases), 'case')} of {counted(len(set(first.patients.values())), 'patient')}",
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


def _run_facts(info: Mapping[str, Any], records: Sequence[Record], tables: Tables) -> dict[str, str]:
    seeds = info.get("seeds") or sorted({r.cell.seed for r in records})
    facts = {
        "Command": str(info.get("command", "not recorded")),
        "Profile": ", ".join(sorted({r.profile for r in records})) or str(info.get("profile", "not recorded")),
        "Seeds": ", ".join(map(str, seeds)) or "none",
        "Cells": f"{len(records)} finished, {len(tables.failures)} failed",
        "Skipped": counted(len(tables.skipped), "method"),
    }
    numerics = sorted({f"{r.cost.device}, {counted(r.cost.threads, 'thread')}, {r.cost.precision}" for r in records})
    if numerics:
        facts["Computed on"] = "; ".join(numerics)
    if info.get("created"):
        facts["Started"] = str(info["created"])
    timing = info.get("timing")
    if timing:
        facts["Timing of the last call"] = ", ".join(_timed(dict(timing[-1])))
    return facts


def _environment(info: Mapping[str, Any], records: Sequence[Record]) -> dict[str, str]:
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


def _method_grid(records: Sequence[Record]) -> grid.PrintedTable:
    rows: dict[tuple[str, ...], None] = {}
    for r in sorted(records, key=lambda r: (r.cell.dataset, r.cell.train, r.cell.method, r.cell.seed)):
        info = r.method
        told = "; ".join(f"{name}: {text}" for name, text in r.provenance.items())
        data = f"{r.cell.dataset} / {r.cell.train}"
        rows[
            r.cell.method, data, info.title, info.family, str(info.year or ""), _learned_from(r), r.isolation, told
        ] = None
    headers = ("Method", "Data / train", "Title", "Family", "Year", "Learned from", "Wall", "Provenance")
    return grid.PrintedTable("Methods", headers, tuple(grid.PrintedRow(row) for row in rows), left=len(headers))


def _learned_from(record: Record) -> str:
    """Say what training saw: healthy scans, the unlabelled test scans, or which lesion labels."""
    labels = record.labels
    if labels is not None and labels.training == "cross-fit":
        return f"lesion labels of {', '.join(labels.sets)}, cross-fitted in {counted(len(labels.folds), 'fold')}"
    if labels is not None:
        return f"lesion labels of {', '.join(labels.sets)}, none of {record.cell.dataset}"
    if record.method.trivial:
        return "nothing"
    if record.method.uses == "unlabelled-test":
        return "healthy scans and the unlabelled test scans (transductive)"
    return {"healthy": "healthy scans"}.get(record.method.uses, "not recorded")
