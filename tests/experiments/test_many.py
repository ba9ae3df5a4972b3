"""What many cells cost: the programs that measure it, on a few."""

import re

from uasbench.experiments.diagnostics import many_cells, many_records


def test_a_sweep_is_planned_simulated_and_told(capsys):
    many_cells.main(["--cells", "6", "--workers", "2"])
    said = capsys.readouterr().out
    assert "planning 6 cells" in said
    assert "passing 18 stages through 2 workers" in said
    hours, work = map(float, re.findall(r"simulated: ([\d.]+) h for (\d+) h", said)[0])
    assert (work - 0.5) / 2 <= hours + 0.05, "two workers do not more than two hours an hour"
    assert "'open': 6" in said


def test_tables_of_many_records_are_made_from_those_of_a_run(run, tmp_path, capsys):
    found, at = run("random,roi-area"), tmp_path / "at"
    at.mkdir()
    capsys.readouterr()
    many_records.main([str(found.path), "--cells", "9", "--seeds", "3", "--at", str(at)])
    said = capsys.readouterr().out
    assert [line.split("  ")[0] for line in said.splitlines()] == [
        "writing 9 records", "tables of all", "tables after a hundredth has changed",
    ]  # fmt: skip
    assert list(at.iterdir()) == []
