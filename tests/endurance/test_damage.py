"""Every file of a finished run and of the store, damaged in every way, read by every command.

The outcome is the same numbers, whether or not something was made again for them, or a refusal that names the file:
never a traceback, never other numbers.
"""

import random
import re
from collections import Counter
from typing import NamedTuple

import pytest

from .damages import DAMAGES, UNPICKLED, damage
from .isolation import isolated
from .parts import work_off
from .workbench import COMMANDS, Answer, Workbench

SECONDS = 120
STORE_COMMANDS = ("run elsewhere", "run", "rescore")


class Damage(NamedTuple):
    """A file of the run or of the cache, what happens to it, and the command that meets it."""

    part: str
    file: str
    kind: str
    command: str


def all_damages(workbench: Workbench) -> list[Damage]:
    """Return every combination, in an order of which any part is a fair sample."""
    found = [Damage("run", f, k, c) for f in workbench.files(workbench.run) for k in DAMAGES for c in COMMANDS]
    found += [
        Damage("cache", f, k, c) for f in workbench.files(workbench.cache) for k in DAMAGES for c in STORE_COMMANDS
    ]
    random.Random(0).shuffle(found)
    return found


def outcome(chosen: Damage, got: Answer, whole: Answer) -> str:
    """Name what a command made of a damaged file; what begins with a capital is a fault."""
    said = re.sub(r"\s", "", got.said)
    if got.status == UNPICKLED or f"exitstatus{UNPICKLED}" in said:
        return "Unpickled"
    if got.status is None:
        return "Traceback"
    named = re.sub(r"\s", "", chosen.file) in said
    if got.status == 0:
        told = "made again with a warning" if "WARNING" in said and named else "same numbers"
        return told if got.numbers == whole.numbers else "OTHER NUMBERS"
    if got.status not in (2, 3):
        return f"Exit {got.status}"
    return "refused, file named" if named else "Refused without the name"


def ruin(workbench: Workbench, chosen: Damage, rng: random.Random) -> Answer:
    damage(getattr(workbench, chosen.part) / chosen.file, chosen.kind, rng)
    return workbench.call(chosen.command)


def judge(chosen: Damage, got: Answer, whole: Answer, counts: Counter[str]) -> None:
    found = outcome(chosen, got, whole)
    counts[f"{chosen.part}: {found}"] += 1
    if found[0].isupper():
        said = "" if got.status == 0 else f": {got.said.strip()[-400:]}"
        raise AssertionError(f"{' · '.join(chosen)}: {found}{said}")


@pytest.fixture(scope="module")
def workbench(small_bench, small_whole, tmp_path_factory) -> Workbench:
    return Workbench(small_bench, small_whole, tmp_path_factory.mktemp("workbench"))


@pytest.fixture(scope="module")
def undamaged(workbench) -> dict[str, Answer]:
    """What each command says to a whole run."""
    answers = {}
    for command in {*COMMANDS, *STORE_COMMANDS}:
        workbench.mend()
        answers[command] = isolated(workbench.call, command, seconds=SECONDS)
        assert answers[command].status == 0, answers[command].said
    return answers


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_damaged_files(ledger, workbench, undamaged):
    cases = all_damages(workbench)

    def trial(seed: int, counts: Counter[str]) -> None:
        chosen = cases[seed]
        workbench.mend()
        got = isolated(ruin, workbench, chosen, random.Random(f"damage {seed}"), seconds=SECONDS)
        judge(chosen, got, undamaged[chosen.command], counts)

    work_off(ledger, "damaged files", trial, len(cases))


@pytest.fixture(scope="module")
def tiny_workbench(tiny_bench, tiny_whole, tmp_path_factory) -> Workbench:
    return Workbench(tiny_bench, tiny_whole, tmp_path_factory.mktemp("workbench"))


@pytest.mark.parametrize("command", ["report", pytest.param("run", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record(tiny_workbench, kind, command):
    """The short version: the file that every table comes from."""
    tiny_workbench.mend()
    whole = tiny_workbench.call("report")
    (record,) = (f for f in tiny_workbench.files(tiny_workbench.run) if f.startswith("records/"))
    chosen = Damage("run", record, kind, command)
    judge(chosen, ruin(tiny_workbench, chosen, random.Random(kind)), whole, Counter())
