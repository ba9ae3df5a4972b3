"""Interrupted at any moment, in any way and again: the same command completes the run, with the bits of a whole one."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from .bits import bits, differing, doubled_or_missing, leftovers
from .commands import BARE, LIGHT, WHOLE, Bench, Whole
from .interruptions import AT_ONCE, KINDS, SURVIVED, interrupt, next_moment, wait_for
from .parts import work_off

KILLS = 500
AT_MOST = 6


def disturb(
    bench: Bench, whole: Whole, folder: Path, kinds: list[str], rng: random.Random, counts: Counter[str], cold: bool
) -> None:
    """Interrupt one run folder in each of the ways, then complete it."""
    run, cache = folder / "run", folder / "cache"
    if not cold:
        shutil.copytree(whole.cache, cache)
    families, wrong = [], []
    for number, kind in enumerate(kinds):
        script = rng.choice((BARE, BARE, LIGHT, WHOLE))
        words = bench.run(run, cache, workers=rng.choice((1, 2)))
        started = bench.start(words, folder / f"log-{number}", script=script)
        families.append(started)
        wait_for(next_moment(run, rng, stages_only=script is BARE), run, started, rng, whole.seconds)
        counts["interruptions"] += 1
        counts[kind if interrupt(kind, started) else "after the end"] += 1
        status = started.ended()
        if kind in SURVIVED and status not in (0, 3):
            wrong.append(f"{kind}: exit {status}: {started.said()[-300:]}")
        if kind != AT_ONCE:
            started.gone()
    last = folder / "last"
    status = bench.finish(bench.run(run, cache), last, script=rng.choice((LIGHT, LIGHT, LIGHT, WHOLE)))
    for started in families:
        started.gone()
    assert status == 0, f"exit {status}: {last.read_text()[-600:]}"
    counts["completed by the first command after"] += 1
    found = {
        "tracebacks": [line for line in last.read_text().splitlines() if "Traceback" in line],
        "other bits": differing(bits(run), whole.bits),
        "leftovers": leftovers(run, cache),
        "MLflow": doubled_or_missing(run / "mlflow.db", run),
    }
    wrong += [f"{what}: {which}" for what, which in found.items() if which]
    assert not wrong, "; ".join(wrong)


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_kills(ledger, bench, whole, tmp_path):
    def trial(seed: int, counts: Counter[str]) -> None:
        rng = random.Random(f"kills {seed}")
        kinds = rng.choices([*KINDS], k=rng.randint(1, AT_MOST))
        folder = tmp_path / str(seed)
        folder.mkdir()
        disturb(bench, whole, folder, kinds, rng, counts, cold=rng.random() < 0.3)
        shutil.rmtree(folder)

    work_off(ledger, "kills", trial, KILLS, "interruptions")


def test_everything_is_killed_at_once(tiny_bench, tiny_whole, tmp_path):
    """The short version; ``tests/test_kills.py`` has others."""
    disturb(tiny_bench, tiny_whole, tmp_path, ["SIGKILL all at once"], random.Random(0), Counter(), cold=False)
