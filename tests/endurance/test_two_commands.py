"""Two commands on one folder, and three runs that fill one cache together: one result, or a refusal that says why."""

import random
import shutil
import time
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from .bits import bits, differing, doubled_or_missing, leftovers
from .commands import Bench
from .parts import work_off

TRIALS = 108
COMMANDS = ("run", "report", "clean", "rescore", "track", "compare")
ON_A_FINISHED_RUN = [*combinations_with_replacement(COMMANDS, 2)]
ON_AN_EMPTY_FOLDER = [("run", other) for other in COMMANDS]
SHARING = "three runs, one cold cache"


def words(bench: Bench, command: str, run: Path, cache: Path) -> list[str]:
    """Return what a command is called with on the command line."""
    if command == "run":
        return bench.run(run, cache)
    return [command, str(run), *(("--reference", "hu-deviation") if command == "compare" else ())]


def collide(bench: Bench, folder: Path, pair: tuple[str, str], wait_s: float, counts: Counter[str]) -> None:
    """Start two commands on one folder, one after the other; each does its work or is refused with the reason."""
    run, cache, logs = folder / "run", folder / "cache", [folder / "log-1", folder / "log-2"]
    both = []
    for command, log in zip(pair, logs, strict=True):
        both.append(bench.start(words(bench, command, run, cache), log))
        time.sleep(wait_s)
    for command, started in zip(pair, both, strict=True):
        status = started.ended()
        started.gone()
        said = " ".join(started.said().split())
        assert "Traceback" not in said, f"{pair}: {command}: {said[-600:]}"
        assert status in (0, 2), f"{pair}: {command}: exit {status}: {said[-600:]}"
        counts["did its work" if status == 0 else "refused"] += 1
        reasons = ("another bench works in", "is not a run folder", "is held by a worker", "no run.json")
        assert status == 0 or any(reason in said for reason in reasons), f"{pair}: {command}: {said[-600:]}"


def complete(bench: Bench, whole: dict[str, str], folder: Path) -> None:
    """Run the command alone once more and hold the folder against a whole run."""
    run, cache, log = folder / "run", folder / "cache", folder / "log-3"
    assert bench.finish(bench.run(run, cache), log) == 0, log.read_text()[-600:]
    assert not differing(bits(run), whole), f"other bits: {differing(bits(run), whole)}"
    assert not leftovers(run, cache)
    assert not doubled_or_missing(run / "mlflow.db", run)


def share(bench: Bench, whole: dict[str, str], folder: Path, counts: Counter[str]) -> None:
    """Run three times at once, in three folders with one cold cache."""
    runs = [folder / f"run-{i}" for i in range(3)]
    started = [bench.start(bench.run(run, folder / "cache"), folder / f"log-{run.name}") for run in runs]
    for one, run in zip(started, runs, strict=True):
        assert one.ended() == 0, one.said()[-600:]
        counts["did its work"] += 1
        assert not differing(bits(run), whole), f"other bits: {differing(bits(run), whole)}"
    assert not leftovers(folder)


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_two_commands(ledger, small_bench, small_whole, tmp_path):
    kinds = [*ON_A_FINISHED_RUN, *ON_AN_EMPTY_FOLDER, SHARING]

    def trial(seed: int, counts: Counter[str]) -> None:
        rng, kind, folder = random.Random(f"two {seed}"), kinds[seed % len(kinds)], tmp_path / str(seed)
        folder.mkdir()
        counts["commands at once"] += 3 if kind == SHARING else 2
        if kind == SHARING:
            share(small_bench, small_whole.bits, folder, counts)
        else:
            for part in ("run", "cache") if seed % len(kinds) < len(ON_A_FINISHED_RUN) else ("cache",):
                shutil.copytree(getattr(small_whole, part), folder / part)
            collide(small_bench, folder, kind, rng.choice((0, rng.uniform(0, 5))), counts)
            complete(small_bench, small_whole.bits, folder)
        shutil.rmtree(folder)

    work_off(ledger, "two commands", trial, TRIALS)


def test_two_runs_in_one_folder(tiny_bench, tiny_whole, tmp_path):
    shutil.copytree(tiny_whole.cache, tmp_path / "cache")
    counts = Counter[str]()
    collide(tiny_bench, tmp_path, ("run", "run"), 0, counts)
    assert counts == {"did its work": 1, "refused": 1}
    complete(tiny_bench, tiny_whole.bits, tmp_path)
