"""Top lines, transductive methods and weak maps carry their mark wherever they are printed, and move nobody else."""

import re

import pandas as pd
import pytest
from rich.console import Console
from uasbench.benchmark.catalogue.printed import Printed
from uasbench.reports import build
from uasbench.reports.answer import answer
from uasbench.reports.columns import KINDS
from uasbench.reports.console import beside
from uasbench.reports.console import headline as console_headline
from uasbench.reports.figures import score_pictures
from uasbench.reports.grid import headline_grid
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

INFO = {"references": {"lits": "hu-deviation"}}
REFERENCES = {
    "asc-net": "transductive",
    "stu": "overlap",
    "borrowed": "labels-elsewhere",
    "unet": "topline",
    "whole": "whole-slices",
    "ae+sam": "refined",
}
MARKS = {"asc-net": "¶", "stu": "º", "borrowed": "ª", "unet": "§", "whole": "¤", "ae+sam": "ˢ"}
IN_LATEX = {
    **{"asc-net": r"\P{}", "unet": r"\S{}", "whole": r"\textcurrency{}"},
    **{"stu": r"\textordmasculine{}", "borrowed": r"\textordfeminine{}", "ae+sam": r"\textsuperscript{s}"},
}


@pytest.fixture(scope="module")
def competitors(make_record):
    return [
        make_record("hu-deviation", level=0.3, trivial=True),
        make_record("ae", level=0.2),
        make_record("draem", level=0.4),
        make_record("kl-grad", level=0.15, near_chance=True),
        make_record("fpi", level=0.1, undertrained=True, profile="quick"),
    ]


@pytest.fixture(scope="module")
def records(make_record, competitors):
    return [
        *competitors,
        make_record("asc-net", level=0.7, uses="unlabelled-test"),
        make_record("stu", level=0.75, overlap="volumes", pretraining="volumes: ct-org"),
        make_record("borrowed", level=0.65, labels_elsewhere=("msd-colon",)),
        make_record("unet", level=0.8, uses="labels", supervision="full"),
        make_record("whole", level=0.6, region="slices"),
        make_record("ae+sam", level=0.55),
    ]


@pytest.fixture(scope="module")
def tables(records):
    return Tables(records, info=INFO)


@pytest.fixture(scope="module")
def run(make_run, records, tmp_path_factory):
    """A run folder, the files of its report, and the methods of each ranking in it."""
    folder, ranked = make_run(tmp_path_factory.mktemp("run"), records, **INFO), []
    with pytest.MonkeyPatch.context() as patched:
        rank_methods = score_pictures.rank_methods
        patched.setattr(
            score_pictures,
            "rank_methods",
            lambda table, **how: (ranked.append(list(table)), rank_methods(table, **how))[1],
        )
        files = build.build(folder)
    return folder, files, ranked


@pytest.mark.parametrize("method", REFERENCES)
def test_every_table_of_a_run_marks_what_is_no_competitor(method, run):
    folder, files, _ = run
    seen = set()
    for file in (f for f in files if f.suffix in (".md", ".tex")):
        for line in file.read_text().splitlines():
            if re.match(rf"(\| )?{re.escape(method)}\b", line):
                seen.add(file.name)
                mark = IN_LATEX if file.suffix == ".tex" else MARKS
                assert mark[method] in line or REFERENCES[method] in line, line
    assert {"headline-lits-btcv.md", "cost.md", "summary.md"} <= seen
    # What is measured in whole slices is tested against nothing that is measured in the organ.
    assert ("paired_tests-lits-btcv.tex" in seen) == (method != "whole")
    for file in (f for f in files if f.suffix == ".csv"):
        frame = pd.read_csv(file)
        if "method" in frame and len(frame):
            flags = frame.groupby("method")["flags"].first().fillna("")
            assert REFERENCES[method] in flags.get(method, REFERENCES[method]), file.name
            assert not flags.drop(list(REFERENCES), errors="ignore").str.contains(REFERENCES[method]).any(), file.name
    page = folder.report_html.read_text()
    cells = re.findall(rf"<(?:t[dh]|a)[^>]*>\s*({re.escape(method)}[^<]*)<", page)
    assert len(cells) >= 3 + (method != "whole")
    assert sum(MARKS[method] in cell for cell in cells) >= 2 + (method != "whole")


def test_the_terminal_explains_the_marks(run):
    console = Console(width=200, record=True)
    console.print(console_headline(run[0]))
    text = console.export_text()
    assert all(sentence in text for sentence in (*KINDS.values(), "asc-net ¶", "unet §"))


def test_the_best_learning_method_is_a_competitor_and_weak_maps_say_so_below_their_name(tables):
    (headline,) = headlines(tables.summary)
    said = answer(headline, tables.summary, tables.paired_tests).sentences
    assert said[0].startswith("draem is best: ")
    assert any(s.startswith("Transductive method asc-net: ") for s in said)
    assert any(s.startswith("Supervised top line unet: ") for s in said)
    assert any(s.startswith("Weights that had seen the test set stu: ") for s in said)
    assert any(s.startswith("Trained on masks of other sets borrowed: ") for s in said)
    assert "1 of 4 learning methods is shown to beat it." in said
    below = {row.cells[0].split()[0]: row.under[0] for row in headline_grid(headline).rows}
    assert (below["kl-grad"], below["fpi"], below["ae"]) == (
        "few-seeds, near-chance",
        "few-seeds, quick, undertrained",
        "few-seeds",
    )


def test_references_change_neither_ranks_nor_corrected_p_values(run, competitors, tables):
    assert [set(names) for names in run[2]] == [{r.cell.method for r in competitors}]
    keys = ["method", "protocol", "metric", "unit", "reference"]
    alone, together = (some.paired_tests.set_index(keys)["p_holm"] for some in (Tables(competitors, info=INFO), tables))
    pd.testing.assert_series_equal(alone, together[alone.index])


def test_a_reference_in_a_pair_leaves_the_other_unmarked(records):
    some = [record for record in records if record.cell.method in ("ae", *REFERENCES)]
    tests = Tables(some, info={"references": {"lits": "unet"}}).paired_tests
    flags = tests.loc[tests["reference"] == "unet"].groupby("method")["flags"].first()
    assert "topline" not in flags["ae"]
    assert "transductive" in flags["asc-net"]


def test_paper_numbers_stand_beside_marked_rows(tables):
    where = {"dataset": "lits", "protocol": "val", "metric": "dice", "unit": "patient"}
    printed = [Printed(row=row, value=30.0, std=None, **where) for row in ("asc-net", "ae", "absent")]
    found = beside(printed, tables).set_index("row")["flags"]
    assert found.to_dict() == {"asc-net": "transductive;small-n;few-seeds", "ae": "small-n;few-seeds", "absent": ""}
