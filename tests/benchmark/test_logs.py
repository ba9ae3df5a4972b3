"""The logs of a cell, by whatever part of its name is typed."""

import json

import pytest
from uasbench.benchmark.commands import logs
from uasbench.benchmark.runs.folder import RunFolder

CELLS = ["ae__lits__btcv__s0", "ae__lits__btcv__s1", "vae-spatial__lits__btcv__s0", "vae__lits__btcv__s0"]


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.update_info(cells=[*CELLS[1:], "../../etc/passwd"])
    folder.cells_dir.mkdir()
    plan = {"ids": {"fit": "all", "map": "m", "measure": "n", "members": ["one", "two"]}}
    (folder.cells_dir / f"{CELLS[0]}.json").write_text(json.dumps(plan))
    return folder


def test_cells_are_found_by_name_start_and_wildcard(run):
    assert logs.cells(run) == CELLS
    for typed, cell in ((CELLS[1], 1), ("vae", 3), ("vae-", 2), ("ae*s1", 1)):
        assert logs.cell_named(run, typed) == CELLS[cell]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("ae", "names 2 cells: ae__lits__btcv__s0, ae__lits__btcv__s1"),
        ("vae_spatial", "did you mean 'vae-spatial'?"),
        ("ae__lits__btcv__s9", "did you mean 'ae__lits__btcv__s1'?"),
        ("draem", "lists them"),
    ],
)
def test_a_wrong_name_is_answered_with_a_near_one(run, typed, hint):
    with pytest.raises(logs.LogError) as refused:
        logs.cell_named(run, typed)
    assert hint in str(refused.value)


def test_every_stage_has_its_log_in_order(run):
    found = logs.logs(run, CELLS[0])
    assert [stage for stage, _ in found] == ["fit", "fit", "map", "measure"]
    assert [path.name for _, path in found][:3] == ["fit-one.log", "fit-two.log", f"map-{CELLS[0]}.log"]
    assert [stage for stage, _ in logs.logs(run, CELLS[1])] == ["map", "measure"]  # of maps that were imported


def test_the_end_of_a_log_is_shown_and_bars_in_their_last_state(tmp_path):
    log = tmp_path / "log"
    assert "no log" in next(logs.shown(log, 5))
    log.write_text("")
    assert "printed nothing" in next(logs.shown(log, 5))
    log.write_bytes(b"first\r\n 1 %\r 2 %\r 3 %\n\xff\nlast\n")
    assert list(logs.shown(log, 0)) == ["first", " 3 %", "\ufffd", "last"]
    told, *end = logs.shown(log, 2)
    assert (told.startswith("(2 earlier lines"), end) == (True, ["\ufffd", "last"])
