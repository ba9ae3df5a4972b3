"""Whatever a tracking server does, the run ends with its numbers and one line about the server."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest

from .bits import bits, differing
from .parts import work_off
from .servers import SERVERS

ENDS_WITHIN_S = 240


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_tracking_servers(ledger, tiny_bench, tiny_whole, tmp_path):
    def trial(seed: int, counts: Counter[str]) -> None:
        kind, folder = [*SERVERS][seed % len(SERVERS)], tmp_path / str(seed)
        shutil.copytree(tiny_whole.cache, folder / "cache")
        with SERVERS[kind]() as address:
            bench = replace(tiny_bench, extra=("--tracking-uri", address))
            started = bench.start(bench.run(folder / "run", folder / "cache"), folder / "log")
            status = started.ended(ENDS_WITHIN_S)
            started.gone()
        said = started.said()
        assert status == 0, f"{kind}: exit {status}: {said[-600:]}"
        assert "Traceback" not in said, f"{kind}: {said[-600:]}"
        assert said.count("MLflow: ") == 1, f"{kind}: {said[-600:]}"
        assert not differing(bits(folder / "run"), tiny_whole.bits), kind
        counts["ended with the same bits and one line"] += 1

    work_off(ledger, "tracking servers", trial, len(SERVERS))
