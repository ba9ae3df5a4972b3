"""The one owner of device choice, thread count and determinism flags."""

import os
import resource
import shutil
from pathlib import Path

from ..common.errors import UasbenchError

TF32 = {"convolutions": True, "matrix products": False}
"""Where fp32 on CUDA has the ten bits of mantissa of TF32: not where distances to codes and banks of features and
projections on subspaces are computed, whose small differences it would lose."""


class DeviceError(UasbenchError):
    """The device that was asked for is not there."""


def gpu_count() -> int:
    """Return the number of usable CUDA devices, without importing torch on machines that have no driver."""
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return 0
    import torch

    return torch.cuda.device_count()


def resolve_device(wanted: str, *, here: bool = True) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu`` and check an explicit choice, for stages that run ``here`` or elsewhere.

    Raises:
        DeviceError: CUDA was asked for and is not usable, or the name is unknown.
    """
    if wanted == "auto":
        return "cuda" if gpu_count() else "cpu"
    if wanted == "cuda" and here and not gpu_count():
        raise DeviceError("--device cuda: no CUDA device is visible here; use --device cpu, or check 'bench doctor'")
    if wanted not in ("cpu", "cuda"):
        raise DeviceError(f"--device {wanted!r}: choose auto, cpu or cuda")
    return wanted


def resolve_precision(wanted: str, device: str) -> str:
    """``auto`` is bf16 autocast on CUDA and fp32 on the CPU.

    PyTorch 2.14 on a CPU with bf16 arithmetic returns uninitialised memory as the weight gradient of a 3×3×3
    convolution of volumes two slices deep, without an error (docs/performance.md, precision).

    Raises:
        DeviceError: bf16 was asked for on the CPU.
    """
    if wanted == "auto":
        return "bf16" if device == "cuda" else "fp32"
    if (wanted, device) == ("bf16", "cpu"):
        raise DeviceError(
            "--precision bf16: on the CPU, PyTorch's bf16 convolutions have wrong gradients for some shapes; use fp32"
        )
    return wanted


def resolve_workers(wanted: int | str | None, device: str) -> tuple[int, bool]:
    """Return how many stages run at once, and whether GPUs take as many as fit besides (``pack``).

    Raises:
        DeviceError: stages should be packed on GPUs, and there is none.
    """
    if wanted == "pack" and device != "cuda":
        raise DeviceError("--workers pack: it packs stages on GPUs, and this run uses none; give a number, or auto")
    if isinstance(wanted, int):
        return wanted, False
    return max(1, default_workers("cpu" if wanted == "pack" else device)), wanted == "pack"


def default_workers(device: str) -> int:
    """One cell per GPU, or one per core that this process may use."""
    return gpu_count() if device == "cuda" else len(os.sched_getaffinity(0))


def configure(device: str, threads: int) -> None:
    """Set threads, determinism flags and what fp32 means of this process, before any network is built."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = TF32["convolutions"]
        torch.backends.cuda.matmul.allow_tf32 = TF32["matrix products"]
        torch.cuda.reset_peak_memory_stats()


def peaks(device: str) -> dict[str, float | None]:
    """Return the peak resident memory of this process and what torch reserved on the GPU (None on the CPU), in MiB."""
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.max_memory_reserved() / 2**20
    return {"peak_ram_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "peak_gpu_mib": gpu}
