import sys

import numpy as np
import pytest
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.planning.options import validated
from uasbench.experiments.diagnostics import phantom_seeds


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs of the same methods on two phantoms."""
    made = tmp_path_factory.mktemp("seeds")
    common = {"methods": "random,hu-threshold", "datasets": ["lits"], "profile": "smoke", "seeds": [0, 1]}
    return [
        run(validated(**common, phantom=True, phantom_seed=s, cache=made / "cache", out=made / str(s)))[0]
        for s in (3, 4)
    ]


@pytest.mark.slow
def test_patients_of_two_phantoms_are_read_together(folders):
    table = phantom_seeds.together([f.records() for f in folders], "hu-threshold").set_index("method")
    dice = {
        name: [
            [v.value for r in f.records() if r.cell.method == name for v in r.per_case if chosen(v)] for f in folders
        ]
        for name in table.index
    }
    for name, (third, fourth) in dice.items():
        row = table.loc[name]
        assert row["dice 3"] == pytest.approx(100 * np.mean(third))
        assert row["dice 4"] == pytest.approx(100 * np.mean(fourth))
        assert row["dice"] == pytest.approx(100 * np.mean(third + fourth))
    random = table.loc["random"]
    assert random["lead"] == pytest.approx(table.loc["hu-threshold", "dice"] - random["dice"])
    assert random["low"] < random["lead"] < random["high"]
    assert random["n"] == 4
    assert np.isnan(table.loc["hu-threshold", "lead"])


def chosen(value):
    return (value.metric, value.protocol) == ("dice", "val")


def test_the_same_phantom_twice_is_refused(folders):
    with pytest.raises(SystemExit, match="each phantom once"):
        phantom_seeds.together([folders[0].records()] * 2, "random")


def test_prints_the_table(folders, monkeypatch, capsys):
    command = ["phantom_seeds", *(str(f.path) for f in folders), "--reference", "hu-threshold"]
    monkeypatch.setattr(sys, "argv", command)
    phantom_seeds.main()
    assert len(capsys.readouterr().out.splitlines()) == 3
