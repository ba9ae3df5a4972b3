"""Stages packed on simulated GPUs: memory, busy cards, cores beside them, and what ran out of memory."""

import json
import stat
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from uasbench.benchmark import device as devices
from uasbench.benchmark.conformance.executors import Bench
from uasbench.benchmark.executors import gpus, local, packing
from uasbench.benchmark.executors.contract import Job, Resources
from uasbench.benchmark.executors.gpus import Reading
from uasbench.benchmark.executors.packing import Packing
from uasbench.benchmark.executors.peaks import Peaks
from uasbench.benchmark.runs.records import FIT_SEAL, MAP_SEAL
from uasbench.benchmark.stages.fit import FitTask, MethodSpec
from uasbench.benchmark.stages.task import Numerics

TOTAL = 10_000.0
GPU = Resources(gpus=1.0)


class Cards:
    """GPUs whose memory and load a test sets, and a clock."""

    def __init__(self, *names: str) -> None:
        self.used = dict.fromkeys(names, 0.0)
        self.busy: dict[str, float | None] = dict.fromkeys(names, 0.1)
        self.now = 0.0

    def read(self) -> dict[str, Reading]:
        return {name: Reading(0, "Card", TOTAL, self.used[name], self.busy[name]) for name in self.used}

    def packing(self, cores: int = 2, peaks: Peaks | None = None) -> Packing:
        return Packing(list(self.used), self.read, cores, peaks or Peaks(None, "peak_gpu_mib"), lambda: self.now)


def job(name: str, out: Path = Path("nowhere"), takes: Resources = GPU, method: str = "ae") -> Job:
    task: Any = SimpleNamespace(stage="fit", out=out, model_dump=lambda **_: {"stage": "fit", "method": method})
    return Job(name, task, name, resources=takes)


def finished(out: Path, peak: float) -> Path:
    out.mkdir(exist_ok=True)
    (out / FIT_SEAL).write_text(json.dumps({"peak_gpu_mib": peak}))
    return out


def test_what_is_not_known_gets_a_share_and_what_was_measured_its_peak(tmp_path):
    cards, file = Cards("0"), tmp_path / "cache" / "peaks.json"
    file.parent.mkdir()
    packed = cards.packing(peaks=Peaks(file, "peak_gpu_mib"))
    assert packed.place(job("a")) == ("0",)
    cards.now += 10
    assert packed.place(job("b")) == ("0",)
    cards.now += 10
    assert packed.place(job("c")) is None  # a third of 10 GB each, and what CUDA takes
    assert not packed.end(job("a", finished(tmp_path / "fit", 500.0)), None)
    for name in "cdef":
        cards.now += 10
        assert packed.place(job(name)) == ("0",), name
    cards.now += 10
    assert packed.place(job("another", method="normnet")) is None
    again = cards.packing(peaks=Peaks(file, "peak_gpu_mib"))
    assert again.peaks.of(job("x"), "Card") == 500
    assert again.peaks.of(job("x"), "Another card") is None
    assert again.peaks.of(job("x", method="normnet"), "Card") is None
    larger = job("x")
    larger.task.parts = ((SimpleNamespace(shape=(40, 512, 512)), None),)
    assert again.peaks.of(larger, "Card") is None
    sam = job("x")
    sam.task.stage, sam.task.out = "refine", tmp_path / "masks"
    sam.task.out.mkdir()
    (sam.task.out / MAP_SEAL).write_text('{"peak_gpu_mib": 7000}')
    packed.peaks.learn(sam, "Card")
    assert packed.peaks.of(sam, "Card") == 7000
    packed.peaks.learn(job("x", finished(tmp_path / "fit", 0.0), method="nnunet"), "Card")
    assert packed.peaks.of(job("x", method="nnunet"), "Card") is None


def test_memory_that_others_use_counts_and_an_empty_card_takes_anything():
    cards = Cards("0")
    packed = cards.packing()
    cards.used["0"], cards.now = 9500.0, 10.0
    assert packed.place(job("a")) == ("0",)
    cards.now += 10
    assert packed.place(job("b")) is None
    cards.used["0"] = 1000.0
    assert packed.place(job("b")) is None, "the card was asked a moment ago"
    cards.now += 10
    assert packed.place(job("b")) == ("0",)


def test_a_busy_card_gets_no_more_and_one_is_given_time_to_show_what_a_stage_does():
    cards = Cards("0")
    packed = cards.packing(peaks=Peaks(None, "peak_gpu_mib"))
    assert packed.place(job("a")) == ("0",)
    assert packed.place(job("b")) is None
    cards.now, cards.busy["0"] = 10.0, 0.99
    assert packed.place(job("b")) is None
    cards.now, cards.busy["0"] = 20.0, None  # it does not say: memory alone decides
    assert packed.place(job("b")) == ("0",)


def test_several_cards_share_the_stages_and_cores_take_those_that_need_none():
    cards = Cards("0", "1")
    packed = cards.packing(cores=2)
    assert {packed.place(job(name)) for name in "ab"} == {("0",), ("1",)}
    for name in "cd":
        assert packed.place(job(name, takes=Resources())) == (None,)
    assert packed.place(job("e", takes=Resources())) is None
    assert not packed.end(job("c", takes=Resources()), "failed")
    assert packed.place(job("e", takes=Resources())) == (None,)
    cards.now += 10
    assert {packed.place(job(name)) for name in "fg"} == {("0",), ("1",)}


def test_what_ran_out_of_memory_runs_once_more_alone():
    cards = Cards("0")
    packed = cards.packing()
    said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert packed.place(job("first")) == ("0",)
    assert not packed.end(job("first"), said)  # nobody was beside it
    for name in "ab":
        cards.now += 10
        packed.place(job(name))
    assert packed.end(job("a"), said)
    cards.now += 10
    assert packed.place(job("a")) is None
    assert not packed.end(job("b"), "ValueError: wrong")
    assert packed.place(job("a")) == ("0",)
    cards.now += 10
    assert packed.place(job("c")) is None
    assert not packed.end(job("a"), said)
    assert packed.place(job("c")) == ("0",)


def test_fewer_of_a_kind_are_started_once_one_of_it_ran_out_of_memory(tmp_path):
    cards, file = Cards("0"), tmp_path / "peaks.json"
    file.write_text("{}")
    packed = cards.packing(peaks=Peaks(file, "peak_gpu_mib"))
    packed.peaks.learn(job("seen", finished(tmp_path / "fit", 1000.0)), "Card")
    numbers = count()

    def filled(method="ae"):
        """Start what the empty card takes of a kind and return it."""
        started = []
        while True:
            cards.now += 10
            one = job(f"{next(numbers)}", method=method)
            if packed.place(one) is None:
                return started
            started.append(one)

    def emptied(jobs):
        for one in jobs:
            assert not packed.end(one, None)

    first, *others = filled()
    assert len([first, *others]) == 5  # of 1,700 MiB each, with what CUDA takes
    assert packed.end(first, "CUDA error: out of memory")
    emptied(others)
    cards.now += 10
    assert packed.place(first) == ("0",)
    emptied([first])
    emptied(fewer := filled())
    assert len(fewer) == 3  # of 2,550 MiB
    first, *others = filled("vae")
    assert len(others) == 1  # of a kind that nobody has seen, 3,700 MiB each: the other kind's fault is not its own
    assert packed.end(first, "CUDA error: out of memory")
    emptied(others)
    cards.now += 10
    packed.place(first)
    emptied([first])
    assert len(filled("vae")) == 1
    assert Peaks(file, "peak_gpu_mib").of(first, "Card") is None
    assert Peaks(file, "peak_gpu_mib").of(job("x"), "Card") == 1000, "others may have filled the card"


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_cards_are_read_by_index_and_uuid_and_only_visible_ones_used(tmp_path, monkeypatch):
    lines = "0, GPU-aa, NVIDIA A, 80000, 1000, 35\n1, GPU-bb, NVIDIA A, 80000, 0, [N/A]"
    nvidia_smi(tmp_path, monkeypatch, f"No devices were found\n{lines}\n2, GPU-cc, NVIDIA C, [N/A], [N/A], 0")
    found = gpus.read()
    assert found.keys() == {"GPU-aa", "GPU-bb"}
    assert found["GPU-aa"] == Reading(0, "NVIDIA A", 80000, 1000, 0.35)
    assert found["GPU-bb"].busy is None
    one, two = "GPU-aa", "GPU-bb"
    cases = ((None, [one, two]), ("1", [two]), ("GPU-b, 0", [two, one]), ("", []), ("7", []), ("MIG-1", []))
    for named, expected in cases:
        if named is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert gpus.visible(found) == expected
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus.read() == {}


def test_the_executor_packs_and_runs_again_what_the_packing_says(tmp_path, monkeypatch):
    """Stages on a simulated card: whoever fails once is taken for one that found it full."""
    nvidia_smi(tmp_path, monkeypatch, "0, GPU-aa, Simulated, 80000, 0, 5")
    monkeypatch.setattr(packing, "SETTLING_S", 0.0)
    monkeypatch.setattr(packing, "OUT_OF_MEMORY", ("was told to fail",))
    monkeypatch.setattr(packing, "READ_EVERY_S", 0.0)
    joules = count(step=3_600_000)
    monkeypatch.setattr(local, "counter", lambda _: float(next(joules)))
    folder = tmp_path / "run"
    folder.mkdir()
    bench = Bench("uasbench.benchmark.executors.local:LocalExecutor", folder)
    bench.place = replace(bench.place, device="cuda", packed=True)
    jobs = [replace(bench.job(name, act), resources=GPU) for name, act in (("a", "finish"), ("b", "raise"))]
    last = bench.run(*jobs, bench.job("c", "finish", "a"), bench.job("d", "finish", "b"))
    assert {name: event.kind for name, event in last.items()} == {
        "a": "done", "b": "failed", "c": "done", "d": "cancelled",
    }  # fmt: skip
    assert bench.kinds("b") == ["started", "again", "started", "failed"]
    assert last["a"].value >= 0.5  # kWh of the card
    assert last["c"].value is None


def test_stages_are_offered_places_by_rank_and_those_that_run_again_first():
    packed = Cards("0").packing()
    jobs = [replace(job(name), rank=rank) for name, rank in (("fit", (2, 0)), ("map", (1, 0)), ("again", (2, 9)))]
    packed.again.add("again")
    assert [one.id for one in sorted(jobs, key=packed.order)] == ["again", "map", "fit"]


def test_other_code_for_gpus_may_take_other_memory(tmp_path):
    def training(seed: int, **code: bool) -> Job:
        numerics = Numerics(device="cuda", threads=1, precision="bf16", compiled=code.pop("compiled", False))
        method = MethodSpec(target="a:B", profile="paper", anatomy="liver", settings={})
        return Job("a", FitTask(id="a", method=method, seed=seed, numerics=numerics, out=tmp_path, **code), "a")

    (tmp_path / FIT_SEAL).write_text(json.dumps({"peak_gpu_mib": 500.0}))
    peaks = Peaks(None, "peak_gpu_mib")
    peaks.learn(training(0), "Card")
    assert peaks.of(training(1), "Card") == 500
    assert peaks.of(training(1, untried=True), "Card") is None
    assert peaks.of(training(1, compiled=True), "Card") is None


def test_a_damaged_file_of_peaks_is_learned_anew(tmp_path):
    for text in ("[]", '{"a": null}', "no json"):
        (tmp_path / "peaks.json").write_text(text)
        assert Peaks(tmp_path / "peaks.json", "peak_gpu_mib").of(job("a"), "Card") is None


def test_packing_needs_a_gpu(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed")
    bench = Bench("uasbench.benchmark.executors.local:LocalExecutor", tmp_path)
    bench.place = replace(bench.place, device="cuda", packed=True)
    with pytest.raises(devices.DeviceError, match="names no GPU"):
        bench.executor()
    assert devices.resolve_workers(3, "cpu") == (3, False)
    assert devices.resolve_workers("pack", "cuda") == (devices.default_workers("cpu"), True)
    with pytest.raises(devices.DeviceError, match="--workers pack"):
        devices.resolve_workers("pack", "cpu")
