"""Methods that share their training are trained once and scored each in their own way."""

import pytest
from uasbench.benchmark.planning.plan import Graph
from uasbench.benchmark.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("one", "other"), [("vae", "bayesian-vae"), ("kl-grad", "kl-grad-combi"), ("asc-net", "asc-net-post")]
)
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
