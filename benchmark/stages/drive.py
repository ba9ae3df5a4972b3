"""How the engine drives a method: construct, train, load, score, and check what comes back.

The stages and ``bench check`` share these functions: a method that passes the check meets nothing new in a run.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...datasets.case import Case
from ...datasets.errors import UasbenchError
from ...datasets.seeds import derive, seed_everything
from ...methods.context import FitContext
from ...methods.state import to_device
from ...methods.training import autocast

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet
    from ...datasets.viewing import Viewed
    from ...methods.base import Method


class MethodError(UasbenchError):
    """A method returned something that is not an anomaly map or a mask."""


def import_target(target: str) -> Any:
    """Import ``module:attribute``, the form in which entry points name a class."""
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def precision(device: str, kind: str) -> AbstractContextManager:
    """Return the autocast context that scoring runs in (``fp32`` or ``bf16``)."""
    return autocast(device, kind)


def construct(cls: type[Method], config: Any, *, seed: int, device: str) -> Method:
    """Seed every generator, then construct the method and its networks, so that weights follow the seed."""
    seed_everything(derive(seed, "weights"))
    method = cls(config)
    method.device = device
    method.build()
    to_device(method, device)
    return method


def train(cls: type[Method], config: Any, healthy: HealthySet, ctx: FitContext) -> Method:
    """Construct a method and fit it."""
    method = construct(cls, config, seed=ctx.seed, device=ctx.device)
    method.fit(healthy, ctx)
    return method


def load(cls: type[Method], config: Any, path: Path, device: str) -> Method:
    """Construct a method and read its saved state."""
    method = cls(config)
    method.device = device
    method.load(path)
    return method


def score(method: Method, case: Case, viewed: Viewed | None = None) -> np.ndarray:
    """Return the checked anomaly map, on the grid of ``viewed`` where that is given, else on the grid of the case.

    Returns:
        float32, contiguous; values outside the region of interest are whatever the method left there.

    Raises:
        MethodError: not an array, wrong shape, not floating or below 32 bits, NaN or infinite where it counts.
    """
    if viewed is None:
        return check_map(method, method.score(case), case.roi, case.id)
    scores = method.score_view(viewed.image, viewed.roi, case.spacing)
    return check_map(method, scores, viewed.support, case.id)


def check_map(method: Method, scores: Any, support: np.ndarray, case_id: str) -> np.ndarray:
    """Return ``scores`` as a contiguous float32 array.

    Args:
        support: bool, the shape expected; only its voxels must be finite.

    Raises:
        MethodError: as :func:`score`.
    """
    who = f"method {_name(method)}, case {case_id}"
    if not isinstance(scores, np.ndarray):
        hint = "; call .cpu().numpy()" if hasattr(scores, "detach") else ""
        raise MethodError(f"{who}: the map is a {type(scores).__name__}, expected a NumPy array{hint}")
    if scores.shape != support.shape:
        raise MethodError(f"{who}: the map has shape {scores.shape}, expected {support.shape}, that of the input")
    if not np.issubdtype(scores.dtype, np.floating) or scores.dtype.itemsize < 4:
        raise MethodError(
            f"{who}: the map is {scores.dtype}, expected float32; coarser numbers tie and change every curve"
        )
    with np.errstate(over="ignore"):
        scores = np.ascontiguousarray(scores, dtype=np.float32)
    bad = np.count_nonzero(~np.isfinite(scores[support]))
    if bad:
        raise MethodError(
            f"{who}: {bad} of {np.count_nonzero(support)} values inside the region of interest are NaN or infinite, "
            "expected finite float32"
        )
    return scores


def check_mask(method: Method, mask: Any, case: Case) -> np.ndarray:
    """Return what ``postprocess`` gave as a bool array, cut at the region of interest.

    Raises:
        MethodError: not a bool array of the case's shape.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != case.image.shape:
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise MethodError(
            f"method {_name(method)}, case {case.id}: postprocess returned {got}, expected bool {case.image.shape}"
        )
    return mask & case.roi


def _name(method: Method) -> str:
    card = getattr(type(method), "card", None)
    return getattr(card, "name", type(method).__name__)
