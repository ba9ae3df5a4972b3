"""What stages are predicted to take, how long a run is then, and a plan that leaves nothing behind."""

import io
import json
import re

import pytest
from rich.console import Console
from uasbench.benchmark import calibration
from uasbench.benchmark import device as devices
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.rates import Rate, Rates, Source
from uasbench.benchmark.commands import predicting, running
from uasbench.benchmark.device import DeviceError
from uasbench.benchmark.executors.contract import Job, Resources
from uasbench.benchmark.planning.plan import Graph
from uasbench.benchmark.planning.prediction import PROBED_FROM_S, Predictor, predict, updates_of, wall_s
from uasbench.benchmark.planning.where import where
from uasbench.benchmark.refinement.sam import PUBLISHED, file_sha256
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.stages.task import Numerics
from uasbench.methods.config import resolve

CPU = Numerics(device="cpu", threads=1, precision="fp32")
SOURCE = Source(about="a machine", probe_s=2.0, train_slices={"liver": 10}, stage_s=0.5, measure_s=40.0)


def rate(method, fit_s=30.0, slice_s=0.1, device="cpu", anatomy="liver"):
    return Rate(
        method=method, profile="smoke", anatomy=anatomy, device=device, fit_s=fit_s, slice_s=slice_s, slices=1,
        source="here",
    )  # fmt: skip


def rates(*rows, **source):
    return Rates({"here": SOURCE.model_copy(update=source)}, rows)


@pytest.fixture
def seconds(plan, tmp_path):
    """Return ``seconds(rates, method, **options)``: what each stage takes by its name, slices of 3 parts, voxels."""

    def call(known, method, probe_s=None, **options):
        task, cells = plan(re.split("[@+]", method)[0], **options)
        graph = Graph(CPU, RunFolder(tmp_path / "nowhere"))
        graph.add(cells[method], task.data)
        predict(graph, Predictor(known, "cpu", probe_s))
        found = {}
        for job in graph.jobs.values():
            found.setdefault(job.task.stage, []).append(job.resources.seconds)
        tested = sum(len(case.roi_slices()) for case in task.data.test)
        held_out = sum(len(case.roi_slices()) for case, _ in task.data.calibrating())
        trained = sum(len(case.roi_slices()) for case, _ in task.data.training())
        return found, tested, held_out, trained, sum(case.roi_voxels() for case in task.data.test)

    return call


def test_stages_take_what_was_measured_by_slice_and_the_speed_of_the_machine(seconds):
    found, tested, held_out, _, voxels = seconds(rates(rate("ae")), "ae")
    assert found["fit"] == [30.5]
    assert found["map"] == pytest.approx([0.1 * (tested + held_out) + 0.5])
    assert found["measure"] == pytest.approx([40 * voxels / 1e6 + 0.5])
    slower, *_ = seconds(rates(rate("ae")), "ae", probe_s=3.0)
    assert slower["fit"] == [1.5 * 30.5]
    assert seconds(rates(rate("ae"), probe_s=None), "ae", probe_s=3.0)[0]["fit"] == [30.5]
    unknown, *_ = seconds(rates(rate("vae"), rate("ae", device="gpu")), "ae")
    assert (unknown["fit"], unknown["map"], unknown["measure"]) == ([None], [None], found["measure"])
    assert seconds(rates(rate("ae", anatomy="lung")), "ae")[0]["fit"] == [30.5]  # rather than nothing


def test_trainings_grow_with_their_updates_members_and_folds_and_with_slices_where_epochs_count(seconds):
    usual = {"ae": {"updates": 20}}
    once, *_ = seconds(rates(rate("ae"), stage_s=0), "ae", settings=usual)
    twice, *_ = seconds(rates(rate("ae"), stage_s=0), "ae", settings={"ae": {"updates": 40}})
    assert twice["fit"][0] == 2 * once["fit"][0]
    unet, *_ = seconds(rates(rate("supervised-unet"), stage_s=0), "supervised-unet")
    assert unet["fit"] == [10.0] * 2  # of three folds that were measured
    padim, _, _, trained, _ = seconds(rates(rate("padim"), stage_s=0), "padim")
    assert padim["fit"] == [3.0 * trained]
    assert updates_of({"epochs": 2}) is None


def test_methods_that_see_no_view_take_longer_where_slices_have_more_voxels(seconds):
    def mapping(method, voxels):
        known = rates(rate(method), stage_s=0, slice_voxels={"liver": voxels})
        return seconds(known, method)[0]["map"]

    assert mapping("hu-deviation", 50) == pytest.approx([2 * s for s in mapping("hu-deviation", 100)])
    assert mapping("ae", 50) == mapping("ae", 100)


def test_sam_takes_its_time_in_every_slice_and_nobody_knows_that_of_other_weights(seconds, tmp_path, monkeypatch):
    weights = tmp_path / "sam.pth"
    weights.write_bytes(b"as published")
    options = {"refine": "sam", "sam_weights": weights, "allow_overlap": True}
    known = rates(rate("ae"), refine_s={"sam_vit_b_01ec64.pth": 2.0})
    assert seconds(known, "ae+sam", **options)[0]["refine"] == [None]
    monkeypatch.setitem(PUBLISHED, file_sha256(weights), "sam_vit_b_01ec64.pth")
    found, tested, *_ = seconds(known, "ae+sam", **options)
    assert found["refine"] == [2.0 * tested + 0.5]
    assert seconds(rates(rate("ae")), "ae+sam", **options)[0]["refine"] == [None]


def test_members_share_the_time_of_an_ensemble(plan, tmp_path):
    task, cells = plan("normnet", settings={"normnet": {"votes": 3, "bright_lesions": True}})
    graph = Graph(CPU, RunFolder(tmp_path / "nowhere"))
    graph.add(cells["normnet"], task.data)
    predictor = Predictor(rates(rate("normnet", anatomy="lung"), stage_s=0), "cpu")
    predict(graph, predictor)
    fits = [job.resources.seconds for job in graph.jobs.values() if job.task.stage == "fit"]
    assert len(fits) == 3
    usual = resolve(registry.runnable().get("normnet").Config, "smoke", "liver")
    assert fits == [30.0 / usual.votes] * 3


def jobs(graph_of):
    """Return jobs from ``name: (seconds, needs)``."""
    task = object()
    return [
        Job(name, task, name, frozenset(needs), rank=(i,), resources=Resources(seconds=takes))  # type: ignore[arg-type]
        for i, (name, (takes, needs)) in enumerate(graph_of.items())
    ]


def test_the_length_of_a_run_is_that_of_its_schedule():
    some = jobs({"a": (10, ""), "b": (4, ""), "c": (4, "b"), "d": (1, "ac"), "e": (None, "d")})
    assert wall_s(some, 1) == 19
    assert wall_s(some, 2) == 11
    assert wall_s(some, 50) == 11
    assert wall_s([], 2) == 0


def test_a_plan_tells_what_a_run_would_do_and_leaves_no_folder(smoke, tmp_path, monkeypatch):
    known = rates(rate("ae"), rate("hu-deviation", fit_s=0.0), tables_s=2.0)
    monkeypatch.setattr(predicting, "rates", lambda: known)
    monkeypatch.setattr(calibration, "seconds", lambda workers, threads: 4.0)
    options = smoke("hu-deviation,ae,vae", seeds=[0, 1], workers=2)
    found = predicting.plan(options)
    assert not (tmp_path / "run").exists()
    assert [(r.method, r.cells, r.stages, r.known) for r in found.rows] == [
        ("hu-deviation", 1, 3, True), ("ae", 2, 6, True), ("vae", 2, 6, False),
    ]  # fmt: skip
    ae = found.rows[1].core_hours * 3600
    assert ae > 2 * 2 * 30
    assert found.hours * 3600 < ae
    assert (found.speed, found.unknown, found.totals["cells"]) == (0.5, ("vae",), 5)
    assert json.loads(json.dumps(found.json()))["totals"]["stages"] == 15
    text = " ".join(str(part) for part in predicting.shown(found))
    assert "nobody has measured vae" in text
    assert found.json()["lower_bound"]
    assert "with 2 workers on cpu at least " in text
    assert "the sums are lower bounds" in text
    assert "0.50 times as fast as here: a machine" in text
    assert "compiling is not counted" not in text
    compiled = predicting.plan(options.model_copy(update={"compiled": True}))
    assert any("compiling is not counted" in str(part) for part in predicting.shown(compiled))


def test_a_plan_counts_the_prepared_data_that_its_methods_open(smoke, tmp_path):
    def prepared(methods: str) -> int:
        return predicting.plan(smoke(methods, cache=tmp_path / "cache"), calibrate=False).prepared_bytes

    first, both = prepared("hu-deviation"), prepared("hu-deviation,ae,vae")
    store = tmp_path / "cache" / "store"
    files = [path for kind in ("native", "views", "truth") for path in (store / kind).rglob("*") if path.is_file()]
    assert both == sum(path.stat().st_size for path in files) > prepared("hu-deviation") == first > 0


def test_what_is_done_needs_no_time(folder, root, cache, smoke):
    options = smoke("hu-deviation,random", seeds=[0, 1], trials=1, out=folder.path)
    found = predicting.plan(options, calibrate=False)
    assert (found.rows, found.cells_done, found.hours) == ((), 3, 0)


def test_the_probe_measures_processor_seconds():
    assert 0 < calibration.probe() < 60


@pytest.mark.parametrize(("fit_s", "probed"), [(PROBED_FROM_S, True), (10.0, False)])
def test_a_run_takes_its_stages_for_as_long_as_the_plan_of_it_and_measures_the_machine_where_it_is_long(
    fit_s, probed, smoke, monkeypatch
):
    for module in (predicting, running):
        monkeypatch.setattr(module, "rates", lambda: rates(rate("ae", fit_s=fit_s), tables_s=2.0))
    measured = []
    monkeypatch.setattr(calibration, "seconds", lambda *_: measured.append(1) or 4.0)
    options = smoke("ae", workers=1)
    plan = predicting.plan(options, calibrate=probed)
    assert len(measured) == probed
    with RunFolder.working(options.folder()) as folder:
        _, graph = running.prepared(options, where(options), folder)
    assert len(measured) == 2 * probed
    assert [job.resources.seconds for job in graph.jobs.values()] == [stage["seconds"] for stage in plan.stages]
    assert graph.tables_s == 2.0
    assert graph.jobs[plan.stages[0]["id"]].resources.seconds == (fit_s + 0.5) * (2 if probed else 1)


def test_a_machine_too_busy_to_be_measured_runs_all_the_same(smoke, monkeypatch):
    monkeypatch.setattr(running, "rates", lambda: rates(rate("ae", fit_s=PROBED_FROM_S)))
    monkeypatch.setattr(calibration, "WITHIN_S", 0.0)
    options, console = smoke("ae", workers=1), Console(file=(said := io.StringIO()), width=200)
    with RunFolder.working(options.folder()) as folder:
        _, graph = running.prepared(options, where(options), folder, console)
    assert max(job.resources.seconds or 0.0 for job in graph.jobs.values()) == PROBED_FROM_S + 0.5
    assert "note: this machine was not measured within 0 s; without that" in said.getvalue()


def test_the_speed_of_this_machine_says_nothing_of_others(smoke, monkeypatch):
    monkeypatch.setattr(predicting, "rates", lambda: rates(rate("ae")))
    monkeypatch.setattr(calibration, "seconds", lambda *_: pytest.fail("this machine was measured"))
    assert predicting.plan(smoke("ae", executor="slurm")).speed is None


def test_a_run_on_a_gpu_is_planned_without_one_and_what_nobody_has_measured_there_is_named(smoke, monkeypatch):
    monkeypatch.setattr(devices, "gpu_count", lambda: 0)
    gpu = rate("ae", fit_s=40.0, slice_s=0.0, device="gpu", anatomy="lung")
    trivial = rate("hu-deviation", fit_s=0.0, slice_s=0.0)
    monkeypatch.setattr(predicting, "rates", lambda: rates(gpu, rate("vae"), trivial, stage_s=0.0))
    chosen = smoke("hu-deviation,ae,vae,random", device="cuda")
    found = predicting.plan(chosen)
    with pytest.raises(DeviceError, match="no CUDA device"):
        where(chosen)
    rows = {row.method: (row.known, row.core_hours > 0, 3600 * row.gpu_hours, row.rate_of) for row in found.rows}
    assert rows == {
        "hu-deviation": (True, True, 0.0, None),  # its measuring
        "random": (False, True, 0.0, None),
        "ae": (True, True, 40.0, "lung"),
        "vae": (False, True, 0.0, None),  # a rate on a CPU is none of a GPU
    }
    assert (found.device, found.workers, set(found.unknown)) == ("cuda", 1, {"random", "vae"})
    text = " ".join(str(part) for part in predicting.shown(found))
    assert "measured on another organ alone: ae (lung)" in text
    whole = predicting.plan(smoke("hu-deviation,ae", device="cuda"))
    assert not whole.lower_bound
    assert "lower bound" not in " ".join(str(part) for part in predicting.shown(whole))
    assert 3600 * predicting.plan(smoke("ae", device="cuda", seeds=[0, 1])).hours >= 80  # they share one
    assert 3600 * predicting.plan(smoke("ae", device="cuda", seeds=[0, 1], executor="slurm")).hours < 80
