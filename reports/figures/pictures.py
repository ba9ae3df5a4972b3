"""Which figures a run gets, and from which numbers; the modules beside this one draw them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.runs.folder import RunFolder
from ...benchmark.runs.records import Record
from ...benchmark.scoring.metrics import sign
from ...benchmark.statistics import rank_methods
from ...common.errors import UasbenchError
from ..columns import MethodOnData, kind_marks, metric_name
from ..details import detailed_protocol
from ..headline import Headline
from ..tables import Tables
from .curves import curve_figure, read_curves
from .froc import MOST_NAMED, FrocCurve, froc_figure
from .gallery import NAMES, gallery_figure, read_gallery
from .score_plots import MethodPoints, cost_figure, patient_figure, rank_figure
from .series import series_figure

FIGURE_MARKS = "◆†§¶¤"
GROUPS = ("patients", "ranks", "froc", "cost", "gallery", "series", "curves")


@dataclass(frozen=True)
class Picture:
    """A figure that lies on disk, with what the report says about it; those not ``shown`` there are files only.

    ``group`` is one of ``GROUPS``.
    """

    group: str
    dataset: str
    train: str
    title: str
    path: Path
    caption: str = ""
    method: str = ""
    shown: bool = True


@dataclass
class Pictures:
    """All figures of a run, and notes on those that could not be drawn."""

    found: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, group: str, headline: Headline) -> list[Picture]:
        """Return the shown figures of a group for one (dataset, train) pair, methods in the order of the table."""
        wanted = (group, headline.dataset, headline.train)
        order = {row.method: i for i, row in enumerate(headline.rows)}
        chosen = [p for p in self.found if p.shown and (p.group, p.dataset, p.train) == wanted]
        return sorted(chosen, key=lambda p: order.get(p.method, 0))


def draw(folder: RunFolder, tables: Tables, headlines: Sequence[Headline]) -> Pictures:
    """Draw every figure into ``figures/``; a damaged gallery or curve file becomes a note, not a failure."""
    pictures = Pictures()
    for headline in headlines:
        _draw_scores(pictures, folder.figures_dir, tables, headline)
        _draw_froc(pictures, folder.figures_dir, tables, headline)
    _draw_galleries(pictures, folder, tables.records)
    _draw_curves(pictures, folder, tables.records)
    return pictures


def _draw_scores(pictures: Pictures, target: Path, tables: Tables, headline: Headline) -> None:
    protocol, metric = headline.verdict
    where = (headline.dataset, headline.train)
    by_method = {
        s.key.method: s for s in tables.scores
        if s.unit == "patient" and s.key[1:] == (*where, protocol, metric) and s.by_patient
    }  # fmt: skip
    if not by_method:
        return
    facts, cost = {method: tables.facts[MethodOnData(method, *where)] for method in by_method}, tables.cost
    name = metric_name(metric, protocol)
    phantom = " (phantom)" if "phantom" in headline.flags else ""
    spent = cost.loc[(cost["dataset"] == where[0]) & (cost["train"] == where[1]), :]
    means = spent.groupby("method")[["s_per_slice", "fit_s"]].mean()
    points = [
        MethodPoints(
            label=f"{row.method} {''.join(m for m in row.marks if m in FIGURE_MARKS)}".rstrip(),
            family=facts[row.method].method.family,
            values=list(by_method[row.method].by_patient.values()),
            s_per_slice=float(np.asarray(means.loc[row.method, "s_per_slice"])),
            fit_s=float(np.asarray(means.loc[row.method, "fit_s"])),
            best_trivial="best-trivial" in row.flags,
        )
        for row in headline.rows
        if row.method in by_method and row.method in means.index
    ]
    title = f"{name} per patient, {where[0]} after {where[1]}{phantom}"
    path = patient_figure(points, name, title, target / f"patients-{headline.name}.png")
    pictures.found.append(Picture("patients", *where, title, path))
    title = f"Cost and {name}, {where[0]} after {where[1]}{phantom}"
    path = cost_figure(points, name, title, target / f"cost-{headline.name}.png")
    caption = "Grey line: methods that no other one beats in both. Costs are means over seeds on this machine."
    pictures.found.append(Picture("cost", *where, title, path, caption))
    # Ranks and Friedman's test compare competitors; a reference among them would shift everybody's rank.
    rivals = {m: s for m, s in by_method.items() if not kind_marks(facts[m].flags)}
    table = pd.DataFrame({m: pd.Series(s.by_patient) for m, s in rivals.items()})
    ranking = rank_methods(table, lower_is_better=sign(metric) < 0)
    if len(ranking.ranks) < 2:
        return
    families = {m: facts[m].method.family for m in rivals}
    title = f"Average ranks by {name}, {where[0]} after {where[1]}{phantom}"
    path = rank_figure(ranking, families, title, target / f"ranks-{headline.name}.png")
    friedman = "" if np.isnan(ranking.p_friedman) else f" Friedman test: p = {ranking.p_friedman:.2g}."
    dropped = f" {ranking.n_dropped} patients without a value of every method left out." if ranking.n_dropped else ""
    caption = (
        f"1 is best; {ranking.n} patients, averaged over seeds. Bars join methods whose ranks differ by less than "
        f"Nemenyi's critical difference at 0.05.{friedman}{dropped}"
    )
    pictures.found.append(Picture("ranks", *where, title, path, caption))


def _draw_froc(pictures: Pictures, target: Path, tables: Tables, headline: Headline) -> None:
    """Draw the curves of all methods under the protocol of the tables of lesions; sets without voxels have none."""
    where, protocol = (headline.dataset, headline.train), detailed_protocol(headline)
    own = [r for r in tables.records if (r.cell.dataset, r.cell.train) == where]
    curves = []
    for row in headline.rows:
        points = [np.array(curve) for r in own if r.cell.method == row.method and (curve := r.froc.get(protocol))]
        points = [curve for curve in points if np.array_equal(curve[:, 0], points[0][:, 0])]
        if points:
            rates, recall = np.mean(points, axis=0).T.tolist()
            label = f"{row.method} {''.join(m for m in row.marks if m in FIGURE_MARKS)}".rstrip()
            family = tables.facts[MethodOnData(row.method, *where)].method.family
            curves.append(FrocCurve(label, family, rates, recall))
    if not curves:
        return
    phantom = " (phantom)" if "phantom" in headline.flags else ""
    title = f"FROC at the {protocol} threshold, {where[0]} after {where[1]}{phantom}"
    path = froc_figure(curves, title, target / f"froc-{headline.name}.png")
    caption = (
        "Components of the mask, called from the highest score down, against lesions matched one to one; means over "
        f"seeds. A line is level where the mask holds nothing more. Of many methods the {MOST_NAMED} highest are named."
    )
    pictures.found.append(Picture("froc", *where, title, path, caption))


def _draw_galleries(pictures: Pictures, folder: RunFolder, records: Sequence[Record]) -> None:
    seen: set[MethodOnData] = set()
    for record in sorted(records, key=lambda r: r.cell.seed):
        source = folder.gallery_path(record.cell)
        if not source.exists():
            continue
        cell = MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)
        phantom = " (phantom)" if record.data.phantom else ""
        title = f"{cell.method}, {cell.dataset} after {cell.train}, seed {record.cell.seed}{phantom}"
        try:
            gallery = read_gallery(source)
        except UasbenchError as error:
            pictures.notes.append(str(error))
            continue
        first, name = cell not in seen, f"{record.cell.slug}.png"
        where = (cell.dataset, cell.train, title)
        if slices := gallery.named(*NAMES):
            path = gallery_figure(slices, title, folder.figures_dir / "overlays" / name)
            pictures.found.append(Picture("gallery", *where, path, method=cell.method, shown=first))
            seen.add(cell)
        if first and (path := series_figure(gallery, None, title, folder.figures_dir / "series" / name)):
            pictures.found.append(Picture("series", *where, path, method=cell.method))


def _draw_curves(pictures: Pictures, folder: RunFolder, records: Sequence[Record]) -> None:
    cells: dict[MethodOnData, dict[int, Path]] = {}
    drawn: set[tuple[Path, ...]] = set()
    for record in records:
        source = folder.fit_dir(record.ids.fits[0]) / "curves.csv"
        if source.exists():
            cell = MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)
            cells.setdefault(cell, {})[record.cell.seed] = source
    for cell, sources in sorted(cells.items()):
        files = tuple(sources[seed] for seed in sorted(sources))
        if files in drawn:
            continue
        drawn.add(files)
        try:
            by_seed = {seed: read_curves(path) for seed, path in sorted(sources.items())}
        except UasbenchError as error:
            pictures.notes.append(str(error))
            continue
        title = f"{cell.method}, trained on {cell.train}"
        name = "-".join(cell).replace("/", "-").replace(":", "-")
        path = curve_figure(by_seed, title, folder.figures_dir / "curves" / f"{name}.png")
        if path is not None:
            pictures.found.append(Picture("curves", cell.dataset, cell.train, title, path, method=cell.method))
