"""Wide runs: the tables from columns are those from records, each record is read once, and damage is told."""

import json
import os

import pytest
from uasbench.benchmark.planning.info import retire_damaged
from uasbench.benchmark.runs.folder import RecordError, RunFolder, RunFolderError
from uasbench.benchmark.runs.records import CellKey, Failure, write_json
from uasbench.benchmark.shelves import part, shelf
from uasbench.benchmark.shelves.shelf import Shelf, briefs
from uasbench.benchmark.verification.findings import Part
from uasbench.reports.build import build, table_texts
from uasbench.reports.checking import compare_tables
from uasbench.reports.tables import tables_of
from uasbench.reports.wide import wide_tables


@pytest.fixture
def run(make_run, make_record, liver_records, tmp_path, monkeypatch):
    """A run that counts as wide, with what makes tables interesting."""
    monkeypatch.setattr(shelf, "WIDE", 3)
    monkeypatch.setattr(part, "AT_ONCE", 3)
    more = [make_record("ae@tuned", level=0.4, seed=seed) for seed in range(3)]
    more += [make_record("vae", dice={"p1-a": 0.3, "p1-b": None, "p1-c": 0.7, "p1-d": 0.1, "p2-a": 0.2}, seed=1)]
    more += [make_record("ae", dataset="other", train="healthy")]
    lost = Failure(cell=CellKey(method="draem", dataset="lits", train="btcv", seed=7), stage="fit", error="no", log="")
    return make_run(tmp_path / "run", [*liver_records, *more], [lost])


def read_by(folder: RunFolder, monkeypatch) -> list[str]:
    """Return the records that bringing the shelf up to date reads."""
    asked: list[str] = []

    def noted(folder, groups):
        asked.extend(name for names in groups.values() for name in names)
        return made(folder, groups)

    made = shelf.made
    with monkeypatch.context() as patch:
        patch.setattr(shelf, "made", noted)
        assert Shelf(folder).update() == []
    return asked


@pytest.mark.parametrize(("policy", "at_once"), [("exclude", 1), ("worst", 4), ("exclude", 1000)])
def test_tables_from_columns_are_those_from_records(run, policy, at_once, monkeypatch):
    monkeypatch.setattr(shelf, "PART", 9)
    monkeypatch.setattr(shelf, "AT_ONCE", at_once)
    ours = table_texts(wide_tables(run, policy, print), many=True)
    theirs = table_texts(tables_of(run, policy))
    left_out = {name for name in theirs if name.startswith(("details-", "per_case"))}
    assert ours == {name: text for name, text in theirs.items() if name not in left_out}
    assert "\nae,lits" in ours["tuned.csv"]


def test_of_a_wide_run_tables_are_built_and_nothing_that_needs_all_its_values(run):
    built = {path.relative_to(run.path).parts[0] for path in build(run)}
    assert built == {"tables"}
    part = Part("tables")
    compare_tables(run, run.records(), part)
    assert (part.outcome, part.counts["tables"] > 10) == ("verified", True)
    with pytest.raises(RunFolderError, match="a metric at a time"):
        _ = wide_tables(run, "exclude", print).scores


def test_a_record_is_read_once_and_again_when_it_was_made_again(run, make_record, monkeypatch):
    everything = sorted(path.name for path in run.records_dir.iterdir())
    assert sorted(read_by(run, monkeypatch)) == everything
    assert read_by(run, monkeypatch) == []
    other = make_record("ae", level=0.9, seed=1)
    write_json(run.record_path(other.cell), other)
    new = make_record("dae", level=0.5)
    write_json(run.record_path(new.cell), new)
    gone = next(path for path in sorted(run.records_dir.iterdir()) if path.name.startswith("two-stage"))
    gone.unlink()
    assert sorted(read_by(run, monkeypatch)) == sorted([run.record_path(r.cell).name for r in (other, new)])
    assert wide_tables(run, "exclude", print).summary.equals(tables_of(run).summary)


def test_briefs_are_the_records_without_values(run):
    for small, whole in zip(briefs(run), run.records(), strict=True):
        assert (small.cell, small.method, small.data, small.cost, small.ids) == (
            whole.cell, whole.method, whole.data, whole.cost, whole.ids
        )  # fmt: skip
        assert {t.protocol for t in small.thresholds} == {t.protocol for t in whole.thresholds}
        assert not small.per_case
    first, second = (record for record in briefs(run) if record.cell.method == "two-stage" and record.cell.seed < 2)
    assert first.config is second.config


def test_a_damaged_record_is_named_and_retired(run):
    damaged = sorted(run.records_dir.iterdir())[2]
    damaged.write_text(damaged.read_text().replace("0.5", "0.6", 1))
    with pytest.raises(RecordError, match=damaged.name):
        build(run)
    (said,) = retire_damaged(run)
    assert damaged.name in said
    assert not damaged.exists()
    build(run)


@pytest.mark.parametrize("name", ["0.json", "0.per_case.parquet"])
def test_a_damaged_shelf_is_named_with_the_fix(run, name):
    build(run)
    path = run.shelf_dir / name
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 3, len(content) // 3 + 40):
        content[i] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"{name} is damaged .*; delete .*shelf"):
        build(run)
    for file in run.shelf_dir.iterdir():
        file.unlink()
    build(run)


def test_a_shelf_of_another_version_is_made_again(run, monkeypatch):
    build(run)
    monkeypatch.setattr(shelf, "VERSION", 99)
    assert len(read_by(run, monkeypatch)) == len(list(run.records_dir.iterdir()))


def test_a_part_that_was_not_finished_is_made_again(run, monkeypatch):
    run.shelf_dir.mkdir()
    (run.shelf_dir / "0.per_case.parquet").write_bytes(b"half")
    assert len(read_by(run, monkeypatch)) == len(list(run.records_dir.iterdir()))
    build(run)


def test_time_alone_makes_a_record_new(run, monkeypatch):
    build(run)
    path = next(iter(run.records_dir.iterdir()))
    os.utime(path, ns=(1, 1))
    assert read_by(run, monkeypatch) == [path.name]
    assert json.loads((run.shelf_dir / "index.json").read_text())["records"][path.name][1] == 1


def test_records_without_values_are_put_on_a_shelf_too(make_run, make_record, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "WIDE", 1)
    monkeypatch.setattr(part, "AT_ONCE", 1)
    bare = [make_record(seed=seed).model_copy(update={"pooled": [], "per_case": []}) for seed in range(2)]
    folder = make_run(tmp_path / "run", [*bare, make_record(seed=2)])
    assert (
        table_texts(wide_tables(folder, "exclude", print))["summary.csv"]
        == table_texts(tables_of(folder))["summary.csv"]
    )
    for path in sorted(folder.records_dir.iterdir())[2:]:
        path.unlink()
    build(folder)
