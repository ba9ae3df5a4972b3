"""Whatever a tracking server does, the run ends with its numbers and one line about the server."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest

from .bits import bits, differing
from .parts import work_off

try:
    from ..benchmark.tracking.servers import KINDS, bad_server
except ImportError:  # the table of the tracking tests has more kinds than this one, where it is there
    from .servers import KINDS, bad_server

ENDS_WITHIN_S = 240


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_tracking_servers(ledger, tiny_bench, tiny_whole, tmp_path):
    def trial(seed: int, counts: Counter[str]) -> None:
        kind, folder = KINDS[seed % len(KINDS)], tmp_path / str(seed)
        shutil.copytree(tiny_whole.cache, folder / "cache")
        with bad_server(kind) as address:
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

    work_off(ledger, "tracking servers", trial, len(KINDS))
