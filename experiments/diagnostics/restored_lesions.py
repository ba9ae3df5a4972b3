"""How much of a lesion does a restoration keep?

``python -m uasbench.experiments.diagnostics.restored_lesions RUN …`` loads the networks of finished runs on phantoms
that restore or reconstruct slices, and prints for each row, as means over the patients with a lesion: the contrast of
lesions (outside minus inside, in the view's own units) before and after, the share of it that is kept, and how the
residual |before − after| inside lesions compares with that of the organ around.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.catalogue import registry
from ...benchmark.runs.folder import RunFolder
from ...benchmark.runs.records import Record
from ...benchmark.stages import drive
from ...datasets.views.volume_view import apply_view
from ...methods.config import resolve
from .phantom_cases import lesion_cases

LEAST_PIXELS = 20


def contrasts(before: np.ndarray, after: np.ndarray, roi: np.ndarray, lesion: np.ndarray) -> dict[str, float]:
    """Return the contrast ``before`` and ``after``, and the ``residual`` inside the lesion over that outside.

    Of the slices that show the lesion; all arrays (n, H, W), ``lesion`` not empty, and the organ larger. ``residual``
    is NaN where nothing outside was changed.
    """
    shown = lesion.any((1, 2))
    inside = lesion[shown] & roi[shown]
    outside = roi[shown] & ~inside
    first, last = before[shown].astype(np.float64), after[shown].astype(np.float64)
    residual = np.abs(first - last)
    around = residual[outside].mean()
    return {
        "before": float(first[outside].mean() - first[inside].mean()),
        "after": float(last[outside].mean() - last[inside].mean()),
        "residual": float(residual[inside].mean() / around) if around else float("nan"),
    }


def kept(folder: RunFolder, record: Record) -> pd.DataFrame:
    """Return one row per case with a lesion: ``before, after, residual``; no row where nothing is restored."""
    cls = registry.runnable().get(record.method.name)
    checkpoint = folder.fit_dir(record.ids.fit) / "last.pt"
    if not checkpoint.is_file():
        raise FileNotFoundError(f"{record.cell.slug}: its networks were not kept ({checkpoint})")
    config = resolve(cls.Config, record.profile, record.data.anatomy, record.config)
    method = drive.load(cls, config, checkpoint, "cpu")
    rows = []
    for case, lesion in lesion_cases(record):
        viewed = apply_view(case, method.view)
        marked = viewed.geometry.mask_to_view(lesion) & viewed.roi
        if marked.sum() < LEAST_PIXELS:
            continue
        shown = drive.restored(method, case, viewed, np.zeros(viewed.roi.shape, np.float32))
        scale = 255.0 if viewed.image.dtype == np.uint8 else 1.0
        if shown:
            rows.append(contrasts(viewed.image / scale, next(iter(shown.values())), viewed.roi, marked))
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    rows = []
    for folder in (RunFolder(path) for path in options.runs):
        for record in folder.records():
            if record.method.trivial:
                continue
            try:
                found = kept(folder, record)
            except FileNotFoundError as error:
                print(f"left out: {error}", flush=True)
                continue
            if not found.empty:
                rows.append((folder.path.name, record.cell.method, record.cell.seed, len(found), *found.mean()))
    table = pd.DataFrame(rows, columns=["run", "row", "seed", "patients", "before", "after", "residual"])
    table["kept"] = table["after"] / table["before"]
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
