"""The page of an experiment: printed numbers beside ours, and the figures of the paper drawn from the run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..benchmark.catalogue.printed import COSTS
from ..benchmark.experiments import Figure, Page
from ..benchmark.runs.folder import RunFolder
from ..common.atomic import write_text
from ..common.errors import UasbenchError, brief
from ..common.json_files import read_json
from .columns import FLAG_LEGEND, MethodOnData, flag_set, records_of
from .console import beside, difference_interval, own_interval
from .figures.checkpoints import checkpoint_figure
from .figures.embedding import EMBEDDING_CAPTION, embedding_figure
from .figures.gallery import Gallery, read_gallery
from .figures.pictures import Picture
from .figures.series import (
    ERROR_KINDS,
    ERRORS_CAPTION,
    METHODS_CAPTION,
    SERIES_CAPTION,
    errors_figure,
    methods_figures,
    series_figure,
)
from .formats import NOT_AVAILABLE, p_value, percent
from .grid import PrintedRow, PrintedTable, frame_grid
from .html import filled
from .tables import Tables

SYNTHETIC = (
    "The scans are synthetic: this page shows that the experiment runs. What the paper prints (grey) was measured on "
    "other data, and a difference to it means nothing."
)

TIMINGS = (
    "Seconds: each seed is timed once, on this machine; the interval is Student's over these timings and says nothing "
    "of another machine, such as the one of the paper."
)


def write_page(folder: RunFolder, tables: Tables) -> list[Path]:
    """Write ``experiment.html`` and its figures and return them, the page last; nothing for other runs."""
    told = tables.info.get("experiment")
    if told is None:
        return []
    page, phantom = Page.model_validate(told), bool(tables.info.get("phantom"))
    drawn = _Drawn(folder, tables, page)
    sections = [_DRAWING[figure.kind](drawn, figure) for figure in page.figures]
    profile = str(tables.info.get("profile", ""))
    html = filled(
        "experiment.html.j2",
        page=page,
        synthetic=SYNTHETIC if phantom else "",
        missing=tables.told_missing(),
        learned_little=profile in ("smoke", "quick"),
        compared=printed_and_ours(beside(page.printed, tables), phantom=phantom) if page.printed else None,
        sections=sections,
        command=str(tables.info.get("command", "")),
        profile=profile,
        notes=drawn.notes,
    )
    return [*drawn.files, write_text(folder.page_html, html)]


def printed_and_ours(found: pd.DataFrame, *, phantom: bool) -> PrintedTable:
    """Return what :func:`beside` found as a table with the intervals below the values.

    Of a ``phantom``, and where ours are no counterparts, the printed numbers are grey and nothing is said of
    differences to them.
    """
    starred, nearest = bool(found["stars"].any()), bool(found["of"].all())
    grey = phantom or nearest
    headers = ["Row", "Data", "Metric", "Printed", "Ours", *([] if grey else ["Difference"])]
    headers += [*(["Printed asterisks", "Ours"] if starred else []), "n (cases × seeds)", "Marks"]
    rows = []
    for row in records_of(found):
        cells = [row["row"], row["dataset"], row["metric"], row["printed"], row["here"]]
        under = ["", "", "", row["of"], own_interval(row)]
        if not grey:
            cells.append(row["difference"])
            under.append(difference_interval(row))
        if starred:
            cells += [row["stars"], row["stars_here"]]
            under += ["", "" if pd.isna(row["p_here"]) else f"p {p_value(row['p_here'])}"]
        count = f"{row['n_cases']} × {row['n_seeds']}" if row["n_cases"] else str(row["n_seeds"])
        cells += [count, row["flags"].replace(";", ", ")]
        rows.append(PrintedRow(tuple(map(str, cells)), (*under, "", "")))
    legend = (
        "Per cent, or seconds; ± as printed, ours between seeds or patients as the unit says. Below: 95 % intervals "
        "of ours, or why there is none, and of the difference to the printed number taken as exact.",
        *([TIMINGS] if found["metric"].str.startswith(tuple(COSTS.values())).any() else []),
        *(
            ["Below a printed number: what it is of. Ours is only the nearest thing to it."]
            if bool(found["of"].any())
            else []
        ),
        *(f"{flag}: {told}." for flag, told in FLAG_LEGEND.items() if flag in flag_set(";".join(found["flags"]))),
    )
    return PrintedTable(
        "Printed and ours", tuple(headers), tuple(rows), legend, left=3, muted=frozenset({3} if grey else ())
    )


@dataclass(frozen=True)
class Section:
    """A figure of the page: pictures with one caption, and a table where there is one."""

    title: str
    caption: str
    pictures: list[Picture]
    table: PrintedTable | None = None


class _Drawn:
    """What the figures of a page are drawn from, the files that they became, and what could not be read."""

    def __init__(self, folder: RunFolder, tables: Tables, page: Page) -> None:
        self.folder, self.tables, self.page = folder, tables, page
        self.files: list[Path] = []
        self.notes: list[str] = []

    def galleries(self) -> dict[MethodOnData, Gallery]:
        """Return the gallery of the first seed of every method."""
        found: dict[MethodOnData, Gallery] = {}
        for record in sorted(self.tables.records, key=lambda r: r.cell.seed):
            cell = MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)
            path = self.folder.gallery_path(record.cell)
            if cell in found or not path.exists():
                continue
            try:
                found[cell] = read_gallery(path)
            except UasbenchError as error:
                self.notes.append(str(error))
        return found

    def picture(self, cell: MethodOnData, title: str, path: Path) -> Picture:
        self.files.append(path)
        return Picture("experiment", cell.dataset, cell.train, title, path, method=cell.method)

    def path(self, kind: str, cell: MethodOnData) -> Path:
        return self.folder.figures_dir / kind / f"{cell.method}__{cell.dataset}__{cell.train}.png"


def _patients(drawn: _Drawn, figure: Figure) -> Section:
    found = []
    for cell, gallery in drawn.galleries().items():
        title = f"{cell.method}, {cell.dataset}"
        path = drawn.path(f"patients-{drawn.page.figures.index(figure) + 1}", cell)
        if written := series_figure(gallery, figure.pictures, title, path):
            found.append(drawn.picture(cell, title, written))
    return Section(figure.title, SERIES_CAPTION, found)


def _methods(drawn: _Drawn, figure: Figure) -> Section:
    by_data: dict[tuple[str, str], dict[str, Gallery]] = {}
    for cell, gallery in drawn.galleries().items():
        by_data.setdefault((cell.dataset, cell.train), {})[cell.method] = gallery
    found = []
    for (dataset, train), galleries in by_data.items():
        target = drawn.folder.figures_dir / f"methods-{dataset}-{train}"
        for path in methods_figures(galleries, figure.pictures, dataset, target):
            found.append(drawn.picture(MethodOnData("", dataset, train), f"All methods, {dataset}", path))
    return Section(figure.title, METHODS_CAPTION, found)


def _errors(drawn: _Drawn, figure: Figure) -> Section:
    found, rows = [], []
    for cell, gallery in drawn.galleries().items():
        for kind, called in ERROR_KINDS.items():
            title = f"{cell.method}, {cell.dataset}: {called}"
            if written := errors_figure(gallery, kind, title, drawn.path(f"errors-{kind}", cell)):
                found.append(drawn.picture(cell, title, written))
        if told := gallery.about.get("errors"):
            rows.append({"method": cell.method, "dataset": cell.dataset, **_of_errors(told)})
    frame = pd.DataFrame(rows)
    grid = frame_grid("What errors add up to, first seed", frame, list(frame.columns), left=2) if rows else None
    return Section(figure.title, ERRORS_CAPTION, found, grid)


def _of_errors(told: Mapping[str, Any]) -> dict[str, str]:
    shown = {"missed, ml": f"{told['missed_ml']:.4g}", "false, ml": f"{told['false_ml']:.4g}"}
    if "gap_ml" in told:
        shown["of it slice-gap candidates, ml"] = f"{told['gap_ml']:.4g} (over {told['trained_slice_mm']:.3g} mm)"
    if "dim_below_hu" not in told:
        return shown
    dim = f"below {told['dim_below_hu']:.0f} HU"

    def share(name: str) -> str:
        return NOT_AVAILABLE if told[name] is None else f"{percent(told[name])} %"

    return shown | {
        f"of the lesions {dim}": share("dim_share_of_lesion"),
        f"of what is missed {dim}": share("dim_share_of_missed"),
        f"missed of what is {dim}": share("missed_share_of_dim"),
        "missed of the rest": share("missed_share_of_bright"),
    }


def _checkpoints(drawn: _Drawn, figure: Figure) -> Section:
    path = drawn.folder.figures_dir / "checkpoints.svg"
    written = checkpoint_figure(drawn.page.printed, drawn.tables["summary"], figure.title, path)
    caption = (
        "Rows named …-N by N: ours with the standard deviation between seeds, and what was printed in grey. Every row "
        "is a checkpoint of one training per seed."
    )
    found = [drawn.picture(MethodOnData("", "", ""), figure.title, written)] if written else []
    return Section(figure.title, caption, found)


def _embedding(drawn: _Drawn, figure: Figure) -> Section:
    source = drawn.folder.embedding
    if not source.exists():
        drawn.notes.append(f"{figure.title}: 'bench reproduce {drawn.page.name}' draws it once all cells are done")
        return Section(figure.title, EMBEDDING_CAPTION, [])
    try:
        told = read_json(source)
    except (OSError, ValueError) as error:
        remade = f"'bench reproduce {drawn.page.name}' writes it again once it is deleted"
        drawn.notes.append(f"{figure.title}: {source} cannot be read ({brief(error)}); {remade}")
        return Section(figure.title, EMBEDDING_CAPTION, [])
    title = f"{figure.title}, slices of {told['method']}"
    path = embedding_figure(told["places"], title, drawn.folder.figures_dir / "embedding.svg")
    rows = [
        {"patches": kind, **{f"nearest {other}": f"{percent(share)} %" for other, share in shares.items()}}
        for kind, shares in told["neighbours"].items()
    ]
    frame = pd.DataFrame(rows)
    grid = frame_grid("Of the ten nearest patches", frame, list(frame.columns), left=1)
    return Section(figure.title, EMBEDDING_CAPTION, [drawn.picture(MethodOnData("", "", ""), title, path)], grid)


_DRAWING: Mapping[str, Callable[[_Drawn, Figure], Section]] = {
    "patients": _patients,
    "methods": _methods,
    "errors": _errors,
    "checkpoints": _checkpoints,
    "embedding": _embedding,
}
