"""Tables as LaTeX (booktabs, longtable) that fits the text of an A4 or letter page, in plain ASCII."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

from ..common.errors import printable
from .grid import PrintedRow, PrintedTable

TEXT_WIDTH = 345.0
"""Points of a line in the standard classes at 10 pt."""
SEPARATION = 3.0
_SIZES = (("footnotesize", 4.25), ("scriptsize", 4.0))
"""Sizes to try and the width of a digit in each, points."""
UNDER = 0.82
MOST_LINES = 44
"""Lines of a table that floats; longer ones break over pages."""
NARROWEST = 12
HEAD = (
    "% Needs \\usepackage{booktabs,longtable}; a longtable needs a single column (\\onecolumn). Numbers that are "
    "printed in bold are the winner's.\n"
)
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "σ": r"$\sigma$",
    "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}", "◆": r"$\diamond$", "†": r"\dag{}", "‡": r"\ddag{}",
    "§": r"\S{}", "¶": r"\P{}", "¤": r"\textcurrency{}", "º": r"\textordmasculine{}", "ª": r"\textordfeminine{}",
    "ˢ": r"\textsuperscript{s}", "°": r"\textdegree{}", "µ": r"\textmu{}", "·": r"$\cdot$",
    "…": r"\dots{}", "–": "--", "—": "---", "→": r"$\to$", "α": r"$\alpha$", "β": r"$\beta$", "κ": r"$\kappa$",
    "τ": r"$\tau$", "μ": r"$\mu$", "Δ": r"$\Delta$", "∞": r"$\infty$", "≈": r"$\approx$",
    "\n": " ", "\r": " ", "\t": " ", "\u00a0": "~", "\u202f": r"\,", "\u200c": "{}", "\u200d": "",
    "\"": "''", "‘": "`", "’": "'", "“": "``", "”": "''", "[": "{[}", "]": "{]}",
    "¼": r"$\frac14$", "½": r"$\frac12$", "⅛": r"$\frac18$",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r", "\u0327": "c",
    "\u030c": "v", "\u0304": "=", "\u0306": "u", "\u0307": ".", "\u030b": "H",
}  # fmt: skip


def latex(grids: Sequence[PrintedTable]) -> str:
    """Return tables that need the booktabs and longtable packages; intervals stand below their value.

    A table that is too wide comes in parts, each with its text columns; one that is too long breaks over pages. Texts
    that are longer than their column wrap.
    """
    return HEAD + "\n".join(chain.from_iterable(map(_parts, grids)))


def _parts(grid: PrintedTable) -> Iterator[str]:
    """Yield a table, or its parts side by side."""
    widths = [_width(grid, i) for i in range(len(grid.headers))]
    size, digit = next((s for s in _SIZES if _fits(widths, s[1])), _SIZES[-1])
    numbers = list(range(grid.left, len(widths)))
    if numbers:
        text = _wrapped(widths[: grid.left], 0.6 * TEXT_WIDTH / digit)
        groups = _groups(widths, numbers, TEXT_WIDTH / digit - sum(map(_spaced, text)))
    else:
        text, groups = _wrapped(widths, TEXT_WIDTH / digit), [[]]
    for part, group in enumerate(groups, 1):
        title = grid.title if len(groups) == 1 else f"{grid.title} (part {part} of {len(groups)})"
        legend = grid.legend if part == len(groups) else ()
        yield _table(grid, [*range(grid.left), *group], text, title, legend, size, digit)


def _fits(widths: Iterable[float], digit: float) -> bool:
    return sum(map(_spaced, widths)) * digit <= TEXT_WIDTH


def _spaced(width: float) -> float:
    """Return the width of a column with what separates it, in digits."""
    return width + 2 * SEPARATION / 4


def _width(grid: PrintedTable, column: int) -> float:
    """Return the width that a column asks for, in digits: that of its widest cell or word of its heading."""
    heading = max(map(len, grid.headers[column].split()), default=0)
    cells = (len(row.cells[column]) for row in grid.rows)
    under = (UNDER * len(row.under[column]) for row in grid.rows if row.under)
    return max(heading, *cells, *under, 1) if grid.rows else heading


def _wrapped(widths: Sequence[float], room: float) -> list[float]:
    """Return the widths of text columns that share a room: the widest ones give way, none below its least."""
    found = list(widths)
    limit = max(found, default=0.0)
    while sum(map(_spaced, found)) > room and limit > NARROWEST:
        limit -= 1
        found = [min(width, limit) for width in widths]
    return found


def _groups(widths: Sequence[float], columns: Sequence[int], room: float) -> list[list[int]]:
    """Return the columns in as few groups as fit."""
    groups: list[list[int]] = [[]]
    for column in columns:
        if groups[-1] and sum(_spaced(widths[i]) for i in (*groups[-1], column)) > room:
            groups.append([])
        groups[-1].append(column)
    return groups


def _table(
    grid: PrintedTable, columns: Sequence[int], text: Sequence[float], title: str, legend: Sequence[str], size: str,
    digit: float,
) -> str:  # fmt: skip
    wraps = [_width(grid, i) > width for i, width in enumerate(text)]
    layout = "".join("r" if i >= grid.left else f"p{{{text[i] * digit:.0f}pt}}" if wraps[i] else "l" for i in columns)
    heading = _row(_heading(grid.headers[i], _width(grid, i), i < grid.left) for i in columns)
    body = [line for row in grid.rows for line in _lines(row, columns, grid, wraps)]
    caption = rf"\caption{{{escape_latex(title)}}}"
    notes = [rf"\par\smallskip\noindent {escape_latex(sentence)}" for sentence in legend]
    set_up = rf"\{size}\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}\setlength{{\LTcapwidth}}{{\linewidth}}"
    if len(body) > MOST_LINES or any(wraps):
        lines = [
            rf"{{{set_up}", rf"\begin{{longtable}}{{{layout}}}", rf"{caption}\\", r"\toprule", heading, r"\midrule",
            r"\endfirsthead", r"\toprule", heading, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot", *body,
            r"\end{longtable}", *notes, r"\par}", "",
        ]  # fmt: skip
    else:
        lines = [
            r"\begin{table}[htbp]", rf"\centering{set_up}", caption, rf"\begin{{tabular}}{{{layout}}}", r"\toprule",
            heading, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}", "",
        ]  # fmt: skip
    return "\n".join(lines)


def _heading(text: str, width: float, left: bool) -> str:
    """Return a heading in as many lines as keep it as narrow as its column."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) < 2:
        return escape_latex(text)
    side, stacked = "l" if left else "r", r"\\".join(map(escape_latex, lines))
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


def _lines(row: PrintedRow, columns: Sequence[int], grid: PrintedTable, wraps: Sequence[bool]) -> Iterator[str]:
    cells = {i: escape_latex(row.cells[i]) for i in columns}
    for i in columns:
        if i < grid.left and wraps[i]:
            cells[i] = rf"\raggedright {_breakable(row.cells[i])}"
        elif row.kind == "winner" and cells[i]:
            cells[i] = rf"\textbf{{{cells[i]}}}"
        elif i in grid.muted:
            cells[i] = rf"\textit{{{cells[i]}}}"
    under = [escape_latex(row.under[i]) for i in columns] if row.under else []
    # A row stays with the line below it, and a wrapped cell has its own meaning of "\\\\".
    end = r"\tabularnewline" if any(wraps) else r"\\*" if any(under) else r"\\"
    yield f"{' & '.join(cells.values())} {end}"
    if any(under):
        yield _row(rf"{{\tiny {text}}}" if text else "" for text in under)


def _breakable(text: str) -> str:
    """Return a text whose long words may break anywhere, without a hyphen."""
    pieces = (re.findall(f".{{1,{NARROWEST // 2}}}", word) for word in text.split())
    return " ".join(r"\allowbreak{}".join(map(escape_latex, parts)) for parts in pieces)


def _row(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


@lru_cache(maxsize=1 << 16)
def escape_latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is, in ASCII; signs that its standard fonts lack are named by their number.

    >>> escape_latex("q_95 & 5 %"), escape_latex("é 中")
    ('q\\_95 \\& 5 \\%', "\\'{e} {[}U+4E2D{]}")
    """
    plain = printable(text).replace("--", "-\u200c-").replace("--", "-\u200c-")
    return "".join(map(_escaped, plain))


def _escaped(sign: str) -> str:
    if (known := _LATEX.get(sign)) is not None:
        return known
    if sign.isascii():
        return sign
    base, *accents = unicodedata.normalize("NFD", sign)
    if base.isascii() and len(accents) == 1 and accents[0] in _ACCENTS:
        return rf"\{_ACCENTS[accents[0]]}{{{base}}}"
    return f"{{[}}U+{ord(sign):04X}{{]}}"
