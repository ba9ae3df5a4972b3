"""Stages of a run that asks for one kind of node run on the kind of its first stage alone."""

import json
from dataclasses import replace

import pytest
from uasbench.benchmark import node_kind
from uasbench.benchmark.conformance.executors import Bench
from uasbench.benchmark.executors.contract import run_jobs
from uasbench.benchmark.node_kind import NodeKindError, require

CPU = {"stage": "fit", "numerics": {"device": "cpu"}}
GPU = {"stage": "map", "numerics": {"device": "cuda"}}


@pytest.fixture
def node(monkeypatch):
    """Return ``node(processor, gpu)``: be a node of that kind."""

    def call(processor: str, gpu: str = "none") -> None:
        monkeypatch.setattr(node_kind, "instruction_set", lambda: {"numpy": processor})
        monkeypatch.setattr(node_kind, "_gpus", lambda: gpu)

    return call


def test_the_first_stage_decides(node, tmp_path):
    kind = tmp_path / "node-kind"
    node("X86_V4")
    require(kind, CPU)
    require(kind, CPU)
    node("X86_V3")
    with pytest.raises(NodeKindError, match=r"another kind of node than .*: processor X86_V4, here X86_V3; name nodes"):
        require(kind, CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["node-kind-cpu.json"]


def test_stages_on_gpus_are_compared_with_each_other(node, tmp_path):
    kind = tmp_path / "node-kind"
    node("X86_V3", "A100")
    require(kind, CPU)
    node("X86_V4", "H100")
    require(kind, GPU)
    node("X86_V4", "A100")
    with pytest.raises(NodeKindError, match="gpu H100, here A100"):
        require(kind, GPU)
    with pytest.raises(NodeKindError, match="processor X86_V3, here X86_V4"):
        require(kind, {**GPU, "stage": "measure"})


def test_every_executor_refuses_another_kind_with_the_reason(tmp_path):
    bench = Bench("uasbench.benchmark.executors.local:LocalExecutor", tmp_path)
    (tmp_path / "kind-cpu.json").write_text(json.dumps({"host": "n1", "kind": {"processor": "other"}}))
    jobs = [replace(bench.job("a"), node_kind=tmp_path / "kind"), bench.job("b")]
    last = {}
    run_jobs(bench.executor(), jobs, lambda event: last.update({event.job.id: event}), 60)
    assert last["b"].kind == "done"
    assert last["a"].kind == "failed"
    assert "another kind of node than n1" in last["a"].value
    assert [name for name, _ in bench.begun()] == ["b"]
