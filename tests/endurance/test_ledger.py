"""The counting itself: a part goes on where it stopped, keeps its faults, and is over when its target is reached."""

from collections import Counter

import pytest

from .ledger import Ledger
from .parts import MINUTES, SEED, work_off


@pytest.fixture
def ledger(tmp_path, monkeypatch) -> Ledger:
    monkeypatch.delenv(SEED, raising=False)
    monkeypatch.setenv(MINUTES, "1")
    return Ledger(tmp_path, "a")


def test_a_part_goes_on_with_the_next_seed_until_its_target(ledger, monkeypatch):
    seen = []

    def trial(seed: int, counts: Counter[str]) -> None:
        seen.append(seed)
        counts["inputs"] += 10

    work_off(ledger, "part", trial, 30, "inputs")
    work_off(ledger, "part", trial, 30, "inputs")
    assert seen == [0, 1, 2]
    monkeypatch.setenv(MINUTES, "0")
    with pytest.raises(pytest.skip.Exception, match="30 of 50 inputs so far"):
        work_off(ledger, "part", trial, 50, "inputs")
    assert Ledger(ledger.path.parent, "b").next_seed("part") == 0
    assert ledger.next_seed("other") == 0
    monkeypatch.setenv(SEED, "17")
    work_off(ledger, "part", trial, 50)
    assert seen == [0, 1, 2, 17]
    assert ledger.counts("part") == {"trials": 3, "inputs": 30}


def test_a_fault_is_kept_and_does_not_stop_the_others(ledger):
    def trial(seed: int, counts: Counter[str]) -> None:
        counts["tried"] += 1
        assert seed != 1, "one is bad"

    for _ in range(2):
        with pytest.raises(AssertionError, match=f"(?s)part: 1 trials.*{SEED}=1: AssertionError: one is bad"):
            work_off(ledger, "part", trial, 3)
    assert ledger.counts("part") == {"trials": 3, "tried": 3}
    assert "| tried | 3 |" in ledger.markdown()
    assert "3 trials, 1 of them with a fault." in ledger.markdown()


def test_a_line_that_a_kill_cut_off_does_not_count(ledger):
    for seed in (0, 1):
        ledger.add("part", seed, Counter(tried=1))
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole.rstrip()[:-5])
    assert ledger.next_seed("part") == 1
    ledger.add("part", 1, Counter(tried=1))
    assert ledger.counts("part") == {"trials": 2, "tried": 2}


def test_counts_are_laid_out_by_what_stands_before_the_colon(ledger):
    ledger.add("part", 0, Counter({"a: refused": 2, "b: accepted": 1}))
    assert "|  | accepted | refused |\n| --- | --- | --- |\n| a | 0 | 2 |\n| b | 1 | 0 |" in ledger.markdown()
