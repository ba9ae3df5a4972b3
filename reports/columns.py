"""What tables share: fixed columns, the order of protocols and metrics, the facts and flags behind a number."""

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from ..benchmark.convergence import mean_ratios, verdict_on
from ..benchmark.protocols.catalogue import PROTOCOLS, is_oracle, slice_quantiles
from ..benchmark.refinement.prompts import base_of
from ..benchmark.runs.records import UNCHECKED, MethodInfo, Record
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL

SUMMARY = [
    "method", "dataset", "train", "protocol", "metric", "unit", "mean", "std", "ci_low", "ci_high", "n_cases",
    "n_seeds", "n_patients", "n_undefined", "oracle_gap", "profile", "flags", "reason", "diff_best_trivial",
    "p_best_trivial", "p_area_alone",
]  # fmt: skip
PER_CASE = [
    "method", "dataset", "train", "seed", "case", "patient", "protocol", "metric", "value", "profile", "flags",
    "reason",
]  # fmt: skip
PAIRED_TESTS = [
    "dataset", "train", "protocol", "metric", "unit", "method", "reference", "n", "mean_diff", "t", "p_t", "p_wilcoxon",
    "p_holm", "d_z", "ci_low", "ci_high", "p_holm_wilcoxon", "boot_low", "boot_high", "detectable", "n_zero", "flags",
    "reason", "p_crossed", "df_crossed", "crossed_low", "crossed_high", "p_holm_crossed", "n_family", "p_false_claim",
    "detectable_crossed", "least_p_holm_wilcoxon", "p_worse", "p_same", "p_better",
]  # fmt: skip
RANKS = [
    "dataset", "train", "protocol", "metric", "unit", "method", "n_patients", "n_methods", "mean", "rank", "rank_low",
    "rank_high", "p_rank1", "kendall_tau", "flags",
]  # fmt: skip
COST = [
    "method", "dataset", "train", "seed", "fit_s", "score_s", "s_per_slice", "peak_ram_mib", "peak_gpu_mib", "params",
    "device", "measure_s", "threads", "precision", "updates", "energy_kwh", "profile", "flags",
    "compiled",
]  # fmt: skip
CASES = [
    "dataset", "case", "patient", "slices", "lesion_slices", "spacing_z", "spacing_y", "spacing_x", "spacing_source",
    "spacing_trusted", "orientation_source", "organ_ml", "lesion_ml", "n_lesions", "noise_hu", "contrast_hu",
    "contrast_noise", "flags", "reason",
]  # fmt: skip
FAILURES = ["method", "dataset", "seed", "stage", "error", "log", "train", "flags"]
SKIPPED = ["method", "dataset", "reason", "flags"]

GROUP = ["dataset", "train", "protocol", "metric", "unit"]
ORDER = {
    "summary": [*GROUP, "method"],
    "paired_tests": [*GROUP, "reference", "method"],
    "ranks": [*GROUP, "rank", "method"],
    "tuned": [*GROUP, "method"],
    "refined": [*GROUP, "method"],
}
"""What the rows of the tables that are made of scores are sorted by."""

CONVERGING = ("standard", "paper")
UNITS = ["patient", "pooled", "slice", "seed"]
FLAG_LEGEND = {
    "phantom": "synthetic data: no number here says anything about patients",
    "planted": "synthetic lesions in healthy scans, on which settings are chosen: no number is about patients' lesions",
    "smoke": "smoke profile: a few training steps, no claim",
    "quick": "quick profile: a plumbing test, networks have barely learned",
    "oracle": "threshold chosen on the test labels: an upper bound",
    "transductive": "training saw the unlabelled test set",
    "overlap": "the weights it started from had seen scans of the test set",
    "labels-elsewhere": "trained with masks of lesions or other anomalies of other data sets",
    "topline": "supervised: trained with lesion labels, a reference and not a competitor",
    "whole-slices": "measured in whole slices and not inside the organ: not comparable with other rows",
    "refined": "SAM drew its native masks on the map of another row, whose other numbers it repeats",
    "trivial": "learns nothing",
    "unchecked": "its record or its maps are of an earlier version without digests: nobody knows whether they changed",
    "near-chance": "its card says that its map is close to chance in the literature, and why",
    "undertrained": "its card says that its quick profile is not better than its untrained network, and why",
    "not-converged": "the loss on held-out healthy patients was still falling when training ended, averaged over fits",
    "best-trivial": "the best trivial baseline of its group, for most patients the best on all the others",
    "below-best-trivial": "not shown to beat the best trivial baseline: crossed test, after Holm",
    "small-n": "fewer than 50 patients: intervals and tests depend on the shape of the values",
    "skewed": "so skewed for the number of patients that the interval covers less than it says",
    "seeds-only": "its interval is over seeds alone: the records lack values without each patient (bench rescore)",
    "wilcoxon-mute": "with so few pairs and so many methods p_holm_wilcoxon cannot fall to 0.05",
    "tied-quantile": "ties: far fewer healthy voxels than asked for lie above the healthy quantile",
    "area-alone": "slice AUROC not shown to exceed what the area of the region of interest reaches alone",
    "unequal-n": "fewer patients or cases than other rows of its group: means are not comparable as they stand",
    "failed-cells": "some of its cells failed or are missing: left out, or counted as worst (option `--failures`)",
    "missing-seeds": "fewer seeds than other rows of its group, or some values lack a seed",
    "untrusted-spacing": "tuned or counted in mm or ml where the spacing of a scan is not trusted (lost header)",
    "mixed-cpu": "its cells were made on several instruction sets of processors: last bits may differ between them",
    "few-seeds": "fewer seeds than its card asks for, or a single one, whose spread is unknown",
}
SMALL_N = 50

# What is no competitor of a method that learns from healthy scans alone: the marks that follow its name.
KINDS = {
    "topline": "§ supervised top line: it learned from lesion labels, and is a reference.",
    "transductive": "¶ its training saw the test scans, without labels.",
    "overlap": "º the weights it started from had seen the test set.",
    "labels-elsewhere": "ª it learned from masks of anomalies of other data sets.",
    "whole-slices": "¤ measured in whole slices and not inside the organ: another question.",
    "refined": "ˢ SAM drew its native masks on the map of another row, whose other numbers it repeats.",
}


def metric_name(metric: str, protocol: str) -> str:
    """Return a metric with its protocol, as tables and axes print it.

    >>> metric_name("dice", "val"), metric_name("ap", "none"), metric_name("bright_spe", "native")
    ('Dice val', 'AP', 'Bright-voxel SPE native')
    """
    name = METRICS[metric].title if metric in METRICS else metric
    return name if protocol == NO_PROTOCOL else f"{name} {protocol}"


def flag_text(flags: set[str]) -> str:
    """Join flags in the order of the legend."""
    order = list(FLAG_LEGEND)
    return ";".join(sorted(flags, key=lambda flag: (order.index(flag) if flag in order else len(order), flag)))


def flag_set(text: str) -> frozenset[str]:
    """Split what ``flag_text`` joined."""
    return frozenset(filter(None, text.split(";")))


def sort_rows(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sort rows by ``by``; protocols, metrics and units in reading order, unknown ones after them by name."""
    orders = {"protocol": list(PROTOCOLS), "metric": list(METRICS), "unit": UNITS}

    def key(column: pd.Series) -> pd.Series:
        order = orders.get(str(column.name))
        if order is None:
            return column
        ranks = {name: f"{i:03d}" for i, name in enumerate(order)}
        return column.map(lambda name: ranks.get(name, f"~{name}"))

    return frame.sort_values(list(by), key=key, kind="stable", ignore_index=True)


def kind_marks(flags: Container[str]) -> str:
    """Return the marks of a method with these flags, the same in every table and figure."""
    return "".join(sentence[0] for flag, sentence in KINDS.items() if flag in flags)


def kind_sentences(flags_of_rows: Iterable[Container[str]]) -> list[str]:
    """Return the sentences that explain the marks of some rows."""
    rows = list(flags_of_rows)
    return [sentence for flag, sentence in KINDS.items() if any(flag in flags for flags in rows)]


def records_of(frame: pd.DataFrame, **where: str) -> list[dict]:
    """Return the rows of a frame with these values as dictionaries."""
    for name, value in where.items():
        frame = frame.loc[frame[name] == value, :]
    return frame.to_dict("records")


class MethodOnData(NamedTuple):
    """Which method on which data, over all seeds."""

    method: str
    dataset: str
    train: str


class Facts(NamedTuple):
    """What the tables say about a method beside its numbers.

    ``untrusted`` are cases whose spacing is not trusted, ``tied`` protocols whose quantile of healthy scores has ties.
    """

    method: MethodInfo
    profile: str
    flags: frozenset[str]
    untrusted: frozenset[str] = frozenset()
    tied: frozenset[str] = frozenset()

    def few_seeds(self, n: int) -> bool:
        """Tell whether ``n`` seeds are fewer than the card asks for, or too few to know how seeds differ."""
        return n < self.method.min_seeds or (n == 1 and not self.method.deterministic)

    def of_number(self, protocol: str, metric: str, case: str | None = None) -> set[str]:
        """Return the flags of a number, of one case or of all: those of its method, its protocol and its metric."""
        flags = {*self.flags}
        if is_oracle(protocol):
            flags.add("oracle")
        tuned = protocol in PROTOCOLS and PROTOCOLS[protocol].post_processes
        counted = metric in METRICS and METRICS[metric].in_mm
        if self.untrusted and (tuned or (counted and (case is None or case in self.untrusted))):
            flags.add("untrusted-spacing")
        if protocol in self.tied:
            flags.add("tied-quantile")
        return flags


def facts(records: Sequence[Record]) -> dict[MethodOnData, Facts]:
    """Return the facts of every method; a flag counts when any of its records has it.

    Whether its training was still falling is judged over all its fits (:func:`..benchmark.convergence.mean_ratios`).
    """
    together: dict[MethodOnData, list[Record]] = {}
    for record in records:
        cell = record.cell
        together.setdefault(MethodOnData(cell.method, cell.dataset, cell.train), []).append(record)
    found: dict[MethodOnData, Facts] = {}
    for where, own in together.items():
        flags = frozenset[str]().union(*map(record_flags, own))
        ratios = mean_ratios(fit for record in own if record.profile in CONVERGING for fit in record.convergence)
        if any(verdict_on(ratio) == "falling" for ratio in ratios.values()):
            flags |= {"not-converged"}
        if len({made_on(record) for record in own} - {()}) > 1 or any(len(made_on(record)) > 1 for record in own):
            flags |= {"mixed-cpu"}
        untrusted = {case for record in own for case, trust in record.data.trust.items() if not trust.spacing_trusted}
        tied = frozenset[str]().union(*map(_tied, own))
        found[where] = Facts(own[-1].method, own[-1].profile, flags, frozenset(untrusted), tied)
    return found


def _tied(record: Record) -> set[str]:
    """Return the protocols of quantiles of which less than four fifths of the share asked for lies above them."""
    asked, stored = slice_quantiles(), {t.protocol: t.quantile for t in record.thresholds if t.quantile is not None}
    return {p for p, share in stored.items() if p in asked and 1 - share < 0.8 * (1 - asked[p])}


def made_on(record: Record) -> tuple[str, ...]:
    """Return the instruction sets on which a cell was fitted and mapped; none where that is not recorded."""
    return tuple(record.environment.get("made_on", ()))


def record_flags(record: Record) -> set[str]:
    """Return the flags that hold for every number of a record."""
    method = record.method
    holds = {
        "phantom": record.data.phantom is not None,
        "planted": record.data.planted,
        "smoke": record.profile == "smoke",
        "quick": record.profile == "quick",
        "transductive": method.uses == "unlabelled-test",
        "overlap": method.overlap != "none",
        "labels-elsewhere": bool(method.labels_elsewhere),
        "topline": method.uses == "labels" or method.supervision == "full",
        "whole-slices": method.region == "slices",
        "refined": base_of(record.cell.method) is not None,
        "trivial": method.trivial,
        "unchecked": UNCHECKED in record.environment,
        "near-chance": method.near_chance,
        "undertrained": method.undertrained and record.profile in ("smoke", "quick"),
    }
    return {flag for flag, held in holds.items() if held}
