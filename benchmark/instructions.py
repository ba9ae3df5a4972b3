"""The instruction set of the processor: the same program has other last bits on another one."""

import os
import sys
from collections.abc import Mapping
from typing import Any

CHOICES = (
    "ATEN_CPU_CAPABILITY ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA MKL_CBWR MKL_ENABLE_INSTRUCTIONS NPY_DISABLE_CPU_FEATURES "
    "NPY_ENABLE_CPU_FEATURES OPENBLAS_CORETYPE NUMBA_CPU_NAME NUMBA_CPU_FEATURES"
)
"""Variables of the environment that choose among the instructions of a processor."""


def instruction_set() -> dict[str, str]:
    """Return by what the vectorised code of this process is chosen, which decides its last bits.

    That is what NumPy finds of the processor, what torch uses of it (where torch is imported already: it takes
    seconds), and the variables that are set among :data:`CHOICES`.
    """
    import numpy as np

    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    found = {"numpy": " ".join([*simd.get("baseline", ()), *simd.get("found", ())])}
    if (torch := sys.modules.get("torch")) is not None:
        found["torch"] = torch.backends.cpu.get_cpu_capability()
    return found | {name: os.environ[name] for name in CHOICES.split() if os.environ.get(name)}


def made_on(device: str) -> dict[str, str]:
    """Return what decides the last bits of what is computed here: the instruction set, and on a GPU its model."""
    if device == "cpu":
        return instruction_set()
    import torch

    return instruction_set() | {"gpu": torch.cuda.get_device_name()}


def instruction_text(found: Mapping[str, str]) -> str:
    """Return an instruction set as a line of text.

    >>> instruction_text({"torch": "AVX2", "numpy": "X86_V2 X86_V3"})
    'numpy X86_V2 X86_V3, torch AVX2'
    """
    return ", ".join(f"{name} {value}" for name, value in sorted(found.items()))


def other_instructions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between two instruction sets; what only one of them knows of torch is no difference.

    >>> other_instructions({"numpy": "X86_V3"}, {"numpy": "X86_V4", "torch": "AVX512"})
    ['numpy X86_V3 → X86_V4']
    """
    names = sorted({*before, *now} - ({"torch"} if ("torch" in before) != ("torch" in now) else set()))
    differing = [name for name in names if before.get(name) != now.get(name)]
    return [f"{name} {before.get(name, 'not set')} → {now.get(name, 'not set')}" for name in differing]
