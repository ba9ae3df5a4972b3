"""Headline, Markdown, LaTeX, console and literature: what readers see, escaped."""

import re

import pytest
from rich.console import Console
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.benchmark.runs.records import Convergence
from uasbench.reports.console import headline as console_headline
from uasbench.reports.grid import PrintedRow, PrintedTable, headline_grid, paired_grids, published_grid
from uasbench.reports.headline import headlines
from uasbench.reports.latex import escape_latex, latex
from uasbench.reports.tables import Tables
from uasbench.reports.training import watched_trainings
from uasbench.reports.writers import markdown

INFO = {"references": {"lits": "hu-deviation"}}


@pytest.fixture(scope="module")
def tables(liver_records):
    return Tables(liver_records, info=INFO)


@pytest.fixture(scope="module")
def headline(tables):
    (found,) = headlines(tables.summary)
    return found


def test_rows_are_ordered_and_marked_and_every_printed_dice_carries_its_protocol(headline):
    assert [row.method for row in headline.rows[:4]] == ["two-stage", "draem", "hu-deviation", "ae"]
    marks = {row.method: row.marks for row in headline.rows}
    for method, mark in (("hu-deviation", "◆"), ("ae", "†"), ("draem", "‡")):
        assert mark in marks[method]
    assert marks["two-stage"] == ""
    assert "‡" not in marks["roi-area"]
    assert headline.area == 0.7
    titles = [headline.title_of(c) for c in headline.columns if c.metric in ("dice", "psc", "sen") and c.key != "gap"]
    assert all(any(p in title for p in PROTOCOLS) for title in titles)
    assert any("upper bound" in title for title in titles)


def test_without_val_the_next_protocol_decides_and_no_method_sinks_below_na(make_record):
    records = [make_record(m, protocols=["healthy-q95", "oracle"], level=v) for m, v in (("ae", 0.3), ("dae", 0.5))]
    (found,) = headlines(Tables(records).summary)
    assert found.verdict == ("healthy-q95", "dice")
    assert found.rows[0].method == "dae"
    assert found.rows[0].entries["val"].value == "n/a"
    records = [make_record("ae"), make_record("dae", dice={"p1-c": None, "p2-c": None})]
    (found,) = headlines(Tables(records).summary)
    assert [r.method for r in found.rows] == ["ae", "dae"]
    assert found.rows[1].entries["val"].reason == "no lesion"


def test_tables_are_rectangular_and_latex_is_balanced(headline, tables):
    for grid in (headline_grid(headline), *paired_grids(tables.paired_tests, headline)):
        lines = [line for line in markdown([grid]).splitlines() if line.startswith("|")]
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert len(lines) == len(grid.rows) + 2
    text = latex([headline_grid(headline)])
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    assert text.isascii()
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_latex_and_markdown_escape_every_special_sign():
    assert escape_latex(r"a\b_c & 5 % $ # {x} ~ ^") == (
        r"a\textbackslash{}b\_c \& 5 \% \$ \# \{x\} \textasciitilde{} \textasciicircum{}"
    )
    grid = PrintedTable("t", ("a", "b"), (PrintedRow(("x@y_z & co", "[1, 2]\n% gone")),))
    row = next(line for line in latex([grid]).splitlines() if line.startswith("x@"))
    assert row == r"x@y\_z \& co & {[}1, 2{]} \% gone \\"
    grid = PrintedTable("<script>", ("a",), (PrintedRow(("a|b *c* <b> `d`",)),))
    text = markdown([grid])
    assert "<script>" not in text
    assert r"| a\|b \*c\* &lt;b&gt; \`d\` |" in text
    assert "None." in markdown([PrintedTable("Failed cells", ("a",), ())])


def test_stars_follow_holm_and_the_card_reference_comes_before_draem(tables, headline):
    grids = paired_grids(tables.paired_tests, headline)
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
    (phantom,) = headlines(Tables([make_record("ae", phantom=True)]).summary)
    assert published_grid(phantom) is None
    (other,) = headlines(Tables([make_record("ae", dataset="mine")]).summary)
    assert published_grid(other) is None


def test_console_prints_marks_and_phantom_or_that_there_is_nothing(make_run, make_record, tmp_path):
    records = [make_record(m, level=v, phantom=True) for m, v in (("hu-deviation", 0.4), ("ae@wide[1]", 0.2))]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(console_headline(make_run(tmp_path / "run", records)))
    for part in ("PHANTOM", "hu-deviation ◆", "ae@wide[1] †", "upper bound"):
        assert part in captured.get()
    assert "No cell has finished" in str(console_headline(make_run(tmp_path / "empty")))


def test_watched_trainings_are_one_row_per_method_and_phase_and_the_others_are_named(make_record):
    def watched(phase, values, verdict, ratio):
        return Convergence(phase=phase, points=list(enumerate(values)), ratio=ratio, verdict=verdict, rule=2)

    first = [watched("restoration", [1.0, 0.5, 0.25], "flattened", 1.0), watched("joint", [1.0, -1.0], "falling", 0.9)]
    second = [watched("restoration", [1.0, 0.5, 0.05], "falling", 0.5)]
    records = [
        make_record("two-stage", seed=seed).model_copy(update={"convergence": phases})
        for seed, phases in enumerate((first, second))
    ]
    idle = make_record("padim")
    idle = idle.model_copy(update={"cost": idle.cost.model_copy(update={"updates": {"phase 1": 3}})})
    rows, others = watched_trainings([*records, idle])
    assert others == ["padim"]
    assert [(row.phase, row.verdict, row.ratio) for row in rows] == [
        ("restoration", "falling (flattened 1 of 2, falling 1 of 2)", "0.75"),
        ("joint", "falling", "0.90"),
    ]  # fmt: skip
    assert (rows[0].start, rows[0].last) == ("1", "0.15")
    assert rows[1].lines == ("0.0,0.0 120.0,26.0",)
