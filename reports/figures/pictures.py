"""Which figures a run gets, and from which files and tables; the modules beside this one draw them."""

from collections.abc import Sequence
from pathlib import Path

from ...benchmark.runs.folder import RunFolder
from ...benchmark.runs.records import Record
from ...common.errors import UasbenchError
from ..columns import MethodOnData, flag_text
from ..headline import Headline
from ..tables import Tables
from ..trials import CAPTION, searches_of
from ..tuned import frames
from .curves import curve_figure, drawn_points, read_curves
from .gallery import NAMES, gallery_figure, read_gallery
from .picture import Picture, Pictures, write_data
from .score_pictures import draw_scores
from .series import series_figure
from .tuning import expected_best_figure

GROUPS = (
    "patients", "seeds", "cases", "difficulty", "pairs", "ranks", "stability", "froc", "thresholds", "roc", "scores",
    "cost", "gallery", "series", "curves", "trials",
)  # fmt: skip


def draw(folder: RunFolder, tables: Tables, headlines: Sequence[Headline]) -> Pictures:
    """Draw every figure into ``figures/``; a damaged gallery or curve file becomes a note, not a failure."""
    pictures = Pictures()
    for headline in headlines:
        draw_scores(pictures, folder.figures_dir, tables, headline)
        _draw_trials(pictures, folder, tables, headline)
    _draw_galleries(pictures, folder, tables.records)
    _draw_curves(pictures, folder, tables.records)
    return pictures


def _draw_trials(pictures: Pictures, folder: RunFolder, tables: Tables, headline: Headline) -> None:
    searches = searches_of(tables, headline)
    path = folder.figures_dir / f"trials-{headline.name}.svg"
    if expected_best_figure(searches, path) is not None:
        flags = flag_text({*headline.flags})
        data = write_data(path, frames(searches)["expected_best"].assign(flags=flags))
        where = (headline.dataset, headline.train, "Expected best AP by number of trials")
        pictures.found.append(Picture("trials", *where, path, CAPTION, data=data))


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
        path = curve_figure(by_seed, title, folder.figures_dir / "curves" / f"{name}.svg")
        if path is not None:
            data = write_data(path, drawn_points(by_seed))
            pictures.found.append(Picture("curves", *cell[1:], title, path, method=cell.method, data=data))
