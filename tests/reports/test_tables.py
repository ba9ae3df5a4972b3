"""Tables from records: columns, marks, unequal sets, stable bytes."""

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from uasbench.benchmark.runs.records import CaseValue, CellKey, Failure, PooledValue, Skip
from uasbench.benchmark.scoring.metrics import METRICS
from uasbench.benchmark.tracking.mirror import metrics
from uasbench.datasets.case import Trust
from uasbench.reports import run_facts
from uasbench.reports.grid import headline_grid, published_grid
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables
from uasbench.reports.writers import csv_text

INFO = {"references": {"lits": "hu-deviation"}}
FIXED = {
    "summary": "method dataset train protocol metric unit mean std ci_low ci_high n_cases n_seeds",
    "per_case": "method dataset train seed case patient protocol metric value",
    "paired_tests": "dataset train protocol metric unit method reference n mean_diff t p_t p_wilcoxon p_holm d_z "
    "ci_low ci_high",
    "cases": "dataset case patient",
    "cost": "method dataset train seed fit_s score_s s_per_slice peak_ram_mib peak_gpu_mib params device",
    "failures": "method dataset seed stage error log",
    "skipped": "method dataset reason",
    "ranks": "dataset train protocol metric unit method n_patients n_methods mean rank rank_low rank_high p_rank1",
}


@pytest.fixture(scope="module")
def tables(liver_records):
    return Tables(liver_records, info=INFO)


def pick(frame, **where):
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame


def one(frame, **where):
    found = pick(frame, **where)
    assert len(found) == 1, found
    return found.iloc[0]


def dice(frame, method, protocol="val", unit="patient"):
    return one(frame, method=method, protocol=protocol, unit=unit, metric="dice")


def flags(row):
    return set(row["flags"].split(";")) - {""}


def test_fixed_columns_come_first(tables):
    for made in (tables, Tables([])):
        assert [name for name, _ in made.items()] == list(FIXED)
        for name, frame in made.items():
            assert " ".join(frame.columns).startswith(FIXED[name])


def test_the_docs_name_every_column_of_every_table(tables):
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
    sections = {part.partition(".csv")[0]: part for part in page.split("\n## ")[1:]}
    for name, frame in tables.items():
        assert [column for column in frame.columns if not re.search(rf"\b{column}\b", sections[name])] == [], name


def test_a_table_is_computed_when_it_is_asked_for(liver_records, monkeypatch):
    monkeypatch.setattr("uasbench.reports.tables.paired_tests", lambda *_: pytest.fail("computed"))
    made = Tables(liver_records, info=INFO)
    assert made["summary"] is made.summary
    assert len(made["cost"]) == len(liver_records)
    with pytest.raises(KeyError, match="scores"):
        made["scores"]


def test_the_mean_is_over_patients_of_seeds_and_unit_seed_spreads_with_a_t_interval(tables, liver_records):
    values = [
        [v.value for v in r.per_case if (v.protocol, v.metric) == ("val", "dice")]
        for r in liver_records
        if r.cell.method == "ae"
    ]
    patients = np.mean(values, axis=0)
    row = dice(tables.summary, "ae")
    assert row[["mean", "std"]].to_list() == pytest.approx([patients.mean(), patients.std(ddof=1)])
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    assert (row["n_cases"], row["n_seeds"], row["n_patients"], row["n_undefined"]) == (6, 3, 6, 0)
    means = np.mean(values, axis=1)
    row = dice(tables.summary, "ae", unit="seed")
    low, high = stats.t.interval(0.95, 2, loc=np.mean(means), scale=stats.sem(means))
    assert row[["mean", "std"]].to_list() == pytest.approx([np.mean(means), np.std(means, ddof=1)])
    assert row[["ci_low", "ci_high"]].to_list() == pytest.approx([low, high])


def test_a_deterministic_method_has_no_fake_spread(tables):
    row = dice(tables.summary, "hu-deviation", unit="seed")
    assert np.isnan([row["std"], row["ci_low"]]).all()
    assert "deterministic" in row["reason"]
    assert row["n_seeds"] == 1


def test_cases_of_a_patient_count_once(make_record):
    record = make_record(dice={"a-1": 0.0, "a-2": 0.4, "b-1": 0.8}, protocols=["val"])
    row = dice(Tables([record]).summary, "ae")
    assert row["mean"] == pytest.approx((0.2 + 0.8) / 2)
    assert (row["n_cases"], row["n_patients"]) == (3, 2)


def test_the_tracking_server_gets_the_means_of_the_summary(make_record):
    record = make_record(dice={"a-1": 0.0, "a-2": 0.4, "b-1": 0.8, "c-1": None})
    rows = Tables([record]).summary.query("unit != 'seed'").dropna(subset="mean")
    sent = metrics(record)
    assert sent.pop("threshold/val") == 0.42
    assert sent == {f"{r['unit']}/{r['protocol']}/{r['metric']}": r["mean"] for _, r in rows.iterrows()}
    assert sent["patient/val/dice"] == pytest.approx(0.5)


CAUTIONS = {"small-n", "few-seeds"}


def test_marks_of_which_a_tie_with_the_best_trivial_baseline_is_below_it(tables, make_record):
    for mark, has, lacks in (
        ("best-trivial", "hu-deviation", "hu-threshold"),
        ("below-best-trivial", "ae", "two-stage"),
    ):
        assert [mark in flags(dice(tables.summary, method)) for method in (has, lacks)] == [True, False]
    assert "best-trivial" in flags(one(tables.summary, metric="slice_auroc", method="roi-area"))
    assert not pick(tables.summary, metric="sen")["flags"].str.contains("best-trivial").any()
    same = {"p1-c": 0.25, "p2-c": 0.5}
    frame = Tables([make_record("hu-deviation", dice=same), make_record("draem", dice=same)]).summary
    assert "below-best-trivial" in flags(dice(frame, "draem"))


def test_errors_are_better_small(make_record, monkeypatch):
    def record(method, volume):
        made = make_record(method, protocols=["val"])
        where = {"protocol": "val", "metric": "fp_volume_ml"}
        values = [CaseValue(case=p, patient=p, value=volume + 0.1 * i, **where) for i, p in enumerate("abcd")]
        if method == "draem":
            values[0].value = 3.01  # differences need a spread to be tested
        return made.model_copy(update={"per_case": values, "pooled": []})

    levels = {"hu-deviation": 9.0, "hu-threshold": 4.0, "ae": 5.0, "draem": 3.0}
    monkeypatch.setitem(METRICS, "fp_volume_ml", replace(METRICS["fp_volume_ml"], one_sided=False))
    frame = pick(Tables([record(*level) for level in levels.items()]).summary, unit="patient")
    frame = frame.set_index("method")["flags"]
    assert "best-trivial" in frame["hu-threshold"]
    assert "below-best-trivial" in frame["ae"]
    assert "below-best-trivial" not in frame["draem"]


def test_thresholds_are_tabulated_but_neither_marked_nor_tested(make_record):
    value = PooledValue(protocol="healthy-q95", metric="slice_threshold", unit="slice", value=0.4)
    records = [
        make_record(m, seed=s, protocols=[]).model_copy(update={"per_case": [], "pooled": [value]})
        for m in ("hu-deviation", "ae")
        for s in range(2)
    ]
    made = Tables(records, info=INFO)
    assert set(made.summary["metric"]) == {"slice_threshold"}
    assert not made.summary["flags"].str.contains("best-trivial").any()
    assert made.paired_tests.empty


def test_the_oracle_gap(tables):
    row, best = (dice(tables.summary, "two-stage", protocol) for protocol in ("val", "oracle"))
    assert row["oracle_gap"] == pytest.approx(best["mean"] - row["mean"])
    assert np.isnan(best["oracle_gap"])


def test_phantoms_are_labelled_everywhere(make_record):
    records = [make_record(m, phantom=True) for m in ("hu-deviation", "ae")]
    key = CellKey(method="vae", dataset="lits", train="btcv", seed=0)
    failure = Failure(cell=key, stage="fit", error="out of memory")
    skip = Skip(method="knn", dataset="lits", reason="no weights")
    made = Tables(records, [failure], [skip], {**INFO, "phantom": {"seed": 1}})
    for _, frame in made.items():
        assert len(frame)
        assert frame["flags"].str.contains("phantom").all()


def test_transductive_topline_and_profiles_without_a_claim_are_flagged(make_record):
    records = [
        make_record("ascnet", uses="unlabelled-test"),
        make_record("unet", uses="labels", supervision="full"),
        make_record("ae", profile="smoke"),
        make_record("vae", profile="quick"),
        make_record("dae", profile="standard"),
    ]
    frame = Tables(records).summary
    told = [flags(dice(frame, m)) - CAUTIONS for m in ("ascnet", "unet", "ae", "vae", "dae")]
    assert told == [{"transductive"}, {"topline"}, {"smoke"}, {"quick"}, set()]


def test_what_is_chosen_or_counted_in_millimetres_on_an_untrusted_spacing_is_flagged(make_record):
    record = make_record("vae", protocols=("val", "native"))
    volumes = [
        CaseValue(case=case, patient=patient, protocol="native", metric=metric, value=1.0, reason=None)
        for case, patient in record.data.patients.items()
        for metric in ("fp_volume_ml", "nsd_2mm")
    ]
    doubted, believed = list(record.data.patients)[:2]
    trust = {doubted: Trust(spacing_trusted=False), believed: Trust("table")}
    data = record.data.model_copy(update={"trust": trust})
    record = record.model_copy(update={"data": data, "per_case": [*record.per_case, *volumes]})
    tables = Tables([record, make_record("hu-deviation", protocols=("val", "native"))], info=INFO)

    def flagged(frame, **where):
        return {"untrusted-spacing" in flags(row) for _, row in pick(frame, method="vae", **where).iterrows()}

    for frame in (tables.summary, tables.per_case, tables.paired_tests):
        assert flagged(frame, protocol="val", metric="dice") == {True}
        assert flagged(frame, protocol="native", metric="dice") == {False}
    assert flagged(tables.paired_tests, protocol="val") == {True}
    for metric in ("fp_volume_ml", "nsd_2mm"):
        assert flagged(tables.summary, metric=metric) == {True}
        assert flagged(tables.per_case, metric=metric, case=doubted) == {True}
        assert flagged(tables.per_case, metric=metric, case=believed) == {False}
    assert not [f for f in tables.cost["flags"] if "spacing" in f]


def test_unequal_sets_are_flagged_and_tests_pair_what_is_common(make_record):
    full = {f"p{i}-c": 0.1 * i for i in range(1, 7)}
    part = {**full, "p6-c": None}
    records = [make_record("hu-deviation", dice=full), make_record("draem", dice=part, protocols=["val"])]
    made = Tables(records, info=INFO)
    assert "unequal-n" in flags(dice(made.summary, "draem"))
    assert "unequal-n" not in flags(dice(made.summary, "hu-deviation"))
    row = pick(made.paired_tests, metric="dice", protocol="val", unit="patient", reference="hu-deviation").iloc[0]
    assert row["n"] == 5
    assert "unequal-n" in row["flags"]
    assert dice(made.summary, "draem")["reason"] == "no lesion"


def test_fewer_seeds_than_others_have_or_the_card_asks_for_or_a_single_one_are_flagged(make_record):
    names = {"ae": (3, 3), "draem": (3, 5), "dae": (1, 1), "hu-deviation": (1, 1)}
    records = [make_record(n, seed=s, min_seeds=least) for n, (seeds, least) in names.items() for s in range(seeds)]
    frame = Tables(records).summary
    assert [n for n in names if "few-seeds" in flags(dice(frame, n))] == ["draem", "dae"]
    assert [n for n in names if "missing-seeds" in flags(dice(frame, n))] == ["dae"]


class TestPairedTests:
    def test_equals_scipy_on_patients(self, tables):
        values = pick(tables.per_case, protocol="val", metric="dice")
        mean = values.groupby(["method", "patient"])["value"].mean()
        row = dice(pick(tables.paired_tests, reference="hu-deviation"), "two-stage")
        test = stats.ttest_rel(mean["two-stage"], mean["hu-deviation"])
        signed = stats.wilcoxon(mean["two-stage"], mean["hu-deviation"]).pvalue
        assert row[["t", "p_t", "p_wilcoxon"]].to_list() == pytest.approx([test.statistic, test.pvalue, signed])
        assert row["boot_low"] < row["mean_diff"] < row["boot_high"]

    def test_references_are_the_cards_and_draem_and_holm_runs_over_the_methods_of_one_family(self, tables):
        assert set(tables.paired_tests["reference"]) == {"hu-deviation", "draem", "best-trivial"}
        assert not (tables.paired_tests["method"] == tables.paired_tests["reference"]).any()
        family = pick(tables.paired_tests, protocol="val", metric="dice", unit="patient", reference="draem")
        assert len(family) == 6
        smallest = family.sort_values("p_t").iloc[0]
        assert smallest["p_holm"] == pytest.approx(min(1, 6 * smallest["p_t"]))
        assert (family["p_holm"] >= family["p_t"]).all()

        # seeds pair with a deterministic reference
        row = dice(pick(tables.paired_tests, reference="hu-deviation"), "ae", unit="seed")
        assert row["n"] == 3
        assert np.isfinite(row["p_t"])

    def test_one_patient_is_not_available_with_the_reason(self, make_record):
        records = [make_record(m, patients=["p1"]) for m in ("hu-deviation", "ae")]
        made = Tables(records, info=INFO)
        row = one(made.paired_tests, unit="patient", protocol="val", metric="dice")
        assert np.isnan(row["p_t"])
        assert row["reason"] == "1 patient: a paired test needs 2"
        assert np.isnan(dice(made.summary, "ae")["ci_low"])

    def test_the_argument_stands_in_for_run_json(self, make_record):
        records = [make_record("ae"), make_record("dae")]
        assert Tables(records).paired_tests.empty
        assert set(Tables(records, info={"references": {"lits": "ae"}}).paired_tests["reference"]) == {"ae"}
        assert set(Tables(records, info={"references": {"lits": None}}).paired_tests["reference"]) == set()


def test_order_of_records_changes_no_byte(liver_records, tables):
    shuffled = list(liver_records)
    random.Random(1).shuffle(shuffled)
    again = Tables(shuffled, info=INFO)
    for (name, frame), (_, other) in zip(tables.items(), again.items(), strict=True):
        assert csv_text(frame) == csv_text(other), name


def test_other_methods_change_no_number_of_a_method(liver_records, tables):
    fewer = Tables([r for r in liver_records if r.cell.method in ("ae", "hu-deviation")], info=INFO)
    numbers = ["mean", "std", "ci_low", "ci_high"]
    for unit in ("patient", "seed", "pooled"):
        whole, part = (pick(t.summary, method="ae", unit=unit)[numbers] for t in (tables, fewer))
        np.testing.assert_array_equal(whole.to_numpy(), part.to_numpy())


def test_different_metrics_per_record_are_no_problem(make_record):
    novel = PooledValue(protocol="weird", metric="novel", unit="pooled", value=None, reason="not for this")
    odd = make_record("odd", protocols=[]).model_copy(update={"pooled": [novel]})
    bare = make_record("bare").model_copy(update={"per_case": [], "pooled": []})
    made = Tables([odd, bare, make_record("hu-deviation")], info=INFO)
    row = one(made.summary, metric="novel")
    assert np.isnan(row["mean"])
    assert row["reason"] == "not for this"
    assert "bare" not in set(made.summary["method"])
    assert set(made.cost["method"]) == {"odd", "bare", "hu-deviation"}


def test_csv_reads_back_equal_with_undefined_numbers_as_not_available(tables, make_record):
    text = csv_text(tables.summary)
    np.testing.assert_allclose(pd.read_csv(io.StringIO(text))["mean"], tables.summary["mean"], rtol=1e-8)
    assert "\r" not in text
    record = make_record("ae", patients=["p1"])
    line = next(x for x in csv_text(Tables([record]).summary).splitlines() if ",val,dice,patient," in x)
    assert ",n/a,n/a,n/a," in line


def test_paper_lung_has_a_column_that_says_upper_bound(make_record):
    made = Tables([make_record("ae", dataset="coronacases", protocols=["val", "oracle", "paper-lung"])])
    assert flags(dice(made.summary, "ae", "paper-lung")) - CAUTIONS == {"oracle"}
    assert np.isnan(dice(made.summary, "ae", "paper-lung")["oracle_gap"])
    (found,) = headlines(made.summary)
    grid = headline_grid(found)
    place = grid.headers.index("Dice paper-lung (upper bound)")
    assert place in grid.muted
    assert "±" in grid.rows[0].cells[place]


def test_published_lung_rows_carry_dice_psc_and_sen_and_their_threshold(make_record):
    for dataset, value in (("coronacases", "68.7 ± 15.8"), ("radiopaedia", "59.4 ± 17.4")):
        (found,) = headlines(Tables([make_record("ae", dataset=dataset, protocols=["paper-lung"])]).summary)
        grid = published_grid(found)
        assert grid is not None
        assert grid.headers[:4] == ("Method", "Dice as printed", "PSC as printed", "SEN as printed")
        rows = {row.cells[0]: row.cells for row in grid.rows}
        assert len(rows) == 15
        assert rows["NormNet"][1] == value
        assert "oracle threshold per data set" in rows["context VAE"][5]
        assert "trained supervised" in rows["nnU-Net, same set"][7]
        assert {len(row) for row in rows.values()} == {len(grid.headers)}
        assert "paper-lung" in grid.legend[0]


def test_methods_with_cells_on_several_instruction_sets_are_flagged_and_the_report_names_the_cells(make_record):
    made = {("ae", 0): ["AVX512"], ("ae", 1): ["AVX2"], ("draem", 0): ["AVX512", "AVX2"], ("dae", 0): ["AVX2"]}
    records = [make_record(name, seed=seed) for name, seed in made] + [make_record("hu-deviation")]
    for record, levels in zip(records, made.values(), strict=False):
        record.environment["made_on"] = levels
    frame = Tables(records).summary
    assert [n for n in ("ae", "draem", "dae", "hu-deviation") if "mixed-cpu" in flags(dice(frame, n))] == [
        "ae",
        "draem",
    ]
    (text,) = run_facts.instruction_sets(records).values()
    assert "AVX512: ae__lits__btcv__s0." in text
    assert "AVX512 and AVX2: draem__lits__btcv__s0" in text
    assert run_facts.instruction_sets(records[3:]) == {}
