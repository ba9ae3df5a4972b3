"""The page of a screening: slices of a healthy set that methods find most anomalous, for a radiologist to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..benchmark.scoring.slices import slice_scores
from ..common.atomic import write_text
from ..datasets.anatomy import find_anatomy
from .html import filled
from .writers import csv_text

if TYPE_CHECKING:
    from ..benchmark.commands.screening import HeldOut, Screened

APART_MM = 15.0
TOP = 95.0
_MARGIN = 8
_SIDE_INCHES = 2.6


@dataclass(frozen=True)
class Shown:
    """A slice of the page: where it lies, how it ranks, and its picture as a data address."""

    rank: int
    case: str
    z: int
    percentile: float
    agree: str
    area_cm2: float
    picture: str
    told: str


def ranked_slices(screened: Screened) -> pd.DataFrame:
    """Return a row per slice that shows the organ, the most anomalous first.

    Columns: case, fold, z, area_cm2, a percentile for each method, ``mean`` of them, and ``agree``, by how many methods
    the slice is among the highest 5 %. A method's slice scores are first brought to one scale over the folds, by median
    and interquartile range of each fold, because every fold is another network.
    """
    rows, scored = [], dict[str, list[np.ndarray]]()
    for scan in screened.scans:
        case = scan.case.case()
        for method in scan.maps:
            z, scores = slice_scores(scan.map_of(method), case.roi, scan.slice_scores[method])
            scored.setdefault(method, []).append(np.stack([np.full(len(z), scan.fold), scores]))
        area = case.roi.sum(axis=(1, 2)) * case.spacing[1] * case.spacing[2] / 100
        rows += [
            {"case": case.id, "fold": scan.fold, "z": int(k), "area_cm2": round(float(area[k]), 1)}
            for k in np.flatnonzero(area)
        ]
    frame = pd.DataFrame(rows)
    methods = [name for name, parts in scored.items() if len(parts) == len(screened.scans)]
    for method in methods:
        fold, score = np.concatenate(scored[method], axis=1)
        by_fold = pd.Series(score).groupby(fold)
        spread = by_fold.transform(lambda s: max(float(np.subtract(*np.percentile(s, [75, 25]))), 1e-12))
        frame[method] = ((score - by_fold.transform("median")) / spread).rank(pct=True) * 100
    frame["mean"] = frame[methods].mean(axis=1)
    frame["agree"] = (frame[methods] > TOP).sum(axis=1)
    return frame.sort_values(["mean", "case", "z"], ascending=[False, True, True], ignore_index=True)


def chosen(frame: pd.DataFrame, scans: Sequence[HeldOut], most: int) -> pd.DataFrame:
    """Return the first slices of a ranking that lie at least 15 mm from any chosen before in their scan."""
    step = {scan.case.id: scan.case.spacing[0] for scan in scans}
    kept, places = [], dict[str, list[float]]()
    for index, case, z in zip(frame.index, frame["case"], frame["z"], strict=True):
        place, taken = z * step[case], places.setdefault(case, [])
        if all(abs(place - other) >= APART_MM for other in taken):
            taken.append(place)
            kept.append(index)
        if len(kept) == most:
            break
    return frame.loc[kept]


def write_screening(screened: Screened, out: Path, command: str, most: int = 40) -> list[Path]:
    """Write ``screening.csv`` (all slices) and ``screening.html`` (the ``most`` anomalous ones) and return them."""
    frame = ranked_slices(screened)
    methods = [name for name in frame.columns if name not in ("case", "fold", "z", "area_cm2", "mean", "agree")]
    table = write_text(out / "screening.csv", csv_text(frame))
    rows = chosen(frame, screened.scans, most)
    scans = {scan.case.id: scan for scan in screened.scans}
    shown = []
    for rank, row in enumerate(rows.to_dict("records"), 1):
        case, z = str(row["case"]), int(row["z"])
        shown.append(
            Shown(
                rank=rank,
                case=case,
                z=z,
                percentile=float(row["mean"]),
                agree=f"{row['agree']} of {len(methods)}",
                area_cm2=float(row["area_cm2"]),
                picture=_picture(scans[case], methods, z, screened.anatomy),
                told=", ".join(f"{name} {row[name]:.0f}" for name in methods),
            )
        )
    html = filled(
        "screening.html.j2",
        name=screened.name,
        shown=shown,
        scans=len(screened.scans),
        slices=len(frame),
        methods=methods,
        failed=screened.failed,
        skipped=screened.skipped,
        phantom=screened.phantom,
        profile=screened.profile,
        command=command,
        apart=APART_MM,
    )
    return [table, write_text(out / "screening.html", html)]


def _picture(scan: HeldOut, methods: Sequence[str], z: int, anatomy: str) -> str:
    """Draw a slice twice, plain and with the mean of the methods' maps over it, cut to the organ."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    case = scan.case.case()
    roi = case.roi[z]
    rows, columns = (np.flatnonzero(roi.any(axis=axis)) for axis in (1, 0))
    cut = tuple(slice(max(0, int(one[0]) - _MARGIN), int(one[-1]) + _MARGIN + 1) for one in (rows, columns))
    heat = np.mean([_scaled(scan.map_of(name), case.roi, z) for name in methods], axis=0)
    heat = np.ma.masked_where(~roi, heat)
    low, high = find_anatomy(anatomy).window
    aspect = case.spacing[1] / case.spacing[2]
    figure = Figure(figsize=(2 * _SIDE_INCHES, _SIDE_INCHES), dpi=80, layout="tight")
    FigureCanvasAgg(figure)
    for axes, over in zip(figure.subplots(1, 2), (False, True), strict=True):
        axes.imshow(case.image[z][cut], cmap="gray", vmin=low, vmax=high, aspect=aspect)
        if over:
            axes.imshow(heat[cut], cmap="inferno", vmin=0, vmax=1, alpha=0.55, aspect=aspect)
        axes.contour(roi[cut], levels=[0.5], colors="tab:cyan", linewidths=0.6)
        axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _scaled(map_: np.ndarray, roi: np.ndarray, z: int) -> np.ndarray:
    """Return a slice of a map from 0, the scan's median inside the organ, to 1, its 99.5 %."""
    low, high = np.percentile(map_[roi], [50, 99.5])
    return np.clip((map_[z] - low) / max(float(high - low), 1e-12), 0, 1)
