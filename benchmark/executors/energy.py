"""The energy that stages take of GPUs, from the counter that a card keeps (NVML)."""

from collections.abc import Callable
from dataclasses import dataclass

JOULES_PER_KWH = 3.6e6


@dataclass
class _Share:
    gpu: str
    joules: float | None = 0.0


class Meter:
    """Splits what a GPU takes equally among the stages that run on it at the time, second by second.

    Args:
        counter: joules that a GPU has taken so far, None where it does not say.
    """

    def __init__(self, counter: Callable[[str], float | None]) -> None:
        self._counter = counter
        self._shares: dict[str, _Share] = {}
        self._last: dict[str, float | None] = {}

    def start(self, job: str, gpu: str) -> None:
        """Count a stage on a GPU from now on."""
        self._settle(gpu)
        self._shares[job] = _Share(gpu)

    def end(self, job: str) -> float | None:
        """Return the kWh that a stage took; None where it ran on no GPU, or the counter failed meanwhile."""
        if job not in self._shares:
            return None
        self._settle(self._shares[job].gpu)
        joules = self._shares.pop(job).joules
        return None if joules is None else joules / JOULES_PER_KWH

    def _settle(self, gpu: str) -> None:
        """Share out what a GPU has taken since its stages last changed."""
        before, now = self._last.get(gpu), self._counter(gpu)
        self._last[gpu] = now
        here = [share for share in self._shares.values() if share.gpu == gpu]
        for share in here:
            if share.joules is None or before is None or now is None:
                share.joules = None
            else:
                share.joules += (now - before) / len(here)


def counter(gpu: str) -> float | None:
    """Return the joules that a GPU has taken since its driver was loaded; None where nobody can tell.

    ``gpu`` is a number, as CUDA counts with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, or a UUID. Cards before Volta, and parts
    of a card (MIG), have no counter.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        by = pynvml.nvmlDeviceGetHandleByIndex if gpu.isdigit() else pynvml.nvmlDeviceGetHandleByUUID
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(by(int(gpu) if gpu.isdigit() else gpu)) / 1000
    except pynvml.NVMLError:
        return None
