"""What tuning has brought: tuned rows against their own defaults, and nothing where none was tuned."""

import numpy as np
import pandas as pd
import pytest
from uasbench.benchmark.statistics import holm
from uasbench.reports.build import build
from uasbench.reports.compare import compare
from uasbench.reports.gain import GAIN
from uasbench.reports.tables import Tables

DICE = {
    "ae": 0.30,
    "ae@tuned": 0.36,
    "vae": 0.28,
    "vae@tuned": 0.28,
    "draem": 0.4,
    "dae@tuned": 0.5,
    "hu-deviation": 0.2,
}


@pytest.fixture(scope="module")
def records(make_record):
    return [make_record(m, seed=seed, level=level) for m, level in DICE.items() for seed in range(3)]


def test_every_tuned_row_is_compared_with_its_own_default_as_bench_compare_does(records, make_run, tmp_path):
    made = Tables(records)
    gain = made.tuned
    assert list(gain.columns) == GAIN
    assert set(gain["method"]) == {"ae", "vae"}  # the others lack one of the two
    assert set(gain["unit"]) == {"patient", "pooled", "slice"}
    summary = made.summary.set_index(["method", "protocol", "metric", "unit"])["mean"]
    tests = compare(make_run(tmp_path, records), "ae", "dice", "val").set_index(["method", "unit"])
    row = gain.set_index(["method", "protocol", "metric", "unit"]).loc["ae", "val", "dice", "patient"]
    same = tests.loc["ae@tuned", "patient"]
    for column in ("n", "mean_diff", "crossed_low", "crossed_high", "p_crossed"):
        assert row[column] == same[column]
    assert "wilcoxon-mute" in same["flags"]  # of that table's p, which this one has not
    assert not gain["flags"].str.contains("wilcoxon-mute").any()
    assert row["default"] == summary["ae", "val", "dice", "patient"]
    assert row["tuned"] == summary["ae@tuned", "val", "dice", "patient"]
    assert row["mean_diff"] == pytest.approx(row["tuned"] - row["default"])


def test_holm_runs_over_the_methods_that_were_tuned_and_top_lines_apart(records, make_record):
    def p(made):
        part = made.tuned
        part = part[(part.protocol == "val") & (part.metric == "dice") & (part.unit == "patient")]
        return part.set_index("method")[["p_crossed", "p_holm_crossed", "n_family"]]

    found = p(Tables(records))
    assert (found["n_family"] == 2).all()
    np.testing.assert_allclose(found["p_holm_crossed"], holm(found["p_crossed"].to_numpy()))
    top = [make_record(f"u-net{v}", seed=s, uses="labels", level=0.5) for v in ("", "@tuned") for s in range(3)]
    more = p(Tables([*records, *top]))
    pd.testing.assert_frame_equal(more.drop("u-net"), found)
    assert more.loc["u-net", "n_family"] == 1


def test_report_and_tables_show_it_where_something_was_tuned_and_there_alone(records, make_run, tmp_path):
    with_, without = make_run(tmp_path / "a", records), make_run(tmp_path / "b", records[:3])
    build(with_)
    build(without)
    table = pd.read_csv(with_.tables_dir / "tuned.csv")
    assert set(table["method"]) == {"ae", "vae"}
    text = (with_.tables_dir / "tuned.md").read_text()
    assert "| ae | Dice val |" in text
    assert "| ae | AP |" in text
    assert "What has tuning brought?" in with_.report_html.read_text()
    assert not (without.tables_dir / "tuned.csv").exists()
    assert "What has tuning brought?" not in without.report_html.read_text()
    assert Tables([]).tuned.empty
    assert list(Tables([]).tuned.columns) == GAIN
