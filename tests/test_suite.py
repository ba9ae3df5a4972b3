"""How the suite itself is run: parts of it, a line per test as soon as it is over, and what needs a GPU."""

import json

import pytest
import torch

pytest_plugins = "pytester"

TESTS = """
import pytest
@pytest.mark.parametrize("n", range(5))
def test_number(n): assert n != 3
@pytest.mark.gpu
def test_gpu(): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, repository, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Six tests below the hooks of this suite."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pytester.makeconftest((repository / "tests/conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nmarkers = gpu")
    return pytester


def test_parts_share_the_chosen_tests_among_them(suite):
    parts = []
    for part in ("1/3", "2/3", "3/3"):
        lines = suite.runpytest("--co", "-q", "-m", "not gpu", "--part", part).outlines
        parts.append([line.partition("::")[2] for line in lines if "::" in line])
    assert parts == [["test_number[0]", "test_number[3]"], ["test_number[1]", "test_number[4]"], ["test_number[2]"]]


@pytest.mark.parametrize("part", ["0/2", "3/2", "half", "1"])
def test_a_part_that_there_is_not_is_refused(suite, part):
    assert any("write K/N" in line for line in suite.runpytest("--part", part).errlines)


def test_each_test_is_a_line_and_those_of_gpus_are_skipped_where_there_is_none(suite):
    suite.runpytest("--lines", "lines.jsonl").assert_outcomes(passed=4, failed=1, skipped=1)
    lines = [json.loads(line) for line in (suite.path / "lines.jsonl").read_text().splitlines()]
    found = {line["test"].split("::")[1]: line for line in lines}
    assert len(found) == len(lines) == 6
    assert [name for name, line in found.items() if line["outcome"] == "passed"] == [
        f"test_number[{n}]" for n in (0, 1, 2, 4)
    ]
    assert "assert 3 != 3" in found["test_number[3]"]["why"]
    assert (found["test_gpu"]["outcome"], found["test_gpu"]["why"]) == ("skipped", "Skipped: needs a CUDA device")
