"""Whatever a tracking server does, the run ends with its numbers and one line about the server."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest

from .bits import bits, differing
from .commands import LIGHT
from .parts import work_off

ENDS_WITHIN_S = 900
# Three minutes of patience instead of twelve, two seconds for one step instead of two minutes.
HASTY = """
from uasbench.benchmark.tracking import tracker
tracker.Tracker.__init__.__defaults__ = (tracker.Patience(2.0, 180.0),)
"""


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_tracking_servers(ledger, servers, tiny_bench, tiny_whole, tmp_path):
    cases = [(kind, script) for script in (HASTY + LIGHT, LIGHT) for kind in servers.KINDS]

    def trial(seed: int, counts: Counter[str]) -> None:
        (kind, script), folder = cases[seed % len(cases)], tmp_path / str(seed)
        shutil.copytree(tiny_whole.cache, folder / "cache")
        with servers.bad_server(kind) as address:
            bench = replace(tiny_bench, extra=("--tracking-uri", address))
            started = bench.start(bench.run(folder / "run", folder / "cache"), folder / "log", script=script)
            status = started.ended(ENDS_WITHIN_S)
            started.gone()
        said = started.said()
        assert status == 0, f"{kind}: exit {status}: {said[-600:]}"
        assert "Traceback" not in said, f"{kind}: {said[-600:]}"
        assert said.count("MLflow: ") == 1, f"{kind}: {said[-600:]}"
        assert not differing(bits(folder / "run"), tiny_whole.bits), kind
        counts["patience: cut short" if script != LIGHT else "patience: the product's"] += 1

    work_off(ledger, "tracking servers", trial, len(cases))
