"""Methods that share their training are trained once and scored each in their own way."""

from __future__ import annotations

import pytest
from uasbench.benchmark.planning.plan import Graph, plan_cells
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.stages.task import Numerics


@pytest.mark.parametrize(
    ("one", "other"), [("vae", "bayesian-vae"), ("kl-grad", "kl-grad-combi"), ("asc-net", "asc-net-post")]
)
def test_one_training_serves_both_and_their_maps_differ(one, other, smoke, tmp_path):
    options = smoke(f"{one},{other}")
    (task,) = planned_tasks(options, 1, None)
    numerics = Numerics(device="cpu", threads=1, precision="fp32")
    first, second = plan_cells(options, numerics, task.data, task.candidates)
    assert first.ids.fit == second.ids.fit
    assert first.ids.map != second.ids.map
    assert first.ids.measure != second.ids.measure
    graph = Graph(numerics, RunFolder(tmp_path / "run"))
    for cell in (first, second):
        graph.add(cell, task.data)
    assert sorted(job.task.stage for job in graph.jobs.values()) == ["fit", "map", "map", "measure", "measure"]
