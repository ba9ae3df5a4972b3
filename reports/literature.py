"""Published numbers to print beside ours, each with what keeps it from being comparable."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A number as printed by its source.

    Attributes:
        value: the metric in percent, with its spread where printed; ``psc`` and ``sen`` likewise, empty if not printed.
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
    psc: str = ""
    sen: str = ""


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

_LUNG_PAPER = "Yao et al. 2021, Table III"
_VOLUMES = "mean ± std over volumes"
_ORACLE = f"oracle threshold per data set to two decimals; {_VOLUMES}"
_RECONSTRUCTION = "an upper bound: the threshold saw the test labels; lung voxels only; network sizes not printed"
_NORMNET = "constants from a hyperparameter search; no held-out set is named"


def _lung(method: str, supervision: str, protocol: str, caveat: str, *printed: str) -> tuple[Published, Published]:
    """Return a row of Table III: DSC, PSC, SEN on Coronacases, then on Radiopaedia."""
    what = (supervision, protocol, caveat)
    coronacases, radiopaedia = (
        Published(method, _LUNG_PAPER, "dice", dice, *what, psc=psc, sen=sen)
        for dice, psc, sen in (printed[:3], printed[3:])
    )
    return coronacases, radiopaedia


_TABLE_III = (
    _lung("NormNet", "healthy scans", f"fixed 0.95 and fixed post-processing; {_VOLUMES}",
          f"{_NORMNET}; bright voxels alone (Table II): see docs/metrics.md",
          "68.7 ± 15.8", "85.1 ± 6.97", "62.1 ± 22.8", "59.4 ± 17.4", "60.4 ± 19.7", "61.8 ± 18.4"),
    _lung("NormNet without growing", "healthy scans", f"fixed 0.95 and fixed post-processing; {_VOLUMES}", _NORMNET,
          "65.5 ± 17.9", "88.1 ± 5.23", "56.2 ± 21.7", "54.2 ± 17.5", "60.8 ± 21.2", "51.3 ± 16.9"),
    _lung("AE", "healthy scans", _ORACLE, _RECONSTRUCTION,
          "28.3 ± 15.5", "21.5 ± 15.3", "52.1 ± 11.3", "30.3 ± 17.7", "24.4 ± 19.0", "58.9 ± 6.2"),
    _lung("VAE", "healthy scans", _ORACLE, f"{_RECONSTRUCTION}; KL weight 1e-6",
          "26.4 ± 14.5", "19.8 ± 14.0", "50.1 ± 9.8", "28.1 ± 17.5", "21.6 ± 17.6", "62.3 ± 5.7"),
    _lung("VAE, spatial bottleneck", "healthy scans", _ORACLE, _RECONSTRUCTION,
          "27.4 ± 16.5", "21.0 ± 16.4", "49.9 ± 11.9", "30.7 ± 19.8", "24.8 ± 20.7", "59.2 ± 8.0"),
    _lung("VAE on whole images", "healthy scans", _ORACLE,
          "an upper bound: the threshold saw the test labels; no lung mask",
          "10.9 ± 8.0", "6.9 ± 6.1", "41.3 ± 8.2", "12.3 ± 10.5", "8.5 ± 8.9", "44.9 ± 4.9"),
    _lung("context VAE", "healthy scans", _ORACLE, f"{_RECONSTRUCTION}; crops of 32 pixels inpainted",
          "29.7 ± 16.0", "21.8 ± 15.6", "61.0 ± 9.8", "32.3 ± 21.3", "24.3 ± 20.6", "72.2 ± 6.0"),
    _lung("constrained VAE", "healthy scans", _ORACLE, _RECONSTRUCTION,
          "27.9 ± 14.8", "21.0 ± 14.7", "53.2 ± 10.5", "29.2 ± 17.7", "22.9 ± 18.3", "61.3 ± 5.6"),
    _lung("GMVAE", "healthy scans", _ORACLE, _RECONSTRUCTION,
          "25.7 ± 16.4", "20.2 ± 14.4", "51.0 ± 12.6", "28.6 ± 17.7", "22.3 ± 19.5", "63.3 ± 7.2"),
    _lung("Bayesian VAE", "healthy scans", _ORACLE, f"{_RECONSTRUCTION}; dropout 0.2",
          "27.5 ± 15.0", "20.8 ± 14.7", "50.9 ± 11.4", "29.6 ± 16.8", "23.5 ± 17.6", "58.2 ± 6.8"),
    _lung("KL gradient", "healthy scans", _ORACLE, _RECONSTRUCTION,
          "9.5 ± 8.2", "5.5 ± 5.2", "65.5 ± 19.7", "10.2 ± 14.2", "6.7 ± 10.3", "39.1 ± 20.3"),
    _lung("VAE restoration", "healthy scans", _ORACLE, _RECONSTRUCTION,
          "12.8 ± 4.5", "16.3 ± 10.1", "12.1 ± 2.5", "9.1 ± 3.7", "16.5 ± 16.0", "8.8 ± 1.6"),
    _lung("f-AnoGAN", "healthy scans", _ORACLE, f"{_RECONSTRUCTION}; lungs resized to 64 × 64",
          "15.4 ± 12.6", "10.8 ± 10.8", "38.3 ± 13.2", "19.7 ± 17.3", "14.2 ± 14.9", "55.2 ± 8.9"),
    _lung("nnU-Net, other sets", "lesion labels of the other COVID-19 sets", f"its own; {_VOLUMES}",
          "trained supervised, on scans of other sets",
          "77.1 ± 10.2", "81.1 ± 11.0", "75.9 ± 15.9", "73.9 ± 9.45", "66.9 ± 13.4", "85.3 ± 9.85"),
    _lung("nnU-Net, same set", "lesion labels of the same set", f"its own; {_VOLUMES}",
          "trained supervised, five-fold cross-validation: a top line",
          "80.1 ± 6.73", "80.2 ± 12.4", "82.3 ± 9.30", "76.7 ± 5.81", "77.1 ± 14.0", "80.5 ± 13.11"),
)  # fmt: skip

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "lits": _LITS,
    "coronacases": tuple(row[0] for row in _TABLE_III),
    "radiopaedia": tuple(row[1] for row in _TABLE_III),
}
"""Data set → published numbers. None of them follows a protocol of this benchmark on the same slices and patients."""
