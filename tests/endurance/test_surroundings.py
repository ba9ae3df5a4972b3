"""What must not change a bit: workers, order, hash seeds, threads of libraries, locale, time zone, home and company."""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .bits import bits, differing
from .commands import Bench, Whole
from .parts import work_off


class Surroundings(NamedTuple):
    """How a run differs from the undisturbed one; ``older`` is a machine whose bits may differ and are counted."""

    environment: dict[str, str] = {}
    methods: str | None = None
    workers: int = 2
    cold: bool = False
    older: bool = False


THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ALL = {
    "one worker": Surroundings(workers=1),
    "three workers": Surroundings(workers=3),
    "methods in another order": Surroundings(methods="ae,random,hu-deviation"),
    "another method beside them": Surroundings(methods="hu-deviation,random,ae,cutpaste"),
    "a cold cache, hash seed 12345": Surroundings({"PYTHONHASHSEED": "12345"}, cold=True),
    "four threads asked for": Surroundings(dict.fromkeys(THREADS, "4")),
    "C locale, Tokyo": Surroundings({"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "99"}),
    "no home": Surroundings({"HOME": "/nonexistent"}),
    "the instructions of an older processor": Surroundings(
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}, older=True
    ),
}


def rerun(bench: Bench, whole: Whole, folder: Path, name: str, counts: Counter[str]) -> None:
    """Run under other surroundings and compare what both runs have."""
    other = ALL[name]
    if not other.cold:
        shutil.copytree(whole.cache, folder / "cache")
    changed: dict[str, Any] = {"environment": other.environment, "methods": other.methods or bench.methods}
    words = replace(bench, **changed).run(folder / "run", folder / "cache", workers=other.workers)
    started = replace(bench, **changed).start(words, folder / "log")
    assert started.ended() == 0, f"{name}: {started.said()[-600:]}"
    found = bits(folder / "run")
    expected = {n: v for n, v in whole.bits.items() if not (other.methods and n.startswith("tables/"))}
    wrong = differing({n: found[n] for n in expected if n in found}, expected)
    counts["other bits" if wrong else "same bits"] += 1
    assert other.older or not wrong, f"{name}: other bits: {wrong}"


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_surroundings(ledger, bench, whole, tmp_path):
    def trial(seed: int, counts: Counter[str]) -> None:
        folder = tmp_path / str(seed)
        folder.mkdir()
        rerun(bench, whole, folder, [*ALL][seed % len(ALL)], counts)
        shutil.rmtree(folder)

    assert os.environ.get("ATEN_CPU_CAPABILITY") is None, "the undisturbed run must be that of this processor"
    work_off(ledger, "surroundings", trial, len(ALL))
