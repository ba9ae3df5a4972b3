"""The report: one self-contained HTML file, everything escaped, no outside resources."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..benchmark.runs.folder import RunFolder
from ..common.errors import printable
from . import grid
from .answer import answer
from .columns import FLAG_LEGEND
from .details import details
from .explorer import explorer
from .failing import told
from .figures.gallery import CAPTION
from .figures.pictures import GROUPS, Pictures
from .figures.series import SERIES_CAPTION
from .figures.threshold_plots import SCORES_CAPTION
from .gain import gain_grid
from .headline import Headline
from .method_pages import method_pages
from .paired import run_references
from .refined import refined_grid
from .run_facts import data_facts, environment, run_facts
from .shortfalls import shortfalls
from .tables import Tables
from .training import NOTE, watched_trainings
from .trials import searches_of, trials_grid

TEMPLATES = Path(__file__).parent / "templates"


def render(tables: Tables, headlines: Sequence[Headline], pictures: Pictures, folder: RunFolder) -> str:
    """Return the report as HTML text; of ``folder`` only the names of files beside it are used."""
    info, records = tables.info, tables.records
    return filled(
        "report.html.j2",
        phantom=bool(info.get("phantom")) or any("phantom" in h.flags for h in headlines),
        smoke=any("smoke" in h.flags for h in headlines),
        quick=any("quick" in h.flags for h in headlines),
        sections=[_section(h, tables, pictures, folder) for h in headlines],
        run=run_facts(info, records, tables),
        warnings=[str(w) for w in info.get("warnings", [])] + pictures.notes,
        cost=grid.cost_grid(tables.cost, told(tables.missing, "exclude")),
        failures=grid.failure_grid(tables.failures),
        skipped=grid.skipped_grid(tables.skipped),
        environment=environment(info, records),
        gallery_caption=CAPTION,
        series_caption=SERIES_CAPTION,
        scores_caption=SCORES_CAPTION,
        training_note=NOTE,
        scripts=[(TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "viewer.js")],
        flags=FLAG_LEGEND,
    )


def filled(template: str, **values: Any) -> str:
    """Return a template's HTML text, everything escaped; a value that it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters["data_uri"] = data_uri
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(css=css, **values)


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def data_uri(path: Path) -> str:
    """Return a picture, PNG or SVG by its name, as a data URI: as the source of an image, an SVG runs no script.

    A PNG is embedded as WebP, which takes a third; the file beside the page stays as it is.
    """
    if path.suffix == ".svg":
        return _embedded("svg+xml", path.read_bytes())
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=90)
    return _embedded("webp", buffer.getvalue())


def _embedded(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _section(headline: Headline, tables: Tables, pictures: Pictures, folder: RunFolder) -> dict[str, Any]:
    own = [r for r in tables.records if (r.cell.dataset, r.cell.train) == (headline.dataset, headline.train)]
    methods = {r.cell.method for r in own}
    tests = tables.paired_tests
    trainings, others = watched_trainings(own)
    return {group: pictures.of(group, headline) for group in GROUPS} | {
        "headline": headline,
        "answer": answer(headline, tables.summary, tests),
        "shortfalls": shortfalls(headline, tables),
        "table": explorer(headline, tables),
        "tests": grid.paired_grids(tests, headline),
        "seed_tests": grid.paired_grids(tests, headline, unit="seed"),
        "published": grid.published_grid(headline),
        "details": dict(zip(("tables", "notes"), details(headline, tables), strict=True)),
        "searched": trials_grid(searches_of(tables, headline), headline),
        "tuned": gain_grid(tables.tuned, headline),
        "refined": refined_grid(tables.refined, headline),
        "ranking": grid.rank_grid(tables.ranks, headline),
        "training": {"rows": trainings, "others": others},
        "pages": method_pages(headline, tables, pictures, trainings, folder),
        "measured": {r.cell.method: r.ids.measure for r in reversed(own)},
        "data": data_facts(own),
        "missing": [r for r in run_references(tables.records, tables.info)[headline.dataset] if r not in methods],
    }
