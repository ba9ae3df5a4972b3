"""LaTeX of every table: it compiles, it fits the page, and no text gets lost or out of hand."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.runs.records import CellKey, Failure, Skip
from uasbench.reports.build import MOST_ROWS, table_texts
from uasbench.reports.grid import PrintedRow, PrintedTable, compact_grid
from uasbench.reports.headline import headlines
from uasbench.reports.latex import TEXT_WIDTH, escape_latex, latex
from uasbench.reports.tables import Tables

EVIL = r"\input{/etc/passwd} $x_1 & 5 % #1 {} ^^M ~ é ß ł 名 \x1b [b] -- ?` <a>|"
TABLE = r"\\begin\{(?:tabular|longtable)\}\{((?:[lr]|p\{\d+pt\})+)\}(.*?)\\bottomrule"
WORDS = " ".join(f"word{i}" for i in range(60))


@pytest.fixture(scope="module")
def texts(liver_records):
    cell = CellKey(method="vae", dataset="lits", train="btcv", seed=1)
    failures = [Failure(cell=cell, stage="fit", error=f"{EVIL} {WORDS}", log="logs/a_b.txt")]
    skipped = [Skip(method="knn", dataset="lits", reason=EVIL), Skip(method="x", dataset="lits", reason="y" * 90)]
    records = [r.model_copy(update={"cell": r.cell.model_copy(update={"method": EVIL})}) if r.cell.method == "ae" else r
               for r in liver_records]  # fmt: skip
    return table_texts(Tables(records, failures, skipped, {"references": {"lits": "hu-deviation"}}))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (texlive-latex-recommended)")
def test_every_table_of_a_run_compiles_and_stays_within_its_line(texts, tmp_path):
    names = [name for name, text in texts.items() if name.endswith(".tex") and (tmp_path / name).write_text(text)]
    assert len(names) >= 10
    lines = [r"\documentclass{article}\usepackage{booktabs,longtable}\begin{document}"]
    lines += [rf"\input{{{name}}}\clearpage" for name in names]
    (tmp_path / "all.tex").write_text("\n".join([*lines, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    for _ in range(3):  # a longtable learns its widths from the run before
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
    beyond = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(beyond, default=0.0) < 0.1 * TEXT_WIDTH


def test_tables_are_ascii_and_as_rectangular_as_they_say(texts):
    for name in (name for name in texts if name.endswith(".tex")):
        text = texts[name]
        assert text.isascii(), name
        for layout, body in re.findall(TABLE, text, re.DOTALL):
            columns = len(re.sub(r"p\{\d+pt\}", "l", layout))
            rows = [line for line in body.splitlines() if re.search(r"(\\\\\*?|\\tabularnewline)$", line)]
            rows = [row for row in rows if not row.startswith(r"\caption")]
            assert rows, name
            assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {columns}, name


def test_a_wide_table_comes_in_parts_that_hold_every_column_once_beside_the_names():
    headers = ("Method", *(f"Column{i}" for i in range(30)))
    rows = tuple(PrintedRow((f"m{r}", *(f"{r}.{i:02d}" for i in range(30)))) for r in range(3))
    text = latex([PrintedTable("Wide", headers, rows, ("Said once.",))])
    parts = text.split(r"\begin{table}")[1:]
    assert len(parts) > 1
    assert [rf"part {i} of {len(parts)}" in part for i, part in enumerate(parts, 1)] == [True] * len(parts)
    assert re.findall(r"\b1\.\d\d\b", text) == [f"1.{i:02d}" for i in range(30)]
    assert text.count("m1 &") == len(parts)
    assert text.count("Said once.") == 1


def test_a_long_table_breaks_over_pages_and_a_short_one_floats():
    def table(n):
        return latex([PrintedTable("t", ("Method", "n"), tuple(PrintedRow((f"m{i}", str(i))) for i in range(n)))])

    assert r"\begin{longtable}" in table(60)
    assert r"\endhead" in table(60)
    assert r"\begin{table}" in table(6)


@given(st.text())
def test_any_text_is_printed_in_ascii_with_balanced_braces_and_no_command_of_its_own(text):
    escaped = escape_latex(text)
    assert escaped.isascii()
    assert "--" not in escape_latex(text.replace("–", "").replace("—", ""))
    plain = re.sub(r"\\[{}]", "", escaped)
    depth = 0
    for sign in plain:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"(?<!\\)[%#&]", escaped)


def test_the_compact_headline_has_the_numbers_of_a_paper_and_the_winner_in_bold(liver_records, texts):
    made = Tables(liver_records)
    (headline,) = headlines(made.summary, made.headline_tests)
    grid = compact_grid(headline)
    columns = ("Method", "Dice val", "95 % interval", "p over trivial", "AUROC", "AP", "n (patients × seeds)")
    assert grid.headers == columns
    assert "(part " not in latex([grid])
    full = {row.method: row for row in headline.rows}
    best, entries = grid.rows[0], full["two-stage"].entries
    p = entries["against-best-trivial"].interval.removeprefix("p ")
    shown = (entries["val"].value, entries["val"].interval, p, entries["auroc"].value, entries["ap"].value)
    assert best.cells == ("two-stage", *shown, "6 × 3")
    assert [row.kind for row in grid.rows].count("winner") == 1
    assert rf"\textbf{{{entries['val'].value}}}" in texts["headline-lits-btcv.tex"]
    assert "‡" not in " ".join(grid.legend) or any("‡" in row.cells[0] for row in grid.rows)


def test_bold_is_never_a_reference_that_saw_lesion_labels(make_record):
    records = [make_record("ae", level=0.2), make_record("unet", level=0.6, uses="labels", supervision="full")]
    (headline,) = headlines(Tables(records).summary)
    assert headline.rows[0].method == "unet"
    assert headline.winner is not None
    assert headline.winner.method == "ae"


def test_long_tables_for_readers_have_their_first_rows_and_say_where_all_are(texts):
    summary = texts["summary.csv"].count("\n") - 1
    assert summary > MOST_ROWS
    said = f"The first {MOST_ROWS} of {summary} rows; tables/summary.csv has all of them."
    assert said.replace("_", r"\_") in texts["summary.md"]
    assert texts["summary.md"].count("\n| ") == MOST_ROWS + 2
    assert "The first" not in texts["cost.md"]
    assert max(len(text) for name, text in texts.items() if name.endswith((".md", ".tex"))) < 500_000
