"""Headline, Markdown, LaTeX, console and literature: what readers see, escaped."""

import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from uasbench.benchmark.experiments import Printed
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.reports.console import beside
from uasbench.reports.console import headline as console_headline
from uasbench.reports.grid import PrintedRow, PrintedTable, headline_grid, paired_grids, published_grid
from uasbench.reports.headline import headlines
from uasbench.reports.tables import make_tables
from uasbench.reports.verdict import sentences
from uasbench.reports.writers import escape_latex, latex, markdown

INFO = {"references": {"lits": "hu-deviation"}}


@pytest.fixture(scope="module")
def tables(liver_records):
    return make_tables(liver_records, info=INFO)


@pytest.fixture(scope="module")
def headline(tables):
    (found,) = headlines(tables.summary)
    return found


def test_rows_are_ordered_and_marked(headline):
    assert [row.method for row in headline.rows[:4]] == ["two-stage", "draem", "hu-deviation", "ae"]
    marks = {row.method: row.marks for row in headline.rows}
    assert "◆" in marks["hu-deviation"]
    assert "†" in marks["ae"]
    assert marks["two-stage"] == ""
    assert "‡" in marks["draem"]
    assert "‡" not in marks["roi-area"]
    assert headline.area == 0.7


def test_every_printed_dice_carries_its_protocol(headline):
    titles = [headline.title_of(c) for c in headline.columns if c.metric in ("dice", "psc", "sen") and c.key != "gap"]
    assert all(any(p in title for p in PROTOCOLS) for title in titles)
    assert any("upper bound" in title for title in titles)


def test_without_val_the_next_protocol_decides(make_record):
    records = [make_record(m, protocols=["healthy-q95", "oracle"], level=v) for m, v in (("ae", 0.3), ("dae", 0.5))]
    (found,) = headlines(make_tables(records).summary)
    assert found.verdict == ("healthy-q95", "dice")
    assert found.rows[0].method == "dae"
    assert found.rows[0].entries["val"].value == "n/a"


def test_no_method_sinks_below_na(make_record):
    records = [make_record("ae"), make_record("dae", dice={"p1-c": None, "p2-c": None})]
    (found,) = headlines(make_tables(records).summary)
    assert [r.method for r in found.rows] == ["ae", "dae"]
    assert found.rows[1].entries["val"].reason == "no lesion"


def test_markdown_table_is_rectangular(headline, tables):
    for grid in (headline_grid(headline), *paired_grids(tables.paired_tests, "lits", "btcv")):
        lines = [line for line in markdown([grid]).splitlines() if line.startswith("|")]
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1
        assert len(lines) == len(grid.rows) + 2


def test_latex_table_is_rectangular_and_balanced(headline):
    text = latex([headline_grid(headline)])
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({len(re.split(r"(?<!\\)&", row)) for row in rows}) == 1
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert text.isascii()
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_latex_escapes_every_special_sign():
    assert escape_latex(r"a\b_c & 5 % $ # {x} ~ ^") == (
        r"a\textbackslash{}b\_c \& 5 \% \$ \# \{x\} \textasciitilde{} \textasciicircum{}"
    )
    grid = PrintedTable("t", ("a", "b"), (PrintedRow(("x@y_z & co", "[1, 2]\n% gone")),))
    row = next(line for line in latex([grid]).splitlines() if line.startswith("x@"))
    assert row == r"x@y\_z \& co & {[}1, 2{]} \% gone \\"


def test_markdown_escapes_markup():
    grid = PrintedTable("<script>", ("a",), (PrintedRow(("a|b *c* <b> `d`",)),))
    text = markdown([grid])
    assert "<script>" not in text
    assert r"| a\|b \*c\* &lt;b&gt; \`d\` |" in text
    assert "None." in markdown([PrintedTable("Failed cells", ("a",), ())])


def test_stars_follow_holm_and_the_card_reference_comes_before_draem(tables):
    grids = paired_grids(tables.paired_tests, "lits", "btcv")
    column = grids[0].headers.index("p (Holm)")
    for p in (row.cells[column] for row in grids[0].rows):
        assert p.endswith("***") == p.startswith("<0.001")
    assert grids[0].title == "Dice val against hu-deviation"
    assert grids[-1].title.endswith("draem")


def test_published_numbers_only_beside_real_data(headline, make_record):
    grid = published_grid(headline)
    assert grid is not None
    assert any("53.03" in cell for row in grid.rows for cell in row.cells)
    assert all(row.kind == "published" for row in grid.rows)
    (phantom,) = headlines(make_tables([make_record("ae", phantom=True)]).summary)
    assert published_grid(phantom) is None
    (other,) = headlines(make_tables([make_record("ae", dataset="mine")]).summary)
    assert published_grid(other) is None


def test_verdict_names_winner_baseline_and_test(headline, tables):
    said = " ".join(sentences(headline, tables.summary, tables.paired_tests))
    assert said.startswith("Best learning method: two-stage, Dice val")
    assert "best trivial baseline, hu-deviation" in said
    assert "2 of 3 learning methods lie above it" in said
    assert "two-stage against hu-deviation: +" in said


def test_verdict_with_one_patient_says_why_there_is_no_test(make_record):
    made = make_tables([make_record(m, patients=["p1"]) for m in ("hu-deviation", "ae")], info=INFO)
    (found,) = headlines(made.summary)
    said = " ".join(sentences(found, made.summary, made.paired_tests))
    assert "no test (1 patient: a paired test needs 2)" in said


def test_console_prints_marks_and_phantom(make_run, make_record, tmp_path):
    records = [make_record(m, level=v, phantom=True) for m, v in (("hu-deviation", 0.4), ("ae@wide[1]", 0.2))]
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(console_headline(make_run(tmp_path, records)))
    text = console.export_text()
    assert "PHANTOM" in text
    assert "hu-deviation ◆" in text
    assert "ae@wide[1] †" in text
    assert "upper bound" in text


def test_console_without_records(make_run, tmp_path):
    assert "No cell has finished" in str(console_headline(make_run(tmp_path)))


def test_printed_and_measured_stand_in_per_cent_side_by_side_and_an_upper_bound_is_marked():
    where = {"dataset": "lits", "protocol": "native", "metric": "dice", "unit": "patient"}
    summary = pd.DataFrame(
        [
            {"method": "a", **where, "mean": 0.5, "std": 0.125, "n_cases": 9, "n_seeds": 3, "flags": ""},
            {"method": "b", **where, "mean": np.nan, "std": np.nan, "n_cases": 0, "n_seeds": 0, "flags": ""},
        ]
    )
    printed = [Printed(row=row, value=48.25, std=2.0 if row == "a" else None, **where) for row in ("a", "b", "c")]
    found = beside(printed, summary).set_index("row")
    assert found.loc["a"].tolist() == ["lits", "Dice native, patient", "48.2 ± 2.0", "50.0 ± 12.5", "+1.8", 9, 3, ""]
    for row in ("b", "c"):
        assert found.loc[row, ["printed", "here", "difference", "n_cases"]].tolist() == ["48.2", "n/a", "n/a", 0]
    where = {"dataset": "coronacases", "protocol": "paper-lung", "metric": "dice", "unit": "pooled"}
    row = {"method": "a", **where, "mean": 0.5, "std": 0.1, "n_cases": 9, "n_seeds": 3}
    summary = pd.DataFrame([row | {"flags": "phantom;oracle;topline"}])
    found = beside([Printed(row="a", value=48.0, std=None, **where)], summary)
    assert found.loc[0, "flags"] == "oracle;topline"
