"""Measuring speed: what is timed, what a failure leaves, and two files side by side."""

import json

import pytest
from uasbench.benchmark import speed
from uasbench.common.errors import UasbenchError


@pytest.mark.slow
def test_a_line_per_method_as_soon_as_it_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    file = tmp_path / "speed.jsonl"
    arguments = ["--methods", "ae,normnet,nnunet", "--device", "cpu", "--profile", "smoke", "--seconds", "2"]
    speed.main([*arguments, "--json", str(file)])
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["method"], one["anatomy"]) for one in found[:2]] == [("ae", "liver"), ("normnet", "lung")]
    assert all(one["updates_per_s"] > 0 and one["slices_per_s"] > 0 and not one["error"] for one in found[:2])
    assert all(one["peak_ram_mib"] > 100 and one["peak_gpu_mib"] is one["busy"] is None for one in found[:2])
    assert found[2]["error"] or found[2]["updates_per_s"]  # where nnU-Net is not installed it says so
    capsys.readouterr()
    speed.main(["--compare", str(file), str(file)])
    lines = {line.split(" | ")[0].strip("| "): line for line in capsys.readouterr().out.splitlines()}
    assert " | 1.00 | " in lines["ae"]
    assert lines.keys() >= {"ae", "normnet", "nnunet"}


def test_a_training_is_cut_off_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(speed.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(speed, "WARM", 1)
    found = speed.measure("ae", "smoke", "cpu", "fp32", 0.0, "smoke")
    assert (found.updates, found.error) == (1, "")


@pytest.mark.slow
def test_compiled_trainings_are_timed_and_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    file = tmp_path / "speed.jsonl"
    speed.main(
        ["--methods", "ae", "--device", "cpu", "--profile", "smoke", "--seconds", "2", "--json", str(file), "--compile"]
    )
    found = json.loads(file.read_text())
    assert (found["compiled"], found["compilation"], found["error"]) == (True, "graphs: 1", "")
    assert found["updates_per_s"] > 0


@pytest.mark.parametrize(
    ("method", "names"), [("two-stage", ["restoration", "segmentation"]), ("f-anogan", ["gan", "encoder"])]
)
def test_every_phase_is_cut_off_and_timed(tmp_path, monkeypatch, method, names):
    monkeypatch.setattr(speed.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(speed, "WARM", 1)
    found = speed.measure(method, "smoke", "cpu", "fp32", 0.0, "smoke")
    assert not found.error
    assert [phase["name"] for phase in found.phases] == names
    assert all(phase["updates"] == 1 < phase["of"] for phase in found.phases)
    rates = [phase["updates_per_s"] for phase in found.phases]
    assert min(rates) <= found.updates_per_s <= max(rates)
    assert found.slices_per_s > 0


def test_a_method_that_fails_is_a_line_too(monkeypatch):
    monkeypatch.setattr(speed, "scans", lambda *_: 1 / 0)
    found = speed.measure("ae", "smoke", "cpu", "fp32", 0.0)
    assert (found.updates_per_s, found.error) == (None, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("part", ["0/2", "3/2", "half", "1/0", "1"])
def test_a_part_that_there_is_not_is_refused(part):
    with pytest.raises(UasbenchError, match="write K/N"):
        speed.part_of(["ae"], part)
