"""Cells that failed or are missing are named in every table, and left out or counted as worst."""

import re

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner
from uasbench import cli
from uasbench.api_run import Run
from uasbench.benchmark.runs.records import CaseValue, CellKey, Failure, PooledValue
from uasbench.benchmark.verification.findings import Part
from uasbench.reports.build import build
from uasbench.reports.checking import compare_tables
from uasbench.reports.compare import compare
from uasbench.reports.console import headline as console_headline
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

INFO = {"references": {"lits": "hu-deviation"}}


def failure(method, seed):
    return Failure(cell=CellKey(method=method, dataset="lits", train="btcv", seed=seed), stage="fit", error="NaN loss")


@pytest.fixture
def run(make_record, liver_records):
    """``ae`` lacks seed 2, ``vae`` failed at every seed, and ``dae`` was planned and never run."""
    records = [r for r in liver_records if (r.cell.method, r.cell.seed) != ("ae", 2)]
    failures = [failure("ae", 2), failure("vae", 0), failure("vae", 1)]
    info = {**INFO, "cells": [*(r.cell.slug for r in records), "dae__lits__btcv__s0"]}
    return records, failures, info


def dice(tables, method):
    frame = tables.summary
    return frame[(frame.method == method) & (frame.metric == "dice") & (frame.protocol == "val")].set_index("unit")


def test_left_out_cells_are_flagged_and_named(run):
    records, failures, info = run
    tables = Tables(records, failures, (), info)
    assert tables.missing == {
        ("ae", "lits", "btcv"): (2,),
        ("dae", "lits", "btcv"): (0,),
        ("vae", "lits", "btcv"): (0, 1),
    }
    row = dice(tables, "ae").loc["patient"]
    assert "failed-cells" in row["flags"]
    assert row["n_seeds"] == 2
    assert dice(tables, "vae").empty
    (found,) = headlines(tables.summary, tables.headline_tests, tables.told_missing)
    assert "≠" in next(r.marks for r in found.rows if r.method == "ae")
    said = (
        "Failures: exclude. Cells that failed or are missing are left out: ae (seed 2); dae (seed 0); vae (seeds 0, 1)."
    )
    assert said in found.legend()
    untouched = Tables([r for r in records if r.cell.method != "ae"], (), (), INFO)
    assert "failed-cells" not in untouched.summary["flags"].str.cat()
    assert untouched.told_missing("lits", "btcv") == ""


def test_worst_counts_for_every_patient_and_changes_nobody_else(run):
    records, failures, info = run
    left, worst = Tables(records, failures, (), info), Tables(records, failures, (), info, "worst")
    mean, low = (dice(t, "ae").loc["patient"]["mean"] for t in (left, worst))
    assert low == pytest.approx(mean * 2 / 3)
    assert dice(worst, "ae").loc["patient"]["n_seeds"] == 3
    assert dice(worst, "ae").loc["pooled"]["mean"] == pytest.approx(dice(left, "ae").loc["pooled"]["mean"] * 2 / 3)
    assert (dice(worst, "vae")["mean"] == 0).all()
    assert "failed-cells" in dice(worst, "vae").loc["patient"]["flags"]
    numbers = ["mean", "std", "ci_low", "ci_high"]
    np.testing.assert_array_equal(dice(left, "draem")[numbers], dice(worst, "draem")[numbers])
    tests = worst.paired_tests
    row = tests[(tests.method == "vae") & (tests.protocol == "val") & (tests.metric == "dice")].set_index("unit")
    assert row["mean_diff"].loc["patient"].max() < 0
    (found,) = headlines(worst.summary, worst.headline_tests, worst.told_missing)
    assert found.rows[-1].entries["val"].value == "0.0"
    assert "count as the worst value" in " ".join(found.legend())


def test_report_and_compare_take_the_policy(run, make_run, tmp_path):
    records, failures, info = run
    folder = make_run(tmp_path / "run", records, failures, **info)
    for policy in ("exclude", "worst"):
        done = CliRunner().invoke(cli.app, ["report", str(folder.path), "--failures", policy])
        assert done.exit_code == 0, done.output
        assert ("vae" in set(compare(folder, "draem", policy=policy)["method"])) == (policy == "worst")
        words = ["compare", str(folder.path), "--reference", "draem", "--failures", policy]
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.output
        assert any(line.startswith(" vae ") for line in done.output.splitlines()) == (policy == "worst")
        assert f"Failures: {policy}. Cells" in done.output
        compare_tables(folder, folder.records(), tables := Part("tables"))  # a verification knows of the policy
        assert tables.outcome == "verified"
    assert CliRunner().invoke(cli.app, ["report", str(folder.path), "--failures", "ignore"]).exit_code == 2


@pytest.mark.parametrize("policy", ["exclude", "worst"])
def test_every_table_of_means_says_what_is_done_with_missing_cells(run, make_record, make_run, tmp_path, policy):
    records, failures, info = run
    more = [make_record(m, level=0.3, seed=s) for m in ("ae@tuned", "draem+sam") for s in range(3)]
    folder = make_run(tmp_path, [*map(measured, [*records, *more])], failures, **info)
    files = build(folder, policy)
    texts = {path.stem: path.read_text() for path in files if path.suffix == ".md"}
    assert {"tuned", "refined", "ranks-lits-btcv", "details-lits-btcv", "paired_tests-lits-btcv"} <= texts.keys()
    for name, text in texts.items():
        of_means = [grid for grid in text.split("### ")[1:] if not grid.startswith("Published")]
        said = [f"Failures: {'exclude' if name == 'cost' else policy}. Cells" in grid for grid in of_means]
        assert said == [name not in ("cases", "failures", "skipped")] * len(of_means), name
        if name not in ("cases", "failures", "skipped"):
            assert "Cells that failed or are missing" in (folder.tables_dir / f"{name}.tex").read_text()
    for figure in re.findall(r'<figure class="table.*?</figure>', folder.report_html.read_text(), re.DOTALL):
        title = re.search(r"<caption[^>]*>(.*?)<|<figcaption>(.*?)<", figure)
        named = (title[1] or title[2]) if title else ""
        assert ("Failures: " in figure) != named.startswith(("Failed", "Skipped", "Published", "Has training")), named
    with (console := Console(width=150)).capture() as shown:
        console.print(console_headline(folder))
    assert f"Failures: {policy}. Cells" in shown.get()
    assert f"Failures: {policy}. Cells" in Run(folder.path)._repr_html_()


def measured(record):
    """Return a record that has something for every group of details."""
    values = [
        CaseValue(case=case, patient=patient, protocol="val", metric=metric, value=0.5)
        for case, patient in record.data.patients.items()
        for metric in ("nsd_2mm", "lesion_f1")
    ]
    strata = PooledValue(protocol="val", metric="lesion_recall_below_1ml", unit="pooled", value=0.1)
    return record.model_copy(update={"per_case": [*record.per_case, *values], "pooled": [*record.pooled, strata]})
