"""Which fits a cell has: shared between methods and score settings, or none, where too few patients are healthy."""

import pytest
from uasbench.benchmark.planning.plan import Graph
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.methods.reconstruction.dae import DAEConfig


@pytest.mark.parametrize(("one", "other"), [("kl-grad", "kl-grad-combi"), ("asc-net", "asc-net-post")])
def test_one_training_serves_both_and_their_maps_differ(one, other, plan, tmp_path):
    task, cells = plan(f"{one},{other}")
    first, second = cells.values()
    assert first.ids.fit == second.ids.fit
    assert first.ids.map != second.ids.map
    assert first.ids.measure != second.ids.measure
    graph = Graph(first.maps.numerics, RunFolder(tmp_path / "run"))
    for cell in (first, second):
        graph.add(cell, task.data)
    assert sorted(job.task.stage for job in graph.jobs.values()) == ["fit", "map", "map", "measure", "measure"]


def test_a_score_setting_trains_nothing_anew_and_a_fit_setting_does(plan):
    _, cells = plan("ae", variants=["eroded:ae.erode=2", "slow:ae.lr=1e-6"])
    ids = {method: cell.ids for method, cell in cells.items()}
    assert ids["ae@eroded"].fit == ids["ae"].fit != ids["ae@slow"].fit
    assert len({found.map for found in ids.values()}) == 3


def test_a_cell_knows_the_widest_slices_that_its_trainings_see(plan):
    task, cells = plan("ae,asc-net,supervised-unet")
    healthy = max(case.spacing[0] for case, _ in task.data.training())
    tested = max(case.spacing[0] for case in task.data.test)
    assert healthy != tested
    assert {name: cell.measure.trained_slice_mm for name, cell in cells.items()} == {
        "ae": healthy, "asc-net": max(healthy, tested), "supervised-unet": tested
    }  # fmt: skip


@pytest.mark.parametrize("name", ["fpi", "pii"])
def test_foreign_patches_need_a_second_healthy_patient(name, smoke):
    def planned(donors):
        (task,) = planned_tasks(smoke(f"{name},ae", settings={name: {"donors": donors}}), 1, None)
        return {candidate.label for candidate in task.candidates}, task.skipped

    assert planned("slices") == ({name, "ae"}, [])
    run, (skipped,) = planned("patients")
    assert (run, skipped.method) == ({"ae"}, name)
    assert skipped.reason.startswith("learns from 2 healthy patients or more, and btcv has 1 for training (")


def test_the_healthy_set_of_a_phantom_stands_for_one_that_it_does_not_imitate(smoke):
    for train, warnings in (("btcv", []), ("chaos", ["chaos: no phantom imitates it; btcv trains instead"])):
        (task,) = planned_tasks(smoke("random", data_root=None, phantom=True, train=train), 1)
        assert (task.data.train, {case.dataset for case in task.data.healthy}) == ("btcv", {"btcv"})
        assert task.data.warnings == warnings


def test_a_method_without_the_standard_profile_runs_with_its_quick_one_and_says_so(plan, monkeypatch):
    monkeypatch.setattr(DAEConfig, "profiles", {"quick": {"size": 32}})
    task, cells = plan("dae,ae,random", profile="standard")
    assert {name: cell.measure.profile for name, cell in cells.items()} == {
        "dae": "quick", "ae": "standard", "random": "standard"
    }  # fmt: skip
    assert cells["dae"].measure.config["size"] == 32
    assert sum("dae: declares no profile standard" in warning for warning in task.data.warnings) == 1
