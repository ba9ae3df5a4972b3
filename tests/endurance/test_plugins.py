"""A method that misbehaves costs its own row at most: the other rows stay what they are, and nothing goes on after."""

import csv
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.common.errors import printable

from .commands import Bench, Whole
from .parts import work_off

GOOD = "hu-deviation"
AT_ONCE = 8
STAGE_S = 30
ENDS_WITHIN_S = 900


def rows(run: Path) -> list[dict[str, str]]:
    """Return the numbers of the method that does nothing wrong."""
    with (run / "tables" / "per_case.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["method"] == GOOD]


def became(run: Path) -> dict[str, tuple[str, str, str]]:
    """Return outcome, stage and reason by method."""
    folder = RunFolder(run)
    found = {skip.method: ("skipped", "plan", skip.reason) for skip in folder.skipped()}
    found |= {f.cell.method: ("failed", f.stage, f.error) for f in folder.failures()}
    return found | {r.cell.method: ("harmless", "plan", "") for r in folder.records() if r.cell.method != GOOD}


def odd(hostile: ModuleType, name: str, found: dict[str, tuple[str, str, str]]) -> str | None:
    """Say what became of a plug-in where it is not what should."""
    wanted, (outcome, stage, said) = hostile.HOSTILE[name], found.get(name, ("without a row", "plan", ""))
    right = outcome == wanted.outcome and (outcome != "failed" or stage == wanted.stage)
    readable = len(said) <= 1000 and said == printable(said) and "\n" not in said
    if right and readable and (outcome in ("harmless", "broken") or re.search(wanted.says, said)):
        return None
    return f"{name}: {outcome} in {stage}, not {wanted.outcome} in {wanted.stage}: {said[:200]!r}"


def meet(hostile: ModuleType, names: list[str], bench: Bench, whole: Whole, folder: Path, counts: Counter[str]) -> None:
    """Run plug-ins beside a method that does nothing wrong; those that cannot be imported are listed."""
    shutil.copytree(whole.cache, folder / "cache")
    path = os.pathsep.join(filter(None, (str(folder / "site"), os.environ.get("PYTHONPATH"))))
    runnable = [name for name in names if name not in hostile.IMPORTS]
    bench = replace(
        bench,
        methods=",".join([GOOD, *runnable]),
        extra=("--stage-limit", str(STAGE_S)),
        environment={"PYTHONPATH": path, "COLUMNS": "400"},
    )
    started = bench.start(bench.run(folder / "run", folder / "cache"), folder / "log")
    status = started.ended(ENDS_WITHIN_S)
    started.gone()
    assert "Traceback" not in started.said(), f"{names}: {started.said()[-600:]}"
    assert status in (0, 3), f"{names}: exit {status}: {started.said()[-600:]}"
    found = became(folder / "run")
    if len(runnable) < len(names):
        listed = bench.start(["list", "methods"], folder / "list")
        assert listed.ended() == 0
        said = " ".join(listed.said().split())
        found |= {name: ("broken", "plan", "") for name in names if name not in runnable and name in said}
    counts.update(f"plug-ins: {found[name][0] if name in found else 'without a row'}" for name in names)
    wrong = [text for name in names if (text := odd(hostile, name, found))]
    assert not wrong, "; ".join(wrong)
    assert rows(folder / "run") == rows(whole.run), f"{names}: other numbers of {GOOD}"
    for file in (folder / "run" / "report.html", *(folder / "run" / "tables").iterdir()):
        assert "\x1b" not in file.read_text(encoding="utf-8"), f"{names}: control characters in {file.name}"


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_hostile_plugins(ledger, hostile, tiny_bench, tiny_whole, package, tmp_path):
    names = [*hostile.HOSTILE]
    batches = [names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)]

    def trial(seed: int, counts: Counter[str]) -> None:
        folder, chosen = tmp_path / str(seed), batches[seed % len(batches)]
        package(folder / "site", "hostile", hostile.files(chosen), {"methods": hostile.points(chosen)})
        meet(hostile, chosen, tiny_bench, tiny_whole, folder, counts)
        shutil.rmtree(folder)

    work_off(ledger, "hostile plug-ins", trial, len(batches))
