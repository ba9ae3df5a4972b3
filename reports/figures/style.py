"""One look for all figures: colour-blind safe, readable at print size, the same bytes for the same records."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...common.atomic import write_file

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

INK = "#1f2933"
MUTED = "#7b8794"
GRID = "#e4e7eb"
TRUTH = "#56b4e9"
PREDICTION = "#e69f00"

# Colours of Okabe and Ito, which stay apart under every common colour blindness; shapes tell families apart in print.
_FAMILIES = {
    "trivial": ("#7b8794", "s"),
    "reconstruction": ("#0072b2", "o"),
    "pseudo-anomaly": ("#d55e00", "^"),
    "normalcy": ("#56b4e9", "h"),
    "features": ("#009e73", "D"),
    "diffusion": ("#cc79a7", "v"),
    "transductive": ("#e69f00", "X"),
    "supervised": ("#000000", "*"),
    "plug-in": ("#b8860b", "P"),
}
_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "text.color": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # names and titles are text: a "$" in one is a sign
    "svg.hashsalt": "uasbench",
    "svg.fonttype": "path",
}


def style() -> AbstractContextManager[None]:
    """Return the context in which every figure is drawn."""
    import matplotlib as mpl

    return mpl.rc_context(cast(dict, _RC))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, size in inches, drawn by Agg and unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def look_of(family: str) -> tuple[str, str]:
    """Return colour and marker of a method family."""
    return _FAMILIES.get(family, _FAMILIES["plug-in"])


def family_legend(figure: Figure | SubFigure, families: Iterable[str]) -> None:
    """Add a legend of the families that occur below the figure, in the order of their definition."""
    from matplotlib.lines import Line2D

    present = set(families)
    order = [f for f in _FAMILIES if f in present] + sorted(present - set(_FAMILIES))
    handles = []
    for family in order:
        colour, marker = look_of(family)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=family))
    fit = int(figure.bbox.width / figure.get_figure(root=True).dpi)  # as many as inches
    columns = min(len(order), fit)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, handletextpad=0.2)


def plain_log(axis: Axis, *, subs: tuple[float, ...] = (1.0,)) -> None:
    """Write 0.01, 1, 100 on a logarithmic axis, at ``subs`` of every decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write an SVG or PNG atomically, as the name ends, without a time stamp or version in it.

    An SVG draws text as outlines: it looks the same everywhere, and holds no text of a name that came from elsewhere.
    """
    buffer = io.BytesIO()
    if path.suffix == ".png":
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return write_file(path, buffer.getvalue())
    figure.savefig(buffer, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    return write_file(path, _smaller(buffer.getvalue()))


def _smaller(svg: bytes) -> bytes:
    """Leave out what no viewer shows: comments, names of groups, indents, and digits beyond 0.01 points."""
    svg = re.sub(rb"<!--.*?-->\n?", b"", svg, flags=re.DOTALL)  # they hold every text, in which there is no "-->"
    svg = re.sub(rb'<g id="[^"]*"', b"<g", svg)
    svg = re.sub(rb' (?:d|x|y)="[^"]*"', lambda found: re.sub(rb"(\.\d\d)\d+", rb"\1", found[0]), svg)
    return re.sub(rb"\n +", b"\n", svg)
