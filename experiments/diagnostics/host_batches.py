"""How many batches a core draws in a second for trainings whose lesions are made on the host, at ``paper``.

``python -m uasbench.experiments.diagnostics.host_batches [METHOD …]`` trains nothing: it calls what a training on a
GPU lets a thread draw ahead (:mod:`uasbench.methods.ahead`), and no training can do more updates than that. What
``normnet`` draws on the CPU is left out, because a GPU makes its lesions.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ...benchmark import device, speed
from ...benchmark.stages import drive
from ...methods import ahead

METHODS = ("cutpaste", "fpi", "layer-decomposition", "mood-unet", "nsa", "pii", "synthetic-tumors")
WARM = 2


class _DrawnError(Exception):
    """All batches have been drawn."""


def per_second(name: str, profile: str, size: Any, seconds: float) -> dict[str, Any]:
    """Return batches per core-second of the first source of batches that the method's training opens."""
    device.configure("cpu", 1)
    cls, config, anatomy = speed.configured(name, profile)
    healthy, tested = speed.scans(anatomy, size)
    method = drive.construct(cls, config, seed=0, device="cpu")
    found: dict[str, Any] = {"method": name, "anatomy": anatomy}

    @contextmanager
    def timed(draw: Callable[[], Any], _ctx: Any) -> Iterator[Any]:
        for _ in range(WARM):
            draw()
        began, count = time.process_time(), 0
        while (spent := time.process_time() - began) < seconds or not count:
            draw()
            count += 1
        found.update(batches=count, per_core_s=count / spent)
        raise _DrawnError
        yield

    with mock.patch.object(ahead, "drawn_ahead", timed):
        try:
            speed.train(method, healthy, tested, "fp32", lambda *_: None)
        except _DrawnError:
            return found
    raise ValueError(f"{name} draws no batches ahead")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line of JSON for each method."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--profile", default="paper")
    parser.add_argument("--size", default="full", help="of the phantom")
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args(arguments)
    for name in given.methods:
        print(json.dumps(per_second(name, given.profile, given.size, given.seconds)), flush=True)


if __name__ == "__main__":
    main()
