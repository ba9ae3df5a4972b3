"""How fast this machine trains beside the one that rates were measured on: seconds of a fixed piece of work."""

import os
import subprocess
import sys
import time

from ..common.errors import UasbenchError

UPDATES_2D, UPDATES_3D = 20, 3
WITHIN_S = 60.0


INSTEAD = "without that, as with 'bench plan --no-calibrate', it is taken to be as fast as that of the rates"


class CalibrationError(UasbenchError):
    """This machine could not be measured."""


def probe(threads: int = 1) -> float:
    """Return the processor seconds that some updates of a small 2D and a small 3D network take on the CPU.

    They are what methods spend their time with: convolutions, normalisation, resizing and Adam, in fp32.
    """
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    flat = _network(nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d(2), "bilinear")
    solid = _network(nn.Conv3d, nn.BatchNorm3d, nn.AvgPool3d(2), "trilinear")
    work = [(flat, torch.rand(8, 1, 128, 128), UPDATES_2D), (solid, torch.rand(1, 1, 16, 64, 64), UPDATES_3D)]
    optimisers = [torch.optim.Adam(network.parameters(), 1e-3) for network, _, _ in work]
    for warm in (True, False):
        started = time.process_time()
        for (network, images, updates), optimiser in zip(work, optimisers, strict=True):
            for _ in range(2 if warm else updates):
                optimiser.zero_grad(set_to_none=True)
                (network(images) - images).square().mean().backward()
                optimiser.step()
    return time.process_time() - started


def seconds(workers: int, threads: int) -> float:
    """Return the mean seconds of :func:`probe` in as many processes at once as a run has workers, at most one per core.

    Cores that share memory or arithmetic are slower together than one of them alone.

    Raises:
        CalibrationError: it did not end within a minute, or failed.
    """
    command = [sys.executable, "-P", "-m", __name__, str(threads)]
    count = max(1, min(workers, len(os.sched_getaffinity(0)) // threads))
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]  # noqa: S603
    try:
        found = [process.communicate(timeout=WITHIN_S)[0] for process in started]
    except subprocess.TimeoutExpired as error:
        raise CalibrationError(f"this machine was not measured within {WITHIN_S:.0f} s; {INSTEAD}") from error
    finally:
        for process in started:
            process.kill()
            process.wait()
    if any(process.returncode for process in started):
        raise CalibrationError(f"measuring this machine failed, as said above; {INSTEAD}")
    return sum(map(float, found)) / count


def _network(conv, norm, pool, mode):
    """Return an encoder and decoder of four convolutions of 16 and 32 channels."""
    from torch import nn

    def block(inside: int, outside: int) -> nn.Sequential:
        return nn.Sequential(conv(inside, outside, 3, padding=1, bias=False), norm(outside), nn.ReLU())

    up = nn.Upsample(scale_factor=2, mode=mode)
    return nn.Sequential(block(1, 16), pool, block(16, 32), block(32, 32), up, block(32, 16), conv(16, 1, 1))


if __name__ == "__main__":
    print(probe(int(sys.argv[1])))
