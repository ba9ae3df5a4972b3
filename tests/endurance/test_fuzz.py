"""Damaged files of a user: every reader refuses them in few words that name the file, or reads them as they are."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from uasbench.datasets.readers import Lost, Readers

from .parts import work_off

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))  # readers import the module by its name too
import fuzzing

INPUTS = 20_000
BATCH = 50
SLOW = {"bench import": 5, "dicom series": 10, "chaos set": 10, "covid-ct-md set": 10, "lits set": 25, "luna16 set": 25}
BATCH_S = 300


@pytest.fixture(scope="module")
def readers():
    with Readers(limit_s=BATCH_S) as found:
        yield found


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_fuzzed_inputs(ledger, readers):
    targets = [*fuzzing.TARGETS]

    def trial(seed: int, counts: Counter[str]) -> None:
        name, turn = targets[seed % len(targets)], seed // len(targets)
        size = SLOW.get(name, BATCH)
        found = readers.one(fuzzing.fuzz, fuzzing.Batch(name, turn * size, size))
        counts["inputs"] += size
        assert not isinstance(found, Lost), f"{name}, numbers {turn * size} to {(turn + 1) * size - 1}: {found.reason}"
        counts.update({f"{name}: {outcome}": count for outcome, count in found.outcomes.items()})
        assert not found.faults, f"{name}: {found.faults}"

    work_off(ledger, "fuzzed inputs", trial, INPUTS, "inputs")
