"""What a set with slice labels only can tell."""

from __future__ import annotations

SLICE_LABELS_ONLY = "the set has slice labels only"
SLICE_METRICS = ("slice_auroc", "slice_ap", "slice_sen", "slice_spe")
