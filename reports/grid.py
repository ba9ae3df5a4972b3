"""A printed table, independent of its format: headline, tests, cost, failures, published numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..benchmark.catalogue.published import published
from ..benchmark.protocols.catalogue import PROTOCOLS, deciding, is_oracle
from ..benchmark.scoring.metrics import NO_PROTOCOL
from .columns import flag_set, kind_marks, kind_sentences, metric_name, records_of
from .formats import NOT_AVAILABLE, bracket, fixed, number, p_value, percent, points, stars
from .headline import Headline
from .paired import SECOND_REFERENCE


@dataclass(frozen=True)
class PrintedRow:
    """One text per column; ``under`` them a smaller second line, ``hints`` where a format has room for it.

    ``kind`` is empty, ``trivial``, ``best`` (the best trivial baseline), ``below`` (does not beat it) or ``published``.
    """

    cells: tuple[str, ...]
    under: tuple[str, ...] = ()
    kind: str = ""
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrintedTable:
    """Headers, rows and the sentences below them; the first ``left`` columns hold text, the others numbers.

    Columns that are ``muted`` hold upper bounds and are printed grey.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    legend: tuple[str, ...] = ()
    left: int = 1
    muted: frozenset[int] = frozenset()


def frame_grid(
    title: str, frame: pd.DataFrame, columns: Sequence[str], headers: Sequence[str] = (), left: int | None = None
) -> PrintedTable:
    """Return the named columns of a table as they are: numbers with four digits, nothing rounded to a story."""
    rows = tuple(PrintedRow(tuple(map(_plain, row))) for row in frame[list(columns)].itertuples(index=False, name=None))
    if left is None:
        left = next((i for i, c in enumerate(columns) if pd.api.types.is_numeric_dtype(frame[c])), len(columns))
    return PrintedTable(title, tuple(headers or columns), rows, left=left)


def _plain(value: object) -> str:
    if isinstance(value, float | np.floating):
        return NOT_AVAILABLE if np.isnan(value) else f"{value:.4g}"
    return str(value)


def headline_grid(headline: Headline) -> PrintedTable:
    """Return the headline table."""
    counted = "n (cases × seeds)" if headline.slices_only else "n (patients × seeds)"
    headers = ("Method", *(headline.title_of(c) for c in headline.columns), counted)
    rows = []
    for row in headline.rows:
        entries = [row.entries[c.key] for c in headline.columns]
        cells = (row.label, *(" ".join(filter(None, [e.value, e.spread])) for e in entries))
        told = {
            "transductive",
            "topline",
            "whole-slices",
            "near-chance",
            "undertrained",
            "few-seeds",
            "untrusted-spacing",
            "quick",
            "not-converged",
            "mixed-cpu",
        }
        tags = ", ".join(sorted((row.flags & told) - headline.flags))
        under = (tags, *(e.interval for e in entries), "")
        ranks = {"best-trivial": "best", "trivial": "trivial", "below-best-trivial": "below"}
        kind = next((kind for flag, kind in ranks.items() if flag in row.flags), "")
        count = f"{(row.n_cases if headline.slices_only else row.n_patients) or NOT_AVAILABLE} × {row.n_seeds}"
        rows.append(PrintedRow((*cells, count), under, kind, ("", *(e.reason for e in entries), "")))
    muted = frozenset(i + 1 for i, c in enumerate(headline.columns) if c.muted)
    title = f"{headline.dataset}, trained on {headline.train}"
    if "phantom" in headline.flags:
        title += " (phantom)"
    return PrintedTable(title, headers, tuple(rows), tuple(headline.legend()), muted=muted)


def paired_grids(tests: pd.DataFrame, dataset: str, train: str, *, unit: str = "patient") -> list[PrintedTable]:
    """Return one table per reference and readable metric with any pair, the largest gain first."""
    readable = [*((p, "dice") for p in deciding()[:2]), (NO_PROTOCOL, "ap"), (NO_PROTOCOL, "slice_auroc")]
    part = records_of(tests, dataset=dataset, train=train, unit=unit)
    grids = []
    for reference in sorted({row["reference"] for row in part}, key=lambda name: (name == SECOND_REFERENCE, name)):
        for protocol, metric in readable:
            rows = [r for r in part if (r["reference"], r["protocol"], r["metric"]) == (reference, protocol, metric)]
            if any(row["n"] for row in rows):
                grids.append(_paired_grid(rows, reference, protocol, metric, unit))
    return grids


def _paired_grid(rows: Sequence[dict], reference: str, protocol: str, metric: str, unit: str) -> PrintedTable:
    name = metric_name(metric, protocol)
    noun = "patients" if unit == "patient" else "seeds"
    headers = (
        "Method", noun.capitalize(), "Difference", "95 % interval", "t", "p (t)", "p (Wilcoxon)", "p (Holm)",
        "d_z", "Detectable",
    )  # fmt: skip
    body = []
    for r in sorted(rows, key=lambda r: (np.isnan(r["mean_diff"]), -r["mean_diff"], r["method"])):
        cells = (
            _marked(r), str(r["n"]), points(r["mean_diff"]),
            bracket(r["ci_low"], r["ci_high"], signed=True) or NOT_AVAILABLE,
            fixed(r["t"]), p_value(r["p_t"]), p_value(r["p_wilcoxon"]),
            p_value(r["p_holm"]) + stars(r["p_holm"]), fixed(r["d_z"]),
            ">100" if r["detectable"] > 1 else percent(r["detectable"]),
        )  # fmt: skip
        body.append(PrintedRow(cells, hints=(r["reason"], *[""] * 9)))
    legend = [
        f"Difference = method − {reference}, in percentage points, over {noun}; two-sided tests; p (Holm) corrects "
        "p (t) over the methods of this table: * ≤ 0.05, ** ≤ 0.01, *** ≤ 0.001. Detectable: the smallest difference "
        "that this number of pairs finds with power 0.8."
    ]
    if is_oracle(protocol):
        legend.append("Oracle: thresholds chosen on the test labels, an upper bound.")
    if any("phantom" in flag_set(r["flags"]) for r in rows):
        legend.append("PHANTOM: synthetic data.")
    unequal = [r["method"] for r in rows if "unequal-n" in flag_set(r["flags"])]
    if unequal:
        legend.append(f"Only {noun} defined for both count; some were dropped for {', '.join(sorted(unequal))}.")
    legend += _kinds(rows)
    return PrintedTable(f"{name} against {reference}", headers, tuple(body), tuple(legend))


def cost_grid(cost: pd.DataFrame) -> PrintedTable:
    """Return cost per method and data, averaged over seeds."""
    same = dict.fromkeys(("params", "device", "threads", "precision", "flags"), "first")
    means = dict.fromkeys(("fit_s", "score_s", "s_per_slice", "energy_kwh"), "mean")
    peaks = dict.fromkeys(("peak_ram_mib", "peak_gpu_mib"), "max")
    rows = []
    grouped = cost.groupby(["dataset", "train", "method"], as_index=False).agg(same | means | peaks)
    for r in records_of(pd.DataFrame(grouped)):
        cells = (
            _marked(r), f"{r['dataset']} / {r['train']}", number(r["fit_s"]), number(r["score_s"]),
            number(1000 * r["s_per_slice"]), number(r["peak_ram_mib"]), number(r["peak_gpu_mib"]),
            number(r["energy_kwh"]), number(r["params"], 4), r["device"], f"{r['threads']} / {r['precision']}",
        )  # fmt: skip
        rows.append(PrintedRow(cells))
    headers = (
        "Method", "Data / train", "Fit (s)", "Score (s)", "ms per slice", "Peak RAM (MiB)", "Peak GPU (MiB)",
        "GPU (kWh)", "Parameters", "Device", "Threads / precision",
    )  # fmt: skip
    legend = ("Means over seeds; peaks are maxima over seeds.", *_kinds(records_of(cost)))
    return PrintedTable("Cost", headers, tuple(rows), legend, left=2)


def _marked(row: dict) -> str:
    return f"{row['method']} {kind_marks(row['flags'].split(';'))}".rstrip()


def _kinds(rows: Sequence[dict]) -> list[str]:
    return kind_sentences(flag_set(row["flags"]) for row in rows)


def failure_grid(failures: pd.DataFrame) -> PrintedTable:
    """Return the cells that failed."""
    shown = failures.assign(data=failures["dataset"] + " / " + failures["train"])
    headers = ("Method", "Data / train", "Seed", "Stage", "Error", "Log")
    return frame_grid("Failed cells", shown, ["method", "data", "seed", "stage", "error", "log"], headers, left=6)


def skipped_grid(skipped: pd.DataFrame) -> PrintedTable:
    """Return the methods that declined."""
    return frame_grid("Skipped methods", skipped, ["method", "dataset", "reason"], ("Method", "Data", "Reason"), left=3)


def published_grid(headline: Headline) -> PrintedTable | None:
    """Return published numbers for the data set; None for phantoms and sets without any."""
    quoted = published().of_page(headline.dataset)
    if not quoted or "phantom" in headline.flags:
        return None
    metrics = ["dice", *(m for m in ("psc", "sen") if any(m in row.printed for row in quoted))]
    rows = []
    for row in quoted:
        numbers = (row.printed.get(metric, NOT_AVAILABLE) for metric in metrics)
        cells = (row.name, *numbers, row.learned, row.threshold, row.source, row.caveat)
        rows.append(PrintedRow(cells, kind="published"))
    printed = (f"{metric_name(metric, NO_PROTOCOL)} as printed" for metric in metrics)
    headers = ("Method", *printed, "Learned from", "Threshold and unit", "Source", "Caveat")
    paper = next((c.protocol for c in headline.columns if PROTOCOLS[c.protocol].anatomies), None)
    closest = f" Compare with the {paper} column at most." if paper else ""
    legend = (f"For orientation: other patients, slices or thresholds.{closest}",)
    title = f"Published on {headline.dataset}, not comparable by protocol"
    return PrintedTable(title, headers, tuple(rows), legend, left=len(headers))
