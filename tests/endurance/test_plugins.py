"""A method that misbehaves costs its own rows at most: the other rows stay what they are, and nothing goes on after."""

import csv
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from .parts import work_off

try:
    from ..benchmark.hostile_plugins import HOSTILE, files, points
except ImportError:  # that table has more kinds than this one, where it is there
    from .plugins import HOSTILE, files, points

GOOD = "hu-deviation"
STAGE_S = 20
ENDS_WITHIN_S = 180


def rows(run: Path) -> list[dict[str, str]]:
    """Return the numbers of the method that does nothing wrong."""
    with (run / "tables" / "per_case.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["method"] == GOOD]


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_hostile_plugins(ledger, tiny_bench, tiny_whole, package, tmp_path):
    def trial(seed: int, counts: Counter[str]) -> None:
        name, folder = [*HOSTILE][seed % len(HOSTILE)], tmp_path / str(seed)
        site, (method,) = folder / "site", points([name])
        shutil.copytree(tiny_whole.cache, folder / "cache")
        package(site, "hostile", files([name]), {"methods": points([name])})
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        bench = replace(
            tiny_bench,
            methods=f"{GOOD},{method}",
            extra=("--stage-limit", str(STAGE_S)),
            environment={"PYTHONPATH": path},
        )
        started = bench.start(bench.run(folder / "run", folder / "cache"), folder / "log")
        status = started.ended(ENDS_WITHIN_S)
        said = started.said()
        assert status in (0, 2, 3), f"{name}: exit {status}: {said[-600:]}"
        assert "Traceback" not in said, f"{name}: {said[-600:]}"
        assert status != 2 or method in said, f"{name}: {said[-600:]}"
        counts[f"exit {status}"] += 1
        if status != 2:
            assert (folder / "run" / "tables").exists(), f"{name}: exit {status} and no table: {said[-600:]}"
            assert rows(folder / "run") == rows(tiny_whole.run), f"{name}: other numbers of {GOOD}"
        else:
            listed = bench.start(["list", "methods"], folder / "list")
            assert listed.ended() == 0
            assert "broken" in listed.said(), f"{name}: the others do not run: {said[-600:]}"
        started.gone()

    work_off(ledger, "hostile plug-ins", trial, len(HOSTILE))
