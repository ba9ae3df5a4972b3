"""The lungmask network R231, where its package is installed and its weights lie on this machine."""

import importlib.util
import os
import warnings as python_warnings
from pathlib import Path

import numpy as np

from ...common.errors import DataError
from ..case import Spacing

WEIGHTS = "unet_r231-d5d2fc3d.pth"
VARIABLE = "UASBENCH_LUNGMASK_WEIGHTS"


def available() -> str | None:
    """Return None where the network can be used, else the reason why not; nothing is ever downloaded."""
    if importlib.util.find_spec("lungmask") is None:
        return "the package lungmask is not installed; add the extra 'lungmask'"
    path = _weights_path()
    if not path.is_file():
        return f"no weights at {path}; put {WEIGHTS} there or name the file in {VARIABLE}"
    return None


def weights() -> Path | None:
    """Return the file that :func:`segment` reads, or None where the network cannot be used."""
    return _weights_path() if available() is None else None


def segment(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the lungs of a CT in Hounsfield units, bool (z, y, x), by R231 (Hofmanninger et al. 2020).

    The network gives 1 for the right and 2 for the left lung and knows no spacing; it runs on the CPU, so that the
    region of interest does not depend on the device.
    """
    del spacing
    reason = available()
    if reason is not None:
        raise DataError(f"lungs cannot be segmented by lungmask: {reason}")
    path = _weights_path()
    with python_warnings.catch_warnings():
        # The package silences every UserWarning of the process when it is imported.
        from lungmask import LMInferer  # pyright: ignore[reportMissingImports]

        try:
            network = LMInferer(modelname="R231", modelpath=str(path), force_cpu=True, tqdm_disable=True)
        except Exception as error:
            raise DataError(f"{path}: not the weights of lungmask R231 ({error}); copy {WEIGHTS} again") from error
        return np.asarray(network.apply(np.asarray(image, dtype=np.float32))) > 0


def _weights_path() -> Path:
    """The file named by the user, or where torch hub keeps what it once downloaded (torch.hub.get_dir)."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(os.environ.get("TORCH_HOME") or Path(cache, "torch")).expanduser()
    return home / "hub" / "checkpoints" / WEIGHTS
