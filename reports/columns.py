"""Names and orders of tables: fixed columns first, protocols and metrics in reading order, what the marks mean."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

SUMMARY = [
    "method", "dataset", "train", "protocol", "metric", "unit", "mean", "std", "ci_low", "ci_high", "n_cases",
    "n_seeds", "n_patients", "n_undefined", "oracle_gap", "profile", "flags", "reason",
]  # fmt: skip
PER_CASE = [
    "method", "dataset", "train", "seed", "case", "patient", "protocol", "metric", "value", "profile", "flags",
    "reason",
]  # fmt: skip
PAIRED_TESTS = [
    "dataset", "train", "protocol", "metric", "unit", "method", "reference", "n", "mean_diff", "t", "p_t", "p_wilcoxon",
    "p_holm", "d_z", "ci_low", "ci_high", "p_holm_wilcoxon", "boot_low", "boot_high", "detectable", "n_zero", "flags",
    "reason",
]  # fmt: skip
COST = [
    "method", "dataset", "train", "seed", "fit_s", "score_s", "s_per_slice", "peak_ram_mib", "peak_gpu_mib", "params",
    "device", "measure_s", "threads", "precision", "updates", "profile", "flags",
]  # fmt: skip
FAILURES = ["method", "dataset", "seed", "stage", "error", "log", "train", "flags"]
SKIPPED = ["method", "dataset", "reason", "flags"]

PROTOCOLS = [
    "native", "healthy-q95", "healthy-q99", "val", "oracle", "oracle-pooled", "paper-liver", "paper-lung", "none",
]  # fmt: skip
METRICS = [
    "dice", "psc", "sen", "auroc", "ap", "slice_auroc", "slice_ap", "slice_sen", "slice_spe", "aupro", "froc",
    "bright_psc", "bright_sen", "bright_spe", "bright_auroc", "lesion_sen", "fp_components", "fp_volume_ml",
    "healthy_fp_volume_ml",
]  # fmt: skip
UNITS = ["patient", "pooled", "slice", "seed"]
ORACLES = ("oracle", "oracle-pooled", "paper-lung")

PROTOCOL_LEGEND = {
    "native": "the method's own constant",
    "healthy-q95": "the 95 % quantile of scores on held-out healthy voxels; no lesion label is used",
    "healthy-q99": "the 99 % quantile of scores on held-out healthy voxels; no lesion label is used",
    "val": "tuned with smoothing and least size on labelled validation patients; none tunes its own (cross-fitted)",
    "oracle": "tuned like val, but on the test labels: an upper bound, not a result",
    "oracle-pooled": "the threshold of the best pooled Dice on the test labels: an upper bound, not a result",
    "paper-liver": "fixed at 0.5, slices pooled on the 256² grid, as in the liver paper",
    "paper-lung": "found on the test labels by a search to two decimals, as in the lung paper: an upper bound",
    "none": "no threshold is needed",
}
FLAG_LEGEND = {
    "phantom": "synthetic data: no number here says anything about patients",
    "smoke": "smoke profile: a few training steps, no claim",
    "oracle": "threshold chosen on the test labels: an upper bound",
    "transductive": "training saw the unlabelled test set",
    "topline": "supervised: trained with lesion labels, a reference and not a competitor",
    "trivial": "learns nothing",
    "near-chance": "its card says that its map is close to chance in the literature, and why",
    "undertrained": "its card says that this profile is not better than its untrained network, and why",
    "best-trivial": "the best trivial baseline of its group",
    "below-best-trivial": "does not beat the best trivial baseline",
    "unequal-n": "fewer patients or cases than other rows of its group: means are not comparable as they stand",
    "missing-seeds": "fewer seeds than other rows of its group, or some values lack a seed",
    "few-seeds": "fewer seeds than the spread of this method between runs demands (its card says how many)",
}


def lower_is_better(metric: str) -> bool:
    """Tell metrics of error (false-positive volumes and rates) from metrics of merit."""
    return "fp_" in metric


def is_merit(metric: str) -> bool:
    """Tell metrics that rank methods from thresholds, which are recorded beside them."""
    return not metric.endswith("threshold")


def metric_name(metric: str, protocol: str) -> str:
    """Return a metric with its protocol, as tables and axes print it.

    >>> metric_name("dice", "val"), metric_name("ap", "none"), metric_name("bright_spe", "native")
    ('Dice val', 'AP', 'Bright-voxel SPE native')
    """
    upper = {"dice": "Dice", "froc": "FROC", "aupro": "AUPRO", "fp_volume_ml": "False-positive volume (ml)"}
    short = {"psc": "PSC", "sen": "SEN", "auroc": "AUROC", "ap": "AP", "spe": "SPE"}
    kind, _, rest = metric.partition("_")
    kinds = {"slice": "Slice", "bright": "Bright-voxel"}
    name = f"{kinds[kind]} {short.get(rest, rest)}" if kind in kinds else upper.get(metric, short.get(metric, metric))
    return name if protocol == "none" else f"{name} {protocol}"


def flag_text(flags: set[str]) -> str:
    """Join flags in the order of the legend."""
    order = list(FLAG_LEGEND)
    return ";".join(sorted(flags, key=lambda flag: (order.index(flag) if flag in order else len(order), flag)))


def flag_set(text: str) -> frozenset[str]:
    """Split what ``flag_text`` joined."""
    return frozenset(filter(None, text.split(";")))


def sort_rows(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sort rows by ``by``; protocols, metrics and units in reading order, unknown ones after them by name."""
    orders = {"protocol": PROTOCOLS, "metric": METRICS, "unit": UNITS}

    def key(column: pd.Series) -> pd.Series:
        order = orders.get(str(column.name))
        if order is None:
            return column
        ranks = {name: f"{i:03d}" for i, name in enumerate(order)}
        return column.map(lambda name: ranks.get(name, f"~{name}"))

    return frame.sort_values(list(by), key=key, kind="stable", ignore_index=True)
