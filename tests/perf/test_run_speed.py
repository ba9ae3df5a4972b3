"""The main job on the phantom: how long it takes, how much memory, and how much of it is the harness."""

import pytest
import uasbench
import uasbench.api

pytestmark = pytest.mark.perf
GIB_IN_MIB = 1024


def test_quick_run_of_all_methods(benchmark, tmp_path):
    def job() -> uasbench.api.Run:
        return uasbench.run("all", "lits", phantom=True, profile="quick", seeds=3, out=tmp_path / "run", workers=2)

    done = benchmark.pedantic(job, rounds=1, iterations=1)
    (timing,) = done.info["timing"]
    peak = max(record.cost.peak_ram_mib for record in done.records)
    benchmark.extra_info.update(timing, peak_ram_mib=round(peak))
    assert not done.failures
    assert timing["fit_and_score_s"] > 0.5 * sum(timing["stage_s"].values()), "more than half of the work is harness"
    assert 2 * peak < 4 * GIB_IN_MIB
