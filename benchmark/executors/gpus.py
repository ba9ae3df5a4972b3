"""What the GPUs of this machine say of themselves, asked with ``nvidia-smi``."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

QUERY = "index,uuid,name,memory.total,memory.used,utilization.gpu"
WITHIN_S = 10.0


@dataclass(frozen=True)
class Reading:
    """One GPU at one moment: memory in MiB, the share of time that it was busy (None where it does not say)."""

    card: str
    total_mib: float
    used_mib: float
    busy: float | None


def read() -> dict[str, Reading]:
    """Return a reading by index and by UUID of every GPU; empty where there is none, or it does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, Reading] = {}
    for line in done.stdout.splitlines():
        index, uuid, card, total, used, busy = (part.strip() for part in line.split(","))
        found[index] = found[uuid] = Reading(card, float(total), float(used), _share(busy))
    return found


def visible(readings: Mapping[str, Reading]) -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them, else by index."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = [name for name in readings if name.isdigit()]
    return every if named is None else [name for part in named.split(",") if (name := part.strip()) in readings]


def _share(text: str) -> float | None:
    return int(text) / 100 if text.isdigit() else None
