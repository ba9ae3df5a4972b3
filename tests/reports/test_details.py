"""Surfaces, lesions and strata in the report: one section, also where records are old, new, or both."""

import pytest
from uasbench.benchmark.runs.records import CaseFacts, CaseValue, LesionFacts, PooledValue
from uasbench.benchmark.scoring.metrics import METRICS
from uasbench.reports.build import build
from uasbench.reports.details import GROUPS, NOT_MEASURED, details
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

VALUES = {"nsd_2mm": 0.5, "hd95": 31.4, "lesion_f1": 0.25, "lesion_fp": 12.0}


def measured(record, protocols=("native", "healthy-q95", "val"), **changes):
    """A record as the present version writes it."""
    values = VALUES | changes
    per_case = [
        CaseValue(case=case, patient=patient, protocol=protocol, metric=metric, value=value)
        for case, patient in record.data.patients.items()
        for protocol in protocols
        for metric, value in values.items()
    ]
    pooled = [PooledValue(protocol=p, metric="lesion_recall_below_1ml", unit="pooled", value=0.1) for p in protocols]
    pooled.append(PooledValue(protocol="none", metric="patient_auroc", unit="pooled", value=None, reason="one kind"))
    return record.model_copy(
        update={"per_case": [*record.per_case, *per_case], "pooled": [*record.pooled, *pooled]}
    )  # fmt: skip


def details_of(records):
    made = Tables(records)
    (headline,) = headlines(made.summary)
    tables, notes = details(headline, made)
    return {grid.title: grid for grid in tables}, notes


def test_what_is_defined_is_shown_under_the_protocol_of_the_headline(make_record):
    tables, notes = details_of([measured(make_record("ae", seed=s)) for s in range(2)])
    assert not notes
    assert [title.partition(" at the")[0] for title in tables] == list(GROUPS)
    surfaces = tables["Surfaces and volumes at the val threshold"]
    assert surfaces.headers == ("Method", "NSD 2 mm", "HD95 (mm)")
    (row,) = surfaces.rows
    assert row.cells == ("ae", "50.0", "31.4")
    assert row.under == ("", "", "")  # values without any spread have no interval
    assert tables["Lesions by volume and contrast at the val threshold"].rows[0].cells[1] == "10.0"
    assert tables["Slices and patients"].headers == ("Method", "Slice AUROC")


def test_the_table_of_strata_says_how_many_lesions_each_has(make_record):
    record = measured(make_record("ae"))
    lesions = [LesionFacts(ml=0.5, contrast_hu=-30.0), LesionFacts(ml=20.0, contrast_hu=None)]
    facts = CaseFacts(
        slices=9, lesion_slices=2, spacing=(5, 1, 1), organ_ml=900.0, lesion_ml=20.5, noise_hu=10.0, lesions=lesions
    )
    data = record.data.model_copy(update={"facts": dict.fromkeys(record.data.cases, facts)})
    tables, _ = details_of([record.model_copy(update={"data": data})])
    said = tables["Lesions by volume and contrast at the val threshold"].legend[-1]
    assert said.startswith("Lesions: below 1 ml: 6; 1 to 10 ml: 0; 10 ml and more: 6; contrast below 1 sd: 0; ")
    assert said.endswith("contrast of 2 sd and more: 6.")


@pytest.mark.parametrize(("metric", "unit"), [("lesion_recall_below_1ml", "pooled"), ("patient_auroc", "pooled"),
                                              ("slice_sen", "slice")])  # fmt: skip
@pytest.mark.parametrize("left_out", [True, False])
def test_what_is_of_all_patients_has_the_interval_of_leaving_them_out(make_record, metric, unit, left_out):
    protocol = "none" if metric == "patient_auroc" else "val"
    records = [measured(make_record("ae", seed=s)) for s in range(3)]
    for record in records:
        value = 0.4 + 0.01 * record.cell.seed
        kept = {p: value + 0.01 * i for i, p in enumerate(sorted(set(record.data.patients.values())))}
        row = PooledValue(protocol=protocol, metric=metric, unit=unit, value=value, left_out=kept if left_out else {})
        record.pooled[:] = [*(r for r in record.pooled if r.metric != metric), row]
    tables, _ = details_of(records)
    (grid,) = (grid for grid in tables.values() if METRICS[metric].title in grid.headers)
    column = grid.headers.index(METRICS[metric].title)
    (of,) = Tables(records).summary.query("metric == @metric and unit == @unit").to_dict("records")
    assert grid.rows[0].cells[column] == "41.0"
    plain = f"[{100 * of['ci_low']:.1f}, {100 * of['ci_high']:.1f}]"
    assert grid.rows[0].under[column] == plain + ("" if left_out else "#")
    assert any(sentence.startswith("# the interval is over seeds alone") for sentence in grid.legend) != left_out


def test_the_headline_does_not_grow(make_record):
    old, new = make_record("ae"), measured(make_record("ae"))
    columns = [headlines(Tables([record]).summary)[0].columns for record in (old, new)]
    assert columns[0] == columns[1]


def test_old_records_have_a_reason_beside_new_ones_and_alone(make_record, make_run, tmp_path):
    old, new = make_record("draem"), measured(make_record("ae"))
    tables, notes = details_of([old, new])
    assert not notes
    rows = {row.cells[0]: row for row in tables["Lesions at the val threshold"].rows}
    assert set(rows["draem"].cells[1:]) == {"n/a"}
    assert set(rows["draem"].hints[1:]) == {NOT_MEASURED}
    tables, notes = details_of([old])
    assert list(tables) == ["Slices and patients"]
    assert NOT_MEASURED in notes[0]
    for name, records in (("both", [old, new]), ("alone", [old])):
        folder = make_run(tmp_path / name, records)
        build(folder)
        assert "Surfaces, lesions, strata" in folder.report_html.read_text(encoding="utf-8")
        assert (folder.tables_dir / "details-lits-btcv.tex").exists()


@pytest.mark.parametrize("missing", [0, 1])
def test_one_old_seed_of_a_method_is_marked(make_record, missing):
    records = [make_record("ae", seed=0), measured(make_record("ae", seed=1))][missing:]
    records.append(measured(make_record("draem", seed=0)))
    records.append(measured(make_record("draem", seed=1)))
    summary = Tables(records).summary
    row = summary[(summary["method"] == "ae") & (summary["metric"] == "hd95") & (summary["unit"] == "patient")]
    assert row["flags"].str.contains("missing-seeds").all()
    assert (row["n_seeds"] == 1).all()
