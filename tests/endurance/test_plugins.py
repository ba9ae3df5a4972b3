"""A method that misbehaves costs its own rows at most: the other rows stay what they are, and nothing goes on after."""

import csv
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from .parts import work_off
from .plugins import PLUGINS

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
        name, folder = [*PLUGINS][seed % len(PLUGINS)], tmp_path / str(seed)
        site, module = folder / "site", f"hostile{seed}"
        shutil.copytree(tiny_whole.cache, folder / "cache")
        package(site, "hostile", {f"{module}.py": PLUGINS[name]}, {"methods": {"hostile": f"{module}:Hostile"}})
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        bench = replace(
            tiny_bench,
            methods=f"{GOOD},hostile",
            extra=("--stage-limit", str(STAGE_S)),
            environment={"PYTHONPATH": path},
        )
        started = bench.start(bench.run(folder / "run", folder / "cache"), folder / "log")
        status = started.ended(ENDS_WITHIN_S)
        said = started.said()
        assert status in (0, 2, 3), f"{name}: exit {status}: {said[-600:]}"
        assert "Traceback" not in said, f"{name}: {said[-600:]}"
        assert status != 2 or "hostile" in said, f"{name}: {said[-600:]}"
        counts[f"exit {status}"] += 1
        if status != 2 or (folder / "run" / "tables").exists():
            assert rows(folder / "run") == rows(tiny_whole.run), f"{name}: other numbers of {GOOD}"
        assert status != 2 or name.endswith("at import") or "no Python" in name, f"{name}: no table: {said[-600:]}"
        started.gone()

    work_off(ledger, "hostile plug-ins", trial, len(PLUGINS))
