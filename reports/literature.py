"""Published numbers to print beside ours, each with what keeps it from being comparable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A number as printed by its source.

    Attributes:
        value: in percent, with its spread where printed.
        supervision: what the method learned from.
        protocol: how threshold and unit were chosen, as far as the source tells.
        caveat: why the number differs from ours by protocol alone.
    """

    method: str
    source: str
    metric: str
    value: str
    supervision: str
    protocol: str
    caveat: str


_LIVER_PAPER = "Zhang, Deng & Li 2023, Table 1"
_COPIED = "copied by that table from the original paper"

_LITS = (
    Published("two-stage", _LIVER_PAPER, "dice", "53.03 ± 1.78", "healthy scans", "fixed 0.5, pooled slices at 256²",
              "spread over 3 runs; folds by slice, not by patient"),
    Published("two-stage", "Zhang, Deng & Li 2023, released code's read-me", "dice", "55.6", "healthy scans",
              "fixed 0.5, pooled slices at 256²", "one run; slice AUROC 77.7"),
    Published("draem", _LIVER_PAPER, "dice", "14.75", "healthy scans", "fixed 0.5, pooled slices at 256²",
              "± 14.28 over 3 runs (Table 2); the released code's read-me says 10.55; very unstable over epochs"),
    Published("synthesis by layer decomposition", f"Zhang et al. 2021, in {_LIVER_PAPER}", "dice", "40.78",
              "synthetic lesions", "own, 3D", f"{_COPIED}; its read-me says 41.08"),
    Published("ASC-Net", f"Dey & Hong 2021, in {_LIVER_PAPER}", "dice", "32.24", "healthy and unlabelled lesion scans",
              "own", f"{_COPIED}; transductive; 50.23 with hand-made post-processing"),
    Published("label-free tumours", f"Hu et al. 2023, in {_LIVER_PAPER}", "dice", "59.77", "synthetic tumours",
              "own, 3D", f"{_COPIED}; some healthy LiTS scans in training"),
    Published("supervised network", f"Zhang et al. 2021, in {_LIVER_PAPER}", "dice", "61.91", "lesion labels",
              "own, 3D", f"{_COPIED}; a top line"),
)  # fmt: skip

PUBLISHED: dict[str, tuple[Published, ...]] = {"lits": _LITS}
"""Data set → published numbers. None of them follows a protocol of this benchmark on the same slices and patients."""
