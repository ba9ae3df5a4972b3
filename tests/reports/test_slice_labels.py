"""Sets with slice labels only: their headline, their tests, and what ``bench compare`` refuses."""

import pytest
from uasbench.benchmark.runs.records import CaseValue, PooledValue
from uasbench.reports.compare import CompareError, compare
from uasbench.reports.grid import headline_grid, paired_grids
from uasbench.reports.headline import headlines
from uasbench.reports.headline_csv import headline_frame
from uasbench.reports.tables import Tables

SLICES_ONLY = "the set has slice labels only"


def slice_record(make_record, method: str, *, seed: int = 0, level: float = 0.6, calibrated: bool = True):
    """Return a record as the scorer writes it for a set with slice labels only."""
    made = make_record(method, seed=seed, dataset="covid-ct-md", train="luna16", protocols=[])
    absent = {"value": None, "reason": SLICES_ONLY}
    voxel = [("none", "auroc"), ("none", "ap"), ("native", "bright_psc")]
    voxel += [(p, m) for p in ("native", "healthy-q95", "val", "oracle", "paper-lung") for m in ("dice", "psc", "sen")]
    per_case, pooled = [], [PooledValue(protocol=p, metric=m, unit="pooled", **absent) for p, m in voxel]
    for k in range(4):
        where = {"case": f"p{k}-c", "patient": f"p{k}"}
        per_case += [CaseValue(**where, protocol=p, metric=m, **absent) for p, m in voxel]
        one_kind = {"value": None, "reason": "all slices belong to one class"}
        number = one_kind if k == 3 else {"value": level - 0.05 + 0.03 * k}
        per_case += [CaseValue(**where, protocol="none", metric=m, **number) for m in ("slice_auroc", "slice_ap")]
    values = [("none", "slice_auroc", level), ("none", "slice_ap", level / 2)]
    rate = level if calibrated else None
    why = None if calibrated else "no held-out healthy scans to calibrate on"
    pooled += [PooledValue(protocol=p, metric=m, unit="slice", value=v) for p, m, v in values]
    pooled += [
        PooledValue(protocol=f"healthy-{q}", metric=f"slice_{m}", unit="slice", value=rate, reason=why)
        for q in ("q95", "q99")
        for m in ("sen", "spe")
    ]
    return made.model_copy(update={"per_case": per_case, "pooled": pooled})


@pytest.fixture(scope="module")
def slice_records(make_record):
    """Two baselines and a method with two seeds."""
    levels = {"hu-opened": (0.6, 1), "roi-area": (0.65, 1), "ae": (0.7, 2)}
    return [slice_record(make_record, m, level=v, seed=s) for m, (v, seeds) in levels.items() for s in range(seeds)]


class TestSliceLabelSets:
    def test_the_headline_and_its_grid_hold_slice_metrics_without_an_empty_column(self, slice_records):
        (slice_headline,) = headlines(Tables(slice_records).summary)
        titles = [c.title for c in slice_headline.columns]
        assert titles == [
            "Slice AUROC", "Slice AUROC per patient", "Slice AP", "Slice SEN healthy-q95", "Slice SPE healthy-q95",
            "Slice SEN healthy-q99", "Slice SPE healthy-q99",
        ]  # fmt: skip
        for column in slice_headline.columns:
            assert any(row.entries[column.key].value != "n/a" for row in slice_headline.rows), column.title
        assert [row.method for row in slice_headline.rows] == ["ae", "roi-area", "hu-opened"]
        assert "‡" in next(row.marks for row in slice_headline.rows if row.method == "hu-opened")
        frame = headline_frame(slice_headline).set_index("method")
        assert not frame.drop(columns=frame.filter(regex="_ci_").columns).isna().all().any()
        assert frame.loc["ae", ["n_cases", "slice_auroc", "slice_sen_healthy-q95"]].tolist() == pytest.approx(
            [6, 70, 70]
        )
        grid = headline_grid(slice_headline)
        assert grid.headers[-1] == "n (cases × seeds)"
        assert [row.cells[-1] for row in grid.rows[:-1]] == ["6 × 2", "6 × 1", "6 × 1"]
        assert grid.rows[-1].cells[:2] == ("chance", "50.0")
        assert not any("Dice" in text for text in grid.headers)
        assert any("not where" in line for line in grid.legend)

    def test_a_column_or_a_table_needs_something_to_hold(self, slice_records, make_record):
        (found,) = headlines(Tables([slice_record(make_record, "ae", calibrated=False)]).summary)
        assert {c.metric for c in found.columns} == {"slice_auroc", "slice_ap"}
        (found,) = headlines(Tables([make_record("ae", dice={"p1-c": None, "p2-c": None})]).summary)
        assert not found.slices_only
        made = Tables(slice_records, info={"references": {"covid-ct-md": "hu-opened"}})
        grids = paired_grids(made.paired_tests, headlines(made.summary)[0])
        assert [g.title for g in grids] == [
            "Slice AUROC against hu-opened",
            "Slice AUROC against the best trivial baseline",
        ]

    def test_compare_uses_slice_auroc_unless_told_otherwise(self, slice_records, make_run, tmp_path):
        frame = compare(make_run(tmp_path, slice_records), "hu-opened")
        assert [set(frame[column]) for column in ("metric", "protocol")] == [{"slice_auroc"}, {"none"}]
        row = frame.loc[(frame["method"] == "ae") & (frame["unit"] == "patient")].iloc[0]
        assert row["n"] == 3
        assert row["mean_diff"] == pytest.approx(0.1)

    def test_what_slices_cannot_say_is_refused(self, slice_records, make_run, tmp_path):
        folder = make_run(tmp_path, slice_records)
        offered = r".*slice_auroc, slice_ap, slice_sen \(healthy-q95, healthy-q99\)"
        for metric in ("dice", "auroc", "aupro", "lesion_sen", "bright_psc", "fp_volume_ml"):
            said = f"(?s){metric} needs voxel labels, but covid-ct-md came with slice labels only"
            with pytest.raises(CompareError, match=said + offered):
                compare(folder, "hu-opened", metric)
        for asked, said in (
            (("slice_auc",), "did you mean 'slice_auroc'"),
            (("slice_sen",), "choose one of healthy-q95, healthy-q99"),
            (("slice_sen", "val"), "no protocol for slice_sen 'val'"),
        ):
            with pytest.raises(CompareError, match=said):
                compare(folder, "hu-opened", *asked)

    def test_beside_voxels_its_rows_say_why_they_are_empty(self, slice_records, make_record, make_run, tmp_path):
        lung = [make_record(m, dataset="coronacases", train="luna16") for m in ("hu-opened", "ae")]
        frame = compare(make_run(tmp_path, [*slice_records, *lung]), "hu-opened", "dice")
        reasons = frame.loc[(frame["unit"] == "patient") & (frame["method"] == "ae")].set_index("dataset")["reason"]
        assert reasons["covid-ct-md"] == SLICES_ONLY
        assert reasons["coronacases"] != SLICES_ONLY
