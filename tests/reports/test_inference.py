"""What tables claim: intervals of patients, the best trivial baseline, marks that need a test, bounds that bound."""

import numpy as np
import pytest
from uasbench.benchmark.long_form import collect
from uasbench.benchmark.runs.records import PooledValue, Threshold
from uasbench.reports.build import build
from uasbench.reports.grid import headline_grid, paired_grids
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

INFO = {"references": {"lits": "hu-deviation"}}
PATIENTS = [f"p{i}" for i in range(1, 7)]


def with_slices(record, value, left_out):
    row = PooledValue(protocol="none", metric="slice_auroc", unit="slice", value=value, left_out=left_out)
    pooled = [r for r in record.pooled if r.metric != "slice_auroc"]
    return record.model_copy(update={"pooled": [*pooled, row]})


def pick(frame, **where):
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame


def flags(row):
    return set(row["flags"].split(";"))


def paired(made):
    return {grid.title: grid for grid in paired_grids(made.paired_tests, headlines(made.summary)[0])}


@pytest.fixture(scope="module")
def tables(liver_records):
    return Tables(liver_records, info=INFO)


def test_a_pooled_value_has_the_interval_of_its_patients_and_an_older_record_says_that_it_has_not(make_record):
    rng = np.random.default_rng(0)
    left_out = {p: float(v) for p, v in zip(PATIENTS, rng.normal(0.6, 0.02, 6), strict=True)}
    new = [with_slices(make_record("ae", seed=s), 0.6 + s / 100, left_out) for s in range(3)]
    (sample,) = [s.sample for s in collect(new) if s.unit == "slice"]
    assert sample is not None
    assert sample.values.mean(axis=1) == pytest.approx([0.6, 0.61, 0.62])
    spread = np.array([*left_out.values()])
    # The jackknife's variance.
    assert sample.values[0].var(ddof=1) / 6 == pytest.approx(5 / 6 * ((spread - spread.mean()) ** 2).sum())
    row = pick(Tables(new).summary, unit="slice").iloc[0]
    old = pick(Tables([with_slices(r, 0.6 + r.cell.seed / 100, {}) for r in new]).summary, unit="slice").iloc[0]
    assert row["mean"] == old["mean"] == pytest.approx(0.61)
    assert row["ci_high"] - row["ci_low"] > 1.5 * (old["ci_high"] - old["ci_low"])
    assert ("seeds-only" in flags(row), "seeds-only" in flags(old)) == (False, True)
    (found,) = headlines(Tables([with_slices(r, 0.6, {}) for r in new]).summary)
    assert any("over seeds alone" in sentence for sentence in found.legend())
    some = [with_slices(r, 0.6, dict(list(left_out.items())[r.cell.seed :])) for r in new]
    assert [s.sample for s in collect(some) if s.unit == "slice"] == [None]


@pytest.mark.parametrize(
    ("metric", "lacking", "reason"),
    [
        ("lesion_recall_below_1ml", ["p3"], "no interval: undefined without patient p3"),
        ("patient_auroc", ["p2", "p5"], "no interval: undefined without patient p2 or 1 more"),
        ("froc", [], ""),
        ("healthy_share", PATIENTS, "no interval: of held-out healthy scans, not of tested patients"),
        ("slice_threshold", PATIENTS, "no interval: it says what the data are like"),
    ],
)
def test_a_pooled_value_that_needs_a_patient_has_no_interval_and_no_test_over_patients(
    make_record, metric, lacking, reason
):
    def record(method, seed):
        kept = {p: 0.5 + 0.02 * i + 0.01 * seed for i, p in enumerate(PATIENTS) if p not in lacking}
        row = PooledValue(protocol="val", metric=metric, unit="pooled", value=0.5 + 0.01 * seed, left_out=kept)
        return make_record(method, seed=seed).model_copy(update={"pooled": [row]})

    made = Tables([record(method, seed) for method in ("ae", "hu-deviation") for seed in range(3)], info=INFO)
    row = pick(made.summary, metric=metric, method="ae").iloc[0]
    assert row["reason"] == reason
    assert np.isnan(row["ci_low"]) == np.isnan(row["ci_high"]) == bool(reason)
    assert not np.isnan(row["std"])
    assert "seeds-only" not in flags(row)
    tests = pick(made.paired_tests, metric=metric, method="ae", reference="hu-deviation")
    assert tests["p_crossed"].isna().all() == bool(reason)


def test_the_best_trivial_baseline_of_a_patient_is_chosen_by_the_others(make_record):
    values = {"hu-deviation": [0.9, 0.1, 0.1, 0.1], "hu-threshold": [0.2, 0.25, 0.2, 0.3], "ae": [0.5, 0.6, 0.5, 0.4]}
    records = [make_record(m, dice=dict(zip("abcd", v, strict=True)), protocols=["val"]) for m, v in values.items()]
    made = Tables(records, info=INFO)
    best = made.best_trivials["lits", "btcv", "val", "dice", "patient"]
    # hu-deviation has the higher mean, but by patient a alone, whom it may not choose itself for.
    assert best.scores.by_patient == pytest.approx({"a": 0.2, "b": 0.1, "c": 0.1, "d": 0.1})
    assert best.chosen == "hu-deviation"
    rows = pick(made.paired_tests, method="ae", unit="patient", protocol="val", metric="dice").set_index("reference")
    beaten = rows.loc["best-trivial"]
    assert beaten["mean_diff"] == pytest.approx(np.mean([0.3, 0.5, 0.4, 0.3]))
    assert beaten["p_crossed"] >= rows.loc["hu-deviation"]["p_crossed"]
    row = pick(made.summary, method="ae", unit="patient", protocol="val", metric="dice").iloc[0]
    assert row["p_best_trivial"] == beaten["p_holm_crossed"]
    assert row["diff_best_trivial"] == pytest.approx(0.2)  # against hu-deviation, which it beats least surely
    assert "below-best-trivial" in flags(row)
    single = Tables([make_record(m, patients=["p1"]) for m in values], info=INFO)
    assert not single.best_trivials
    assert not single.summary["flags"].str.contains("best-trivial").any()


def test_the_mark_follows_the_corrected_crossed_test_and_its_p_is_printed(tables):
    rows = pick(tables.summary, unit="patient", protocol="val", metric="dice").set_index("method")
    learned = rows.loc[["ae", "draem", "two-stage"]]
    shown = (learned["p_best_trivial"] <= 0.05) & (learned["diff_best_trivial"] > 0)
    assert shown.to_dict() == {"ae": False, "draem": True, "two-stage": True}
    assert [m for m, row in learned.iterrows() if "below-best-trivial" in flags(row)] == ["ae"]
    (found,) = headlines(tables.summary, tables.headline_tests)
    (whole,) = headlines(tables.summary, tables.paired_tests)
    assert headline_grid(found) == headline_grid(whole)
    entries = {row.method: row.entries for row in found.rows}
    assert entries["ae"]["against-best-trivial"].text.startswith("−")
    assert "no gain" in entries["ae"]["against-best-trivial"].text
    assert "p " in entries["two-stage"]["against-hu-deviation"].text
    assert entries["hu-deviation"]["against-hu-deviation"].value == "n/a"
    assert "after Holm over the 6 competitors (draem, hu-deviation), the 3 competitors (†, ‡)." in " ".join(
        found.legend()
    )


def test_legends_name_every_family_and_say_when_wilcoxon_is_mute(tables, make_record, liver_records):
    seen = Tables([*liver_records, make_record("asc-net", uses="unlabelled-test")], info=INFO)
    grid = paired(seen)["Dice val against hu-deviation"]
    assert "the 6 competitors and, apart, the 1 method marked ¶" in grid.legend[0]
    part = pick(tables.paired_tests, unit="patient", protocol="val", metric="dice", reference="hu-deviation")
    assert part["least_p_holm_wilcoxon"].to_list() == pytest.approx([6 * 2 / 2**6] * 6)
    assert part["flags"].str.contains("wilcoxon-mute").all()
    assert (part["p_holm_wilcoxon"] >= part["least_p_holm_wilcoxon"] - 1e-12).all()
    assert any("cannot fall below 0.19" in sentence for sentence in grid.legend)


def test_a_least_p_is_that_of_the_row_and_not_of_a_family_of_equal_rows(make_record):
    numbers = {"long": 10, "short": 6, "tiny": 3, "hu-deviation": 10}
    values = {
        m: {f"p{i}-c": 0.2 + (m != "hu-deviation") * i / 100 for i in range(1, n + 1)} for m, n in numbers.items()
    }

    def tested(*methods):
        made = Tables([make_record(m, dice=values[m]) for m in methods], info=INFO)
        return made, pick(
            made.paired_tests, unit="patient", protocol="val", metric="dice", reference="hu-deviation"
        ).set_index("method")

    made, rows = tested("long", "short", "hu-deviation")
    for name, p in {"long": 2 * 2 / 2**10, "short": 2 / 2**6}.items():
        assert rows.loc[name, "least_p_holm_wilcoxon"] == rows.loc[name, "p_holm_wilcoxon"] == pytest.approx(p)
    assert not rows["flags"].str.contains("wilcoxon-mute").any()
    made, rows = tested("long", "short", "tiny", "hu-deviation")
    assert [m for m, row in rows.iterrows() if "wilcoxon-mute" in flags(row)] == ["short", "tiny"]
    assert rows["least_p_holm_wilcoxon"].to_dict() == pytest.approx(
        {"long": 6 / 2**10, "short": 4 / 2**6, "tiny": 0.25}
    )
    grid = paired(made)["Dice val against hu-deviation"]
    assert any("p (Wilcoxon) of short, tiny cannot fall below 0.062" in sentence for sentence in grid.legend)


def test_a_family_counts_the_tests_that_holm_corrects(tables):
    part = pick(tables.paired_tests, reference="hu-deviation", metric="slice_auroc", unit="slice")
    assert part["p_holm_crossed"].notna().sum() == 6  # of values without a t-test over seeds
    assert (part["n_family"] == 6).all()
    seeds = pick(tables.paired_tests, reference="hu-deviation", metric="dice", unit="seed", protocol="val")
    assert (seeds["n_family"] == seeds["p_holm"].notna().sum()).all()
    assert (seeds["n_family"] > 0).all()


def test_pooled_dice_has_a_gap_to_the_oracle_that_bounds_it(make_record):
    record = make_record("ae", protocols=["native", "val", "oracle", "oracle-pooled"])
    rows = pick(Tables([record]).summary, metric="dice", unit="pooled").set_index("protocol")
    expected = rows["mean"]["oracle-pooled"] - rows["mean"]["native"]
    assert rows["oracle_gap"]["native"] == pytest.approx(expected)
    assert rows["oracle_gap"][["val", "oracle", "oracle-pooled"]].isna().all()


def test_a_quantile_with_ties_is_flagged_where_it_is_used(make_record):
    stored = [Threshold(protocol="healthy-q95", threshold=1.0, quantile=1.0),
              Threshold(protocol="healthy-q99", threshold=0.9, quantile=0.9901)]  # fmt: skip
    record = make_record("ae").model_copy(update={"thresholds": stored})
    rows = pick(Tables([record]).summary, metric="dice", unit="patient").set_index("protocol")["flags"]
    assert {p: "tied-quantile" in text for p, text in rows.items()} == {
        "native": False, "healthy-q95": True, "healthy-q99": False, "val": False, "oracle": False,
    }  # fmt: skip


def test_few_and_skewed_patients_are_marked_and_the_interval_itself_in_print(make_record, make_run, tmp_path):
    flat = {f"p{i}-c": 0.3 + i / 1000 for i in range(60)}
    tail = {**{f"p{i}-c": 0.02 + i / 1000 for i in range(9)}, "p9-c": 0.9}
    records = [make_record("ae", dice=flat), make_record("dae", dice=tail)]
    made = Tables(records)
    found = pick(made.summary, metric="dice", unit="patient", protocol="val").set_index("method")["flags"]
    marks = {m: {"small-n", "skewed"} & set(text.split(";")) for m, text in found.items()}
    assert marks == {"ae": set(), "dae": {"small-n", "skewed"}}
    (one,) = headlines(made.summary)
    intervals = {row.method: row.entries["val"].interval for row in one.rows}
    assert [m for m, text in intervals.items() if text.endswith("]≈")] == ["dae"]
    assert intervals["ae"].endswith("]")
    explained = "≈ values so skewed"
    assert any(sentence.startswith(explained) for sentence in one.legend())
    (calm,) = headlines(Tables(records[:1]).summary)
    assert not any(sentence.startswith(explained) for sentence in calm.legend())
    folder = make_run(tmp_path, records)
    build(folder)
    for name in ("headline-lits-btcv.tex", "headline_full-lits-btcv.tex"):
        assert r"{]}$\approx$" in (folder.tables_dir / name).read_text()
    page = folder.report_html.read_text()
    assert page.count("]≈</small>") > 1
    assert explained in page
