"""Where the time of an update goes, by operator; ``python -m uasbench.benchmark.operators METHOD`` prints a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress

from . import device as devices
from .speed import WARM, configured, scans, train
from .stages import drive

UPDATES = 5


class EnoughError(Exception):
    """A training has gone on for long enough."""


def table(name: str, profile: str, device: str, precision: str, rows: int) -> str:
    """Return torch's table of the operators of some updates of a method, on the phantom, the costliest first.

    On a GPU it counts the time of the card, with the kernels' names; what runs outside torch, such as lesions that
    are made on the CPU, is the difference between an update and its operators.
    """
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    devices.configure(device, 1)
    cls, config, anatomy = configured(name, profile)
    healthy, tested = scans(anatomy, "smoke" if profile == "smoke" else "quick")
    method = drive.construct(cls, config, seed=0, device=device)
    on_gpu = device.startswith("cuda")
    watched = profiler(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])])
    done = 0

    def on_progress(_: int, __: int) -> None:
        nonlocal done
        done += 1
        if done == WARM:
            watched.start()
        if done == WARM + UPDATES:
            watched.stop()
            raise EnoughError

    with suppress(EnoughError):
        train(method, healthy, tested, precision, on_progress)
    if done < WARM + UPDATES:
        return f"{name} at {profile} makes {done} updates in all; {WARM + UPDATES} are needed"
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return f"{UPDATES} updates of {name}\n{watched.key_averages().table(sort_by=by, row_limit=rows)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of one method."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("method")
    parser.add_argument("--profile", default="paper", help="smoke, quick, standard or paper")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rows", type=int, default=20, help="operators that are shown")
    given = parser.parse_args(arguments)
    device = devices.resolve_device(given.device)
    print(table(given.method, given.profile, device, devices.resolve_precision("auto", device), given.rows))


if __name__ == "__main__":
    main()
