"""A method that needs more healthy patients than there are is skipped with that reason before anything is computed."""

import pytest
from uasbench.benchmark.planning.tasks import planned_tasks


@pytest.mark.parametrize("name", ["fpi", "pii"])
def test_foreign_patches_need_a_second_healthy_patient(name, smoke):
    def planned(donors):
        (task,) = planned_tasks(smoke(f"{name},ae", settings={name: {"donors": donors}}), 1, None)
        return {candidate.label for candidate in task.candidates}, task.skipped

    assert planned("slices") == ({name, "ae"}, [])
    run, (skipped,) = planned("patients")
    assert (run, skipped.method) == ({"ae"}, name)
    assert skipped.reason.startswith("learns from 2 healthy patients or more, and btcv has 1 for training (")
