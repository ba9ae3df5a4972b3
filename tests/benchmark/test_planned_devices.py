"""What of a run on a GPU computes there, and what its addresses say of it; no GPU is needed to plan."""

import pytest
import torch
from uasbench.benchmark import device as devices
from uasbench.benchmark.catalogue.rates import Rate, Rates, Source
from uasbench.benchmark.executors.gpus import Reading
from uasbench.benchmark.executors.packing import Packing
from uasbench.benchmark.executors.peaks import Peaks
from uasbench.benchmark.planning import ids, refinement
from uasbench.benchmark.planning.plan import Graph
from uasbench.benchmark.planning.prediction import Predictor, predict
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.stages.task import Numerics
from uasbench.common.untried import ASKED

CPU = Numerics(device="cpu", threads=2, precision="fp32")
CUDA = Numerics(device="cuda", threads=2, precision="bf16")
METHODS = "hu-deviation,ae"


@pytest.fixture
def jobs(plan, tmp_path):
    """Return ``jobs(numerics, **options)``: the graph of a run and its jobs by method and stage."""

    def call(numerics, **options):
        task, cells = plan(METHODS, numerics, **options)
        graph = Graph(numerics, RunFolder(tmp_path / "nowhere"))
        for cell in cells.values():
            graph.add(cell, task.data)
        return graph, {(graph.cells_of[name][0].method, job.task.stage): job for name, job in graph.jobs.items()}

    return call


def test_a_trivial_method_leaves_the_gpu_to_those_that_train(jobs):
    graph, found = jobs(CUDA)
    takes = {key: (job.resources.gpus, job.task.numerics.device) for key, job in found.items()}
    assert takes == {
        ("hu-deviation", "fit"): (0.0, "cpu"),
        ("hu-deviation", "map"): (0.0, "cpu"),
        ("hu-deviation", "measure"): (0.0, "cpu"),
        ("ae", "fit"): (1.0, "cuda"),
        ("ae", "map"): (1.0, "cuda"),
        ("ae", "measure"): (0.0, "cuda"),  # what its record says of the cell
    }
    assert found["hu-deviation", "fit"].task.numerics == CPU
    busy = {"0": Reading(0, "Card", 10_000.0, 9_900.0, 1.0)}
    packing = Packing(["0"], lambda: busy, 1, Peaks(None, "peak_gpu_mib"), lambda: 0.0)
    assert packing.place(found["ae", "fit"]) == ("0",)
    assert packing.place(found["hu-deviation", "fit"]) == (None,), "it waits for a card that is full"
    rows = [
        Rate(method=name, profile="smoke", anatomy="liver", device=device, fit_s=8.0, slice_s=0, slices=1, source="a")
        for name, device in (("hu-deviation", "cpu"), ("ae", "gpu"))
    ]
    predict(graph, Predictor(Rates({"a": Source(about="a machine")}, tuple(rows)), "cuda"))
    seconds = {key: graph.jobs[job.id].resources.seconds for key, job in found.items()}
    assert seconds["hu-deviation", "fit"] == 4.0  # eight of a core, on two
    assert seconds["ae", "fit"] == 8.0


def test_a_trivial_method_has_the_addresses_of_a_run_without_a_gpu(plan):
    cells = [plan(METHODS, numerics)[1] for numerics in (CPU, CUDA, CUDA.model_copy(update={"precision": "fp32"}))]
    assert len({str(found["hu-deviation"].ids) for found in cells}) == 1
    assert len({found["ae"].ids.fit for found in cells}) == 3


def test_masks_of_sam_are_made_on_the_gpu_whatever_makes_the_maps(jobs, tmp_path, monkeypatch):
    weights = tmp_path / "sam.pth"
    weights.write_bytes(b"as published")
    monkeypatch.setattr(refinement, "_known", lambda _: True)
    options = {"refine": "sam", "sam_weights": weights}
    there, here = (jobs(numerics, **options)[1]["hu-deviation+sam", "refine"] for numerics in (CUDA, CPU))
    assert (there.resources.gpus, there.task.numerics) == (1.0, CUDA)
    assert (here.resources.gpus, here.task.numerics) == (0.0, CPU)
    assert there.task.base_id == here.task.base_id
    assert there.task.id != here.task.id


def test_where_fp32_is_tf32_stands_in_addresses_on_cuda_alone(plan, monkeypatch):
    said = []
    monkeypatch.setattr(ids, "digest", lambda value: said.append(value) or str(len(said)))
    for numerics in (CPU, CUDA):
        plan("ae", numerics)
    on_cpu, on_cuda = (value["numerics"] for value in said if "numerics" in value)
    assert on_cpu == {"device": "cpu", "threads": 2, "precision": "fp32"}
    assert on_cuda == {"device": "cuda", "threads": 2, "precision": "bf16", "tf32": devices.TF32}


def test_what_is_untried_is_asked_for_by_the_tasks_of_a_gpu_and_moves_their_maps_alone(plan, monkeypatch):
    said: list[dict] = []
    digest = ids.digest
    monkeypatch.setattr(ids, "digest", lambda value: said.append(value) or digest(value))
    cells = {}
    for asked in ("0", "1"):
        monkeypatch.setenv(ASKED, asked)
        cells[asked] = plan(METHODS, CUDA)[1]
        keys = {key for value in said if isinstance(value, dict) for key in value}
        assert ("untried" in keys) is (asked == "1"), "addresses of runs without it do not name it"
    without, with_it = cells["0"]["ae"], cells["1"]["ae"]
    assert without.ids.fit == with_it.ids.fit
    assert without.ids.map != with_it.ids.map
    assert not any(task.untried for task in (*without.fits.tasks, without.maps))
    assert all(task.untried for task in (*with_it.fits.tasks, with_it.maps))
    assert cells["0"]["hu-deviation"] == cells["1"]["hu-deviation"], "it computes on the CPU"
    for task in (*without.fits.tasks, without.maps):
        of_before = task.model_dump(mode="json", exclude={"untried"})
        assert type(task).model_validate(of_before) == task


@pytest.fixture
def tf32():
    """The switches of convolutions and of matrix products, set back afterwards."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    yield switches
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


@pytest.mark.parametrize("before", [True, False])
def test_a_stage_on_cuda_says_where_fp32_is_tf32_whatever_was_set_before(before, tf32, monkeypatch):
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    for device, expected in (("cpu", [before, before]), ("cuda", [True, False])):
        for switch in tf32:
            switch.allow_tf32 = before
        devices.configure(device, torch.get_num_threads())
        assert [switch.allow_tf32 for switch in tf32] == expected
