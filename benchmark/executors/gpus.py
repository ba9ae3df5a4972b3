"""What the GPUs of this machine say of themselves, asked with ``nvidia-smi``."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

QUERY = "index,uuid,name,memory.total,memory.used,utilization.gpu"
WITHIN_S = 10.0


@dataclass(frozen=True)
class Reading:
    """One GPU at one moment: memory in MiB, the share of time that it was busy (None where it does not say)."""

    index: int
    card: str
    total_mib: float
    used_mib: float
    busy: float | None


def read() -> dict[str, Reading]:
    """Return a reading by UUID of every GPU; empty where there is none, or nobody answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)  # noqa: S603
    except (subprocess.TimeoutExpired, OSError):
        return {}
    return {uuid: reading for line in done.stdout.splitlines() for uuid, reading in _parsed(line)}


def visible(readings: Mapping[str, Reading]) -> list[str]:
    """Return the UUIDs of the GPUs that this process may use: CUDA counts them in an order of its own."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list(readings)
    found = []
    for name in filter(None, (part.strip() for part in named.split(","))):
        if name.isdigit():  # as CUDA counts with CUDA_DEVICE_ORDER=PCI_BUS_ID
            found += [uuid for uuid, reading in readings.items() if reading.index == int(name)]
        else:
            found += [uuid for uuid in readings if uuid.startswith(name)]
    return list(dict.fromkeys(found))


def _parsed(line: str) -> Iterator[tuple[str, Reading]]:
    """Yield UUID and reading of a line, nothing where it is none: faults are told in words among them."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) == len(QUERY.split(",")):
        index, uuid, card, total, used, busy = parts
        with suppress(ValueError):
            share = int(busy) / 100 if busy.isdigit() else None
            yield uuid, Reading(int(index), card, float(total), float(used), share)
