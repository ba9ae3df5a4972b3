"""Where the stages of a run go: the executor, the device that they compute on, and how many there are at once."""

from dataclasses import dataclass

from .. import device as devices
from ..executors.contract import Executor, checked_settings, find_executor
from ..stages.task import Numerics
from .options import OptionError, RunOptions

AT_ONCE = 64
"""Jobs that are in a queue at once, where nobody says how many."""


@dataclass(frozen=True)
class Where:
    """``readers`` are processes that prepare data here, ``workers`` and ``packed`` as those of a place.

    ``elsewhere`` are stages that run on other machines.
    """

    executor: type[Executor]
    numerics: Numerics
    readers: int
    workers: int
    packed: bool
    elsewhere: bool = False


def where(options: RunOptions, *, planning: bool = False) -> Where:
    """Return where the stages of a run go; one that is only planned needs no GPU here, and is taken to have one.

    Raises:
        UasbenchError: no such executor, device or setting, or they do not go together.
    """
    executor = find_executor(options.executor)
    checked_settings(getattr(executor, "settings_of", None), options.queue)
    elsewhere = getattr(executor, "elsewhere", False)
    device = devices.resolve_device(options.device, here=not (elsewhere or planning))
    precision = devices.resolve_precision(options.precision, device)
    numerics = Numerics(device=device, threads=options.threads, precision=precision, compiled=options.compiled)
    if not elsewhere:
        workers, packed = devices.resolve_workers(options.workers, device)
        return Where(executor, numerics, workers, workers, packed)
    if options.workers == "pack":
        raise OptionError(f"--workers pack: it packs the GPUs of this machine, and not those of {options.executor}")
    at_once = options.workers or AT_ONCE
    return Where(executor, numerics, devices.default_workers("cpu"), at_once, packed=False, elsewhere=True)
