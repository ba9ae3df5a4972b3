"""A printed table, independent of its format: headline, tests, cost, failures, published numbers."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..benchmark.catalogue.published import published
from ..benchmark.protocols.catalogue import PROTOCOLS, deciding, is_oracle
from ..benchmark.scoring.metrics import NO_PROTOCOL, needs_voxels
from .columns import flag_set, kind_marks, kind_sentences, metric_name, records_of
from .formats import NOT_AVAILABLE, bracket, fixed, number, p_value, percent, points, stars
from .headline import NOT_COMPARED, Headline, HeadlineNumber, HeadlineRow
from .legends import BANNERS, family, interval_sentences
from .paired import SECOND_REFERENCE
from .trivial import BEST_TRIVIAL


@dataclass(frozen=True)
class PrintedRow:
    """One text per column; ``under`` them a smaller second line, ``hints`` where a format has room for it.

    ``kind`` is empty, ``winner``, ``trivial``, ``best`` (the best trivial baseline), ``below`` (does not beat it) or
    ``published``.
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


_TOLD = {
    "transductive", "overlap", "labels-elsewhere", "topline", "whole-slices", "refined", "near-chance", "undertrained",
    "few-seeds", "untrusted-spacing", "quick", "not-converged", "mixed-cpu",
}  # fmt: skip


def tags_of(row: HeadlineRow, headline: Headline) -> str:
    """Return the flags that stand below a method's name: those that not all rows share."""
    return ", ".join(sorted((row.flags & _TOLD) - headline.flags))


def headline_grid(headline: Headline) -> PrintedTable:
    """Return the headline table."""
    counted = "n (cases × seeds)" if headline.slices_only else "n (patients × seeds)"
    headers = ("Method", *(headline.title_of(c) for c in headline.columns), counted)
    rows = []
    for row in [*headline.rows, *([headline.chance] if headline.chance else [])]:
        entries = [row.entries[c.key] for c in headline.columns]
        cells = (row.label, *(" ".join(filter(None, [e.value, e.spread])) for e in entries))
        tags = tags_of(row, headline)
        under = (tags, *(e.interval for e in entries), "")
        kind = "winner" if row is headline.winner else kind_of(row.flags)
        count = f"{(row.n_cases if headline.slices_only else row.n_patients) or NOT_AVAILABLE} × {row.n_seeds}"
        count = "" if row is headline.chance else count
        rows.append(PrintedRow((*cells, count), under, kind, ("", *(e.reason for e in entries), "")))
    muted = frozenset(i + 1 for i, c in enumerate(headline.columns) if c.muted)
    title = f"{headline.dataset}, trained on {headline.train}"
    if "phantom" in headline.flags:
        title += " (phantom)"
    return PrintedTable(title, headers, tuple(rows), tuple(headline.legend()), muted=muted)


def kind_of(flags: Container[str]) -> str:
    """Return the kind of a row with these flags that did not win."""
    kinds = {"best-trivial": "best", "trivial": "trivial", "below-best-trivial": "below"}
    return next((kind for flag, kind in kinds.items() if flag in flags), "")


def compact_grid(headline: Headline) -> PrintedTable:
    """Return what a paper has room for: the metric that orders the rows with its interval, what † rests on, AP, n."""
    shown = [c for c in headline.columns if not c.against]
    first = next(c for c in shown if (c.protocol, c.metric) == headline.verdict)
    others = [c for c in shown if c.key in ("ap", "auroc", "slice_ap", "slice_auroc_patient") and c is not first]
    tested = [c for c in headline.columns if c.against == BEST_TRIVIAL]
    rows = []
    for row in [*headline.rows, *([headline.chance] if headline.chance else [])]:
        entry, n = row.entries[first.key], row.n_cases if headline.slices_only else row.n_patients
        count = "" if row is headline.chance else f"{n or NOT_AVAILABLE} × {row.n_seeds}"
        ps = (_p_alone(row.entries[c.key]) for c in tested)
        values = (row.entries[c.key].value for c in others)
        cells = (row.label, entry.value, entry.interval, *ps, *values, count)
        rows.append(PrintedRow(cells, kind="winner" if row is headline.winner else ""))
    units = "cases" if headline.slices_only else "patients"
    over_trivial = ["p over trivial"] if tested else []
    headers = (
        "Method", first.title, "95 % interval", *over_trivial, *(c.title for c in others), f"n ({units} × seeds)"
    )  # fmt: skip
    marks = {
        "◆": "best trivial baseline", "†": "not shown to beat every trivial baseline (p > 0.05 or no gain)",
        "‡": "slice AUROC not shown to exceed what the area of the region of interest reaches alone",
        "≠": "fewer patients or seeds than other rows",
    }  # fmt: skip
    used = {mark: told for mark, told in marks.items() if any(mark in row.marks for row in headline.rows)}
    told = "; ".join(f"{mark} {told}" for mark, told in used.items())
    legend = [
        *(text for flag, text in BANNERS.items() if flag in headline.flags),
        " ".join(filter(None, ["Per cent; 95 % intervals for new patients and seeds.", told and f"{told}."])),
        headline.corrected(*(mark for mark in headline.families if mark in used or (tested and mark == "†"))),
        *kind_sentences(row.flags for row in headline.rows),
        headline.missing,
        *interval_sentences(row.cells[2] for row in rows),
        *headline.cautions,
    ]
    phantom = " (phantom)" if "phantom" in headline.flags else ""
    title = f"{first.title}, {headline.dataset}, trained on {headline.train}{phantom}"
    return PrintedTable(title, headers, tuple(rows), tuple(filter(None, legend)))


def _p_alone(entry: HeadlineNumber) -> str:
    return entry.interval.removeprefix("p ") or ("" if entry.reason == NOT_COMPARED else NOT_AVAILABLE)


def paired_grids(tests: pd.DataFrame, headline: Headline, *, unit: str = "patient") -> list[PrintedTable]:
    """Return one table per reference and readable metric with any pair, the largest gain first."""
    readable = [*((p, "dice") for p in deciding()[:2]), (NO_PROTOCOL, "ap"), (NO_PROTOCOL, "slice_auroc")]
    part = records_of(tests, dataset=headline.dataset, train=headline.train, unit=unit)
    grids = []
    for reference in sorted({row["reference"] for row in part}, key=reference_order):
        for protocol, metric in readable:
            rows = [r for r in part if (r["reference"], r["protocol"], r["metric"]) == (reference, protocol, metric)]
            if any(row["n"] for row in rows):
                grid = _paired_grid(rows, reference, protocol, metric, unit)
                grids.append(replace(grid, legend=(*grid.legend, *filter(None, [headline.missing]))))
    return grids


def _paired_grid(rows: Sequence[dict], reference: str, protocol: str, metric: str, unit: str) -> PrintedTable:
    name = metric_name(metric, protocol)
    noun, crossed = ("patients", True) if unit == "patient" else ("seeds", False)
    body = []
    for r in sorted(rows, key=lambda r: (np.isnan(r["mean_diff"]), -r["mean_diff"], r["method"])):
        cells = _crossed_cells(r) if crossed else _seed_cells(r)
        body.append(PrintedRow((_marked(r), *cells.values()), hints=(r["reason"], *[""] * len(cells))))
    headers = ("Method", *(_crossed_cells(rows[0]) if crossed else _seed_cells(rows[0])))
    main = "the crossed test (patients and seeds random)" if crossed else "the t-test over seeds as printed"
    methods = family(rows, "p_holm_crossed" if crossed else "p_holm") or "no method"
    legend = [
        f"Difference = method − {_named(reference)}, in percentage points, over {noun}; two-sided tests; p (Holm) "
        f"corrects {main} over {methods}: * ≤ 0.05, ** ≤ 0.01, *** ≤ 0.001; intervals are not corrected. "
        "Detectable: the smallest difference that a sample of this size and spread finds with power 0.8."
    ]
    if crossed:
        legend.append(
            "p (t) and p (Wilcoxon) take the seeds run as given. False claim: probability that the sign of the "
            "difference is wrong. Same: probability that the two differ by less than a point (Bayesian signed-rank "
            "test)."
        )
    if reference == BEST_TRIVIAL:
        legend.append(
            "Difference: to the baseline that is best on all other patients, so that no patient decides for itself. p: "
            "of beating every trivial baseline, the largest of the single ones; 1 without a gain."
        )
    mute = {r["method"]: r["least_p_holm_wilcoxon"] for r in rows if "wilcoxon-mute" in flag_set(r["flags"])}
    if crossed and mute:
        named = "" if len(mute) == len(rows) else f" of {', '.join(sorted(mute))}"
        legend.append(
            f"Corrected, p (Wilcoxon){named} cannot fall below {p_value(min(mute.values()))} with so few {noun} and so "
            "many methods."
        )
    if is_oracle(protocol):
        legend.append("Oracle: thresholds chosen on the test labels, an upper bound.")
    if any("phantom" in flag_set(r["flags"]) for r in rows):
        legend.append("PHANTOM: synthetic data.")
    for flag, told in (
        ("unequal-n", f"Only {noun} defined for both count; some were dropped for"),
        ("few-seeds", "How seeds differ is not known, for there are too few, of the pair of"),
    ):
        named = [r["method"] for r in rows if flag in flag_set(r["flags"])]
        if named:
            legend.append(f"{told} {', '.join(sorted(named))}.")
    legend += _kinds(rows)
    title = f"{name} against {_named(reference)}" + ("" if crossed else ", over seeds")
    return PrintedTable(title, headers, tuple(body), tuple(legend))


def reference_order(name: str) -> tuple[bool, bool, str]:
    """Sort references: those fixed beforehand, the best trivial baseline, ``draem``."""
    return name == SECOND_REFERENCE, name == BEST_TRIVIAL, name


def _named(reference: str) -> str:
    return "the best trivial baseline" if reference == BEST_TRIVIAL else reference


def _crossed_cells(r: dict) -> dict[str, str]:
    return {
        "Patients": str(r["n"]),
        "Difference": points(r["mean_diff"]),
        "95 % interval": bracket(r["crossed_low"], r["crossed_high"], signed=True) or NOT_AVAILABLE,
        "p": p_value(r["p_crossed"]),
        "p (Holm)": p_value(r["p_holm_crossed"]) + stars(r["p_holm_crossed"]),
        "False claim": p_value(r["p_false_claim"]),
        "Same": p_value(r["p_same"]),
        "p (t)": p_value(r["p_t"]),
        "p (Wilcoxon)": p_value(r["p_wilcoxon"]),
        "d_z": fixed(r["d_z"]),
        "Detectable": _detectable(r["detectable_crossed"]),
    }


def _seed_cells(r: dict) -> dict[str, str]:
    return {
        "Seeds": str(r["n"]),
        "Difference": points(r["mean_diff"]),
        "95 % interval": bracket(r["ci_low"], r["ci_high"], signed=True) or NOT_AVAILABLE,
        "t": fixed(r["t"]),
        "p (t)": p_value(r["p_t"]),
        "p (Wilcoxon)": p_value(r["p_wilcoxon"]),
        "p (Holm)": p_value(r["p_holm"]) + stars(r["p_holm"]),
        "Detectable": _detectable(r["detectable"]),
    }


def _detectable(difference: float) -> str:
    return ">100" if difference > 1 else percent(difference)


def rank_grid(ranks: pd.DataFrame, headline: Headline) -> PrintedTable | None:
    """Return how surely the methods of a headline table are ranked; None where nothing ranks them."""
    protocol, metric = headline.verdict
    rows = records_of(ranks, dataset=headline.dataset, train=headline.train, protocol=protocol, metric=metric)
    units = ("patient",) if needs_voxels(metric) else ("slice", "pooled", "patient")
    unit = next((unit for unit in units if any(r["unit"] == unit for r in rows)), "")
    rows = [r for r in rows if r["unit"] == unit and not np.isnan(r["p_rank1"])]
    if not rows:
        return None
    body = []
    for r in rows:
        between = f"{r['rank_low']:g} – {r['rank_high']:g}"
        body.append(PrintedRow((_marked(r), percent(r["mean"]), f"{r['rank']:g}", between, percent(r["p_rank1"], 0))))
    name, n = metric_name(metric, protocol), rows[0]["n_patients"]
    legend = (
        f"{len(rows)} competitors ranked by mean {name} over the {n} patients that all have, 2000 times on resampled "
        "patients and, for each method apart, seeds. Agreement of these rankings with the one printed (Kendall's τ): "
        f"{fixed(rows[0]['kendall_tau'])}.",
        *filter(None, [headline.missing]),
    )
    headers = ("Method", f"{name}, %", "Rank", "95 % of ranks", "P(rank 1), %")
    return PrintedTable(f"How surely methods are ranked by {name}", headers, tuple(body), legend)


def cost_grid(cost: pd.DataFrame, missing: str) -> PrintedTable:
    """Return cost per method and data, averaged over seeds; ``missing`` names the cells that have none."""
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
    means = "Means over the seeds that are there; peaks are maxima over them."
    legend = (means, *filter(None, [missing]), *_kinds(records_of(cost)))
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
