"""Whatever a plug-in does or says, it is one row, and the methods beside it run as ever."""

import io
import re
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.commands import listing
from uasbench.benchmark.commands.running import run as run_cells
from uasbench.benchmark.planning import answers, selection
from uasbench.benchmark.planning.plan import plan_cells
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.benchmark.stages.task import Numerics
from uasbench.common.errors import printable

GOOD = "hu-deviation"
Said = dict[str, tuple[str, str]]


def expected(hostile: ModuleType, names: list[str]) -> dict[str, str]:
    return {name: hostile.HOSTILE[name].outcome for name in names}


def unsaid(hostile: ModuleType, said: Said) -> dict[str, str]:
    """Return the reasons that are not those expected, are long, or would change a terminal."""
    wrong = {}
    for name, (_, text) in said.items():
        short = len(text) <= 1000 and text == printable(text) and "\n" not in text
        if not short or not re.search(hostile.HOSTILE[name].says, text):
            wrong[name] = text
    return wrong


@pytest.fixture
def planned(hostile, install, smoke) -> Any:
    """Return ``planned(names)``: the task of a run of these plug-ins and a method that behaves; nothing is trained."""

    def call(names: list[str]) -> Any:
        install("pkg-hostile", hostile.files(names), methods=hostile.points(names))
        options = smoke(",".join([GOOD, *names]), seeds=[0, 1])
        (task,) = planned_tasks(options, 1)
        numerics = Numerics(device="cpu", threads=1, precision="fp32")
        plan_cells(options, numerics, task.data, task.candidates)
        return task

    return call


def test_a_plug_in_that_says_odd_things_when_asked_is_one_row(hostile, planned):
    names = [name for name, one in hostile.PLANNED.items() if not one.slow]
    task = planned(names)
    said: Said = {skip.method: ("skipped", skip.reason) for skip in task.skipped}
    said |= {label: ("failed", reason) for label, reason in task.broken}
    outcome = {c.label: "harmless" for c in task.candidates} | {name: what for name, (what, _) in said.items()}
    assert outcome == {**expected(hostile, names), GOOD: "harmless"}
    assert unsaid(hostile, said) == {}


def test_a_plug_in_that_looks_for_its_weights_for_ever_is_one_row(install, smoke, monkeypatch):
    monkeypatch.setattr(selection, "IDENTITY_S", 1.0)
    source = (
        "import time\nfrom uasbench import Method, MethodCard\n\nclass Sleeper(Method):\n"
        "    card = MethodCard(name='sleeper', title='Sleeper')\n\n"
        "    def extra_identity(self):\n        time.sleep(600)\n"
    )
    install("pkg-sleeper", {"sleeper.py": source}, methods={"sleeper": "sleeper:Sleeper"})
    (task,) = planned_tasks(smoke(f"{GOOD},sleeper", seeds=[0]), 1)
    assert [c.label for c in task.candidates] == [GOOD]
    ((label, reason),) = task.broken
    assert label == "sleeper"
    assert "did not come back within 1 s" in reason


def test_a_view_that_cannot_be_computed_is_the_fault_of_its_method_and_not_of_the_scans(planned, monkeypatch):
    monkeypatch.setattr(answers, "check_view", lambda _: None)
    task = planned(["view-size-negative", "members-list"])
    assert [c.label for c in task.candidates] == [GOOD, "members-list"]
    ((label, reason),) = task.broken
    assert label == "view-size-negative"
    assert re.search(r"cannot be seen through View\(size=-1.*view size -1", reason)


@pytest.mark.slow
def test_a_plug_in_that_cannot_be_imported_is_listed_so_and_runs_no_risk_for_others(hostile, install):
    names = list(hostile.IMPORTS)
    install("pkg-hostile", hostile.files(names), methods=hostile.points(names))
    known = registry.runnable()
    broken = known.broken()
    assert set(names) <= broken.keys()
    assert GOOD in known.select("all")
    assert unsaid(hostile, {name: ("broken", broken[name]) for name in names}) == {}


def test_a_list_names_hostile_plug_ins_and_survives_them(hostile, install):
    names = ["skip-exits", "skip-in-colour", "view-raises", "constructor-exits", "import-exits", "requires-text"]
    install("pkg-hostile", hostile.files(names), methods=hostile.points(names))
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(listing.methods())
    text = console.export_text()
    rows = {name: next(line for line in text.splitlines() if line.strip().startswith(name)) for name in names}
    assert "SystemExit(3)" in rows["skip-exits"]
    assert "\\x1b]0;title\\x07no" in rows["skip-in-colour"]
    assert "\x1b" not in text
    assert "torch" in rows["requires-text"]
    assert "t, o, r" not in rows["requires-text"]


def test_what_broke_in_the_plan_is_a_row_of_the_run_and_the_others_finish(hostile, install, smoke):
    names = ["view-size-huge", "skip-exits", "members-none-at-all", "skip-raises-in-colour", "skip-in-colour"]
    install("pkg-hostile", hostile.files(names), methods=hostile.points(names))
    folder, failed = run_cells(smoke(",".join([GOOD, *names]), trials=1))
    assert failed == 4
    assert [record.cell.method for record in folder.records()] == [GOOD]
    assert {(f.cell.method, f.stage) for f in folder.failures()} == {(name, "plan") for name in names[:4]}
    assert [skip.method for skip in folder.skipped()] == ["skip-in-colour"]
