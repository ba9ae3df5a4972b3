"""Which lesions of the phantom does a method rank above the rest of their organ? By size and by contrast.

``python -m uasbench.experiments.diagnostics.lesion_strata RUN … --methods two-stage hu-threshold`` reads the stored
maps of finished runs on phantoms, each lesion's AUROC against the organ outside all lesions of its patient, and prints
the means over thirds of all lesions: the smallest, the middle, the largest, and those of least to most contrast.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.runs.folder import RunFolder
from ...benchmark.runs.map_store import read_map
from ...benchmark.scoring.case_facts import case_facts
from ...benchmark.scoring.lesions import Components
from ...datasets.case import Spacing
from .phantom_cases import lesion_cases

LEAST_ML = 0.1
THIRDS = ("low", "middle", "high")


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the share of pairs in which a value of ``inside`` is above one of ``outside``, ties by half.

    >>> auroc(np.array([2.0, 1.0]), np.array([0.0, 1.0]))
    0.875
    """
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.mean() / 2 / len(ordered))


def lesions_of(
    image: np.ndarray, roi: np.ndarray, lesion: np.ndarray, spacing: Spacing
) -> list[tuple[np.ndarray, float, float]]:
    """Return each lesion of at least 0.1 ml: its voxels (n, 3), its volume in ml, its |contrast| in HU."""
    lesions = Components.of(lesion)
    facts = case_facts(image, roi, lesions, np.asarray(lesion.any(axis=(1, 2))), spacing)
    return [
        (lesions.voxels[lesions.owners == number], one.ml, abs(one.contrast_hu))
        for number, one in enumerate(facts.lesions or ())
        if one.ml >= LEAST_ML and one.contrast_hu is not None
    ]


def ranked(folder: RunFolder, methods: Sequence[str]) -> pd.DataFrame:
    """Return one row per lesion, method and seed of a run on a phantom: ``lesion, ml, contrast, method, auroc``."""
    rows = []
    records = [record for record in folder.records() if record.cell.method in methods]
    for dataset in sorted({record.cell.dataset for record in records}):
        own = [record for record in records if record.cell.dataset == dataset]
        for case, lesion in lesion_cases(own[0]):
            found = lesions_of(case.image, case.roi, lesion, case.spacing)
            for record in own:
                map_ = read_map(folder.map_dir(record.cell) / f"{case.id}.map").native()
                outside = map_[case.roi & ~lesion]
                for number, (voxels, ml, contrast) in enumerate(found):
                    where = f"{folder.path}/{case.id}/{number}"
                    rows.append((where, ml, contrast, record.cell.method, auroc(map_[tuple(voxels.T)], outside)))
    return pd.DataFrame(rows, columns=["lesion", "ml", "contrast", "method", "auroc"])


def by_thirds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean AUROC by method and third of the lesions, once by ``ml`` and once by ``contrast``."""
    lesions = rows.drop_duplicates("lesion").set_index("lesion")
    parts = []
    for name in ("ml", "contrast"):
        third = pd.Series(pd.qcut(lesions[name].rank(method="first").to_numpy(), 3, labels=list(THIRDS)), lesions.index)
        means = rows.join(third.rename("third"), on="lesion").pivot_table("auroc", "method", "third", observed=True)
        spans = lesions[name].groupby(third, observed=True).agg(["min", "max"])
        means.columns = [f"{name} {low:.3g} to {high:.3g}" for low, high in spans.to_numpy()]
        parts.append(means)
    return pd.concat(parts, axis=1).reset_index()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", required=True)
    options = parser.parse_args()
    rows = pd.concat([ranked(RunFolder(path), options.methods) for path in options.runs])
    print(f"{rows['lesion'].nunique()} lesions of at least {LEAST_ML} ml")
    print(by_thirds(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
