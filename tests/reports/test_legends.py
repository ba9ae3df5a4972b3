"""Every legend says over which methods its p are corrected, and p stand beside the mark that they decide."""

import re

import pytest
from rich.console import Console
from uasbench.api_run import Run
from uasbench.reports.build import build
from uasbench.reports.compare import compare, compared
from uasbench.reports.console import headline as console_headline
from uasbench.reports.grid import compact_grid
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

SIX = "the 6 competitors and, apart, the 1 method marked §"
THREE = "the 3 competitors and, apart, the 1 method marked §"
BOTH = f"after Holm over {SIX} (draem, hu-deviation), {THREE} (†, ‡)."


@pytest.fixture(scope="module")
def records(make_record, liver_records):
    return [*liver_records, *(make_record("u-net", seed=s, uses="labels", level=0.6) for s in range(3))]


@pytest.fixture(scope="module")
def folder(records, make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), records)


def test_every_table_with_a_corrected_p_names_its_family(folder, make_record, make_run, tmp_path):
    for path in build(folder):
        for grid in path.read_text().split("### ")[1:] if path.suffix == ".md" else []:
            if re.search(r"\(Holm\)|p over|Against ", grid):
                assert SIX in grid or THREE in grid, grid.partition("\n")[0]
    assert BOTH in (folder.tables_dir / "headline-lits-btcv.md").read_text()
    assert BOTH in folder.report_html.read_text()
    assert BOTH in Run(folder.path)._repr_html_()
    with (console := Console(width=400)).capture() as shown:
        console.print(console_headline(folder))
        for part in compared(compare(folder, "hu-deviation"), console):
            console.print(part)
    assert BOTH in shown.get()
    assert f"Holm over {SIX}." in shown.get()
    changed = [make_record(f"{m}{v}", seed=s) for m in ("ae", "dae") for v in ("", "@tuned", "+sam") for s in range(3)]
    other = make_run(tmp_path, changed)
    build(other)
    for name in ("tuned", "refined"):
        (part,) = (other.tables_dir / f"{name}.md").read_text().split("### ")[1:]
        assert re.search(r"correction over .*: the 2 (competitors|methods marked ˢ)\b", part), name


def test_methods_under_another_protocol_are_another_family(liver_records, make_run, tmp_path):
    kept = []
    for record in liver_records:
        values = {
            part: [v for v in getattr(record, part) if (record.cell.method, v.protocol) != ("ae", "native")]
            for part in ("per_case", "pooled")
        }
        kept.append(record.model_copy(update=values))
    folder = make_run(tmp_path, kept)
    build(folder)
    assert "p against draem under native: Holm over the 5 competitors." in folder.report_html.read_text()
    assert "under oracle: Holm" not in folder.report_html.read_text()


def test_the_table_of_a_paper_has_the_p_beside_the_mark_and_what_is_missing(records):
    lacking = [r for r in records if (r.cell.method, r.cell.seed) != ("ae", 2)]
    info = {"references": {"lits": "hu-deviation"}, "cells": [r.cell.slug for r in records]}
    made = Tables(lacking, info=info)
    (one,) = headlines(made.summary, made.headline_tests, made.told_missing)
    grid = compact_grid(one)
    place = grid.headers.index("p over trivial")
    ps = {row.cells[0].split()[0]: row.cells[place] for row in grid.rows}
    tests = made.paired_tests.query("reference == 'best-trivial' and unit == 'patient' and protocol == 'val'")
    found = tests.query("metric == 'dice'").set_index("method")["p_holm_crossed"]
    assert ps["ae"] == "no gain"
    assert ps["draem"] == f"{found['draem']:.3f}"
    assert {ps[m] for m in ("hu-deviation", "hu-threshold", "random", "roi-area")} == {""}
    for row in one.rows:
        assert ("†" in row.marks) == (row.method in found and (found[row.method] > 0.05 or ps[row.method] == "no gain"))
    said = " ".join(grid.legend)
    assert f"after Holm over {THREE}" in said
    assert "Failures: exclude. Cells that failed or are missing are left out: ae (seed 2)." in grid.legend
    assert any(sentence.startswith("Fewer than 50 patients") for sentence in grid.legend)


def test_a_mark_by_the_area_has_its_p_and_family(records):
    made = Tables(records)
    rows = made.summary.query("unit == 'slice'").set_index("method")
    tested = rows.loc[["ae", "draem", "two-stage", "u-net"]]
    assert rows.index[rows["p_area_alone"].notna()].isin(tested.index).all()
    not_shown = (tested["p_area_alone"] > 0.05) | (tested["mean"] <= rows.loc["roi-area", "mean"])
    assert tested["flags"].str.contains("area-alone").to_dict() == not_shown.to_dict()
    assert {*not_shown} == {True, False}
    (one,) = headlines(made.summary)
    assert one.families["‡"] == THREE
    assert made.summary.query("unit == 'patient'")["p_area_alone"].isna().all()
