"""The main job on the phantom: how long it takes, how much memory, how much of it is the harness, and what was said."""

import time

import pytest
import uasbench
import uasbench.api
from uasbench.benchmark.commands.predicting import plan
from uasbench.benchmark.planning.options import validated

pytestmark = pytest.mark.perf
GIB_IN_MIB = 1024
APART = 0.2
"""The plan of a run, from the rates that ship and one look at this machine, is no further from what it takes."""


def test_quick_run_of_all_methods(benchmark, tmp_path):
    asked = {"phantom": True, "profile": "quick", "seeds": 3, "out": tmp_path / "run", "workers": 2}
    forecast = plan(validated(methods="all", datasets=["lits"], **asked))

    def job() -> tuple[uasbench.api.Run, float]:
        start = time.monotonic()
        return uasbench.run("all", "lits", **asked), time.monotonic() - start

    done, took_s = benchmark.pedantic(job, rounds=1, iterations=1)
    (timing,) = done.info["timing"]
    peak = max(record.cost.peak_ram_mib for record in done.records)
    predicted_s = 3600 * forecast.hours
    benchmark.extra_info.update(timing, peak_ram_mib=round(peak), predicted_s=round(predicted_s), took_s=round(took_s))
    assert not done.failures
    assert timing["fit_and_score_s"] > 0.5 * sum(timing["stage_s"].values()), "more than half of the work is harness"
    assert 2 * peak < 4 * GIB_IN_MIB
    assert not forecast.lower_bound, "what nobody has measured is not predicted"
    assert abs(predicted_s / took_s - 1) <= APART, f"{predicted_s:.0f} s were predicted and {took_s:.0f} s taken"
