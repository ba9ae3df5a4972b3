"""The explored table: which columns a set shows, under which protocol, and what its cells are sorted by."""

import pytest
from uasbench.reports.explorer import SETS, explorer
from uasbench.reports.formats import percent
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables


@pytest.fixture(scope="module")
def tables(liver_records):
    return Tables(liver_records, info={"references": {"lits": "hu-deviation"}})


@pytest.fixture(scope="module")
def found(tables):
    (headline,) = headlines(tables.summary, tables.paired_tests)
    return explorer(headline, tables)


def shown(found, chosen, protocol):
    return [
        (column.group, column.title)
        for column in found.columns
        if {chosen, f"{chosen}:{protocol}"} & set(column.sets.split())
    ]


def test_rows_keep_the_order_of_the_verdict_and_the_winner_is_one(found):
    assert [row.method for row in found.rows[:3]] == ["two-stage", "draem", "hu-deviation"]
    assert [row.method for row in found.rows if row.kind == "winner"] == ["two-stage"]
    assert {len(row.cells) for row in found.rows} == {len(found.columns)}
    assert found.protocol == "val"
    assert set(found.families) == {"trivial", "reconstruction"}


def test_compact_columns_fit_and_are_those_without_a_script(found):
    compact = shown(found, "compact", "val")
    assert [group for group, _ in compact] == ["dice", "against-hu-deviation", "against-best-trivial", "against-draem",
                                              "ap", "auroc", "n"]  # fmt: skip
    assert compact == [(column.group, column.title) for column in found.columns if column.first]


def test_a_protocol_switches_every_column_that_has_a_threshold(found):
    for chosen in SETS:
        groups = [[group for group, _ in shown(found, chosen, p)] for p in ("val", "native")]
        assert groups[0] == groups[1] != []
    assert ("dice", "Dice native") in shown(found, "compact", "native")
    thresholds = [title for group, title in shown(found, "thresholds", "val") if group == "dice"]
    assert thresholds == [f"Dice {protocol}" for protocol in found.protocols]


def test_cells_print_what_they_are_sorted_by(found, tables):
    rows = tables.summary.query("protocol == 'val' and metric == 'dice' and unit == 'patient'").set_index("method")
    place = next(i for i, c in enumerate(found.columns) if c.title == "Dice val")
    for row in found.rows:
        if row.method in rows.index:
            cell = row.cells[place]
            assert float(cell.value) == pytest.approx(rows.loc[row.method, "mean"])
            assert cell.text.split(" ± ")[0] == percent(float(cell.value))


def test_the_spread_of_seeds_is_that_of_the_means_of_seeds(found, tables):
    seeds = tables.summary.query("protocol == 'val' and metric == 'dice' and unit == 'seed'").set_index("method")
    place = next(i for i, c in enumerate(found.columns) if c.title == "Spread of seeds" and "thresholds:val" in c.sets)
    cells = {row.method: row.cells[place] for row in found.rows}
    assert float(cells["draem"].value) == pytest.approx(seeds.loc["draem", "std"])
    assert cells["draem"].text == percent(seeds.loc["draem", "std"])
    assert cells["hu-deviation"].text == "n/a"


def test_a_reason_stands_only_where_a_value_is_missing(found, make_record):
    partly = [make_record(m, dice={"p1-c": 0.3, "p2-c": None, "p3-c": 0.5}) for m in ("hu-deviation", "ae")]
    made = Tables([*partly, make_record("dae", dice={"p1-c": None})])
    (headline,) = headlines(made.summary)
    cells = {row.method: row.cells[0] for row in explorer(headline, made).rows}
    assert cells["ae"].reason == ""
    assert (cells["dae"].text, cells["dae"].value, cells["dae"].reason) == ("n/a", "", "no lesion")


def test_upper_bounds_are_muted_under_every_set(found):
    bounds = [c for c in found.columns if c.title.endswith(" oracle") or c.group == "gap"]
    assert bounds
    assert all(column.muted for column in bounds)
