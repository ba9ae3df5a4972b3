"""How the engine drives a method: construct, train, load, score, and check what comes back.

The stages and ``bench check`` share these functions: a method that passes the check meets nothing new in a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.errors import UasbenchError, shortened
from ...common.seeds import derive, seed_everything
from ...datasets.case import Case, Spacing, counted
from ...methods.context import FitContext
from ...methods.resuming import EVERY_S, Resumption
from ...methods.state import to_device
from . import compiling

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet
    from ...datasets.labelled import LabelledSet
    from ...datasets.views.volume_geometry import ViewedCase
    from ...methods.method import Method


class MethodError(UasbenchError):
    """A method returned something that is not an anomaly map or a mask."""


def construct(cls: type[Method], config: Any, *, seed: int, device: str, compiled: bool = False) -> Method:
    """Seed every generator, then construct the method and its networks, so that weights follow the seed."""
    seed_everything(derive(seed, "weights"))
    method = cls(config)
    method.device = device
    method.build()
    to_device(method, device)
    if compiled:
        compiling.compile_networks(method)
    return method


def train(
    cls: type[Method],
    config: Any,
    scans: HealthySet | LabelledSet,
    ctx: FitContext,
    checkpoints: Path | None = None,
    every_s: float = EVERY_S,
) -> tuple[Method, float]:
    """Construct a method and fit it, on healthy scans or, a top line, on scans with lesion masks.

    Returns the method and the seconds that its fit took; ``checkpoints`` gets the states that it keeps under way, and
    ``every_s`` seconds those from which a killed fit goes on in the same folder.
    """
    method: Any = construct(cls, config, seed=ctx.seed, device=ctx.device, compiled=ctx.compiled)
    start = time.perf_counter()
    if checkpoints is None:
        fit(method, scans, ctx)
        return method, time.perf_counter() - start
    resumption = Resumption(method, checkpoints, every_s)
    ctx = replace(ctx, save_checkpoint=lambda name: method.save(checkpoints / f"{name}.pt"), resumption=resumption)
    fit(method, scans, ctx)
    resumption.clear()
    return method, resumption.elapsed


def fit(method: Any, scans: HealthySet | LabelledSet, ctx: FitContext) -> None:
    """Fit a constructed method; compiled networks are used in its updates alone."""
    with compiling.beside_updates(compiled=ctx.compiled):
        method.fit(scans, ctx)


def load(cls: type[Method], config: Any, path: Path, device: str) -> Method:
    """Construct a method and read its saved state."""
    method = cls(config)
    method.device = device
    method.load(path)
    return method


def score(method: Method, case: Case, viewed: ViewedCase | None = None) -> np.ndarray:
    """Return the checked anomaly map, on the grid of ``viewed`` where that is given, else on the grid of the case.

    It is float32 and contiguous; values outside the region of interest are whatever the method left there.

    Raises:
        MethodError: not an array, masked, wrong shape, not floating or below 32 bits, NaN or infinite where it counts.
    """
    if viewed is None:
        return check_map(method, method.score(case), case.roi, case.id)
    scores = method.score_view(viewed.image, viewed.roi, spacing_of(case, viewed))
    return check_map(method, scores, viewed.support, case.id)


def spacing_of(case: Case, viewed: ViewedCase) -> Spacing:
    """Return the spacing that a method is told: that of a volume's own grid, or the scan's for slices."""
    return getattr(viewed.geometry, "spacing", case.spacing)


def score_together(members: Sequence[Method], case: Case, viewed: ViewedCase | None = None) -> np.ndarray:
    """Return the map of an ensemble: the voxelwise median of its members' maps, as :func:`score` returns it.

    A majority of members above a threshold is the median above it, so a vote stays a map (docs/protocols.md).
    """
    maps = [score(member, case, viewed) for member in members]
    if len(maps) == 1:
        return maps[0]
    out = np.empty_like(maps[0])
    for z in range(len(out)):  # slice by slice: the median of whole volumes would copy all of them
        np.median([map_[z] for map_ in maps], axis=0, out=out[z])
    return out


def decide(method: Method, case: Case, viewed: ViewedCase | None, scores: np.ndarray) -> np.ndarray | None:
    """Return the method's own decision as a native mask where its map counts, or None where it has none.

    Raises:
        MethodError: not a bool array of the shape of the grid.
    """
    on_view = None if viewed is None else getattr(method, "postprocess_view", None)
    if viewed is not None and on_view is not None:
        mask = on_view(viewed.image, viewed.roi, scores, spacing_of(case, viewed))
        native = viewed.geometry.mask_to_native(check_mask(method, mask, scores.shape, case.id))
        return native & counted(case.roi, method.region)
    postprocess = getattr(method, "postprocess", None)
    if postprocess is None:
        return None
    native = scores if viewed is None else viewed.to_native(scores)
    mask = check_mask(method, postprocess(case, native), case.image.shape, case.id)
    return mask & counted(case.roi, method.region)


def restored(method: Method, case: Case, viewed: ViewedCase | None, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the method makes of a case on the way to its map, float32 by title; {} where it shows nothing.

    Raises:
        MethodError: no dictionary of arrays, or one is neither bool nor finite and floating, of the view's shape.
    """
    show = None if viewed is None else getattr(method, "restore_view", None)
    if viewed is None or show is None:
        return {}
    found: Any = show(viewed.image, viewed.roi, scores, spacing_of(case, viewed))
    if not isinstance(found, dict) or not all(isinstance(title, str) for title in found):
        wrong = f"restore_view returned {shortened(repr(found))}; return a dictionary of arrays by title"
        raise MethodError(f"method {method.card.name}, case {case.id}: {wrong}")
    return {
        title: check_map(method, _as_float(array), viewed.support, f"{case.id}, {title!r}")
        for title, array in found.items()
    }


def _as_float(array: Any) -> Any:
    is_mask = isinstance(array, np.ndarray) and array.dtype == np.bool_
    return array.astype(np.float32) if is_mask else array


def check_map(method: Method, scores: Any, support: np.ndarray, case_id: str) -> np.ndarray:
    """Return ``scores`` as a contiguous float32 array; ``support`` (bool) gives the shape and what must be finite.

    Raises:
        MethodError: as :func:`score`.
    """
    wrong = ""
    if not isinstance(scores, np.ndarray):
        hint = "; call .cpu().numpy()" if hasattr(scores, "detach") else ""
        wrong = f"the map is a {type(scores).__name__}, expected a NumPy array{hint}"
    elif isinstance(scores, np.ma.MaskedArray):
        wrong = "the map is a masked array, whose mask would be lost; return map.filled(value)"
    elif scores.shape != support.shape:
        wrong = f"the map has shape {scores.shape}, expected {support.shape}, that of the input"
    elif not np.issubdtype(scores.dtype, np.floating) or scores.dtype.itemsize < 4:
        wrong = f"the map is {scores.dtype}, expected float32; coarser numbers tie and change every curve"
    else:
        with np.errstate(over="ignore"):
            scores = np.ascontiguousarray(scores, dtype=np.float32)
        if bad := np.count_nonzero(~np.isfinite(scores[support])):
            wrong = f"{bad} of {np.count_nonzero(support)} values inside the region of interest are NaN or infinite, "
            wrong += "expected finite float32"
    if wrong:
        raise MethodError(f"method {method.card.name}, case {case_id}: {wrong}")
    return scores


def threshold_of(method: Method) -> float | None:
    """Return the method's own threshold as a plain number, or None where it has none.

    Raises:
        MethodError: it is no finite number.
    """
    value = method.native_threshold
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        shown = shortened(repr(value), 60)
        raise MethodError(f"method {method.card.name}: native_threshold is {shown}, expected a finite number or None")
    return float(value)


def origin_of(method: Method) -> dict[str, str]:
    """Return the method's ``provenance()``.

    Raises:
        MethodError: it is no dictionary of texts.
    """
    found: Any = method.provenance()
    if not isinstance(found, dict) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        wrong = f"provenance() returned {shortened(repr(found))}; return a dictionary of texts"
        raise MethodError(f"method {method.card.name}: {wrong}")
    return found


def check_mask(method: Method, mask: Any, shape: tuple[int, ...], case_id: str) -> np.ndarray:
    """Return what a ``postprocess`` gave, if it is a bool array of this shape.

    Raises:
        MethodError: it is not.
    """
    plain = isinstance(mask, np.ndarray) and not isinstance(mask, np.ma.MaskedArray)
    if not plain or mask.dtype != np.bool_ or mask.shape != shape:
        got = f"{mask.dtype} {mask.shape}" if plain else type(mask).__name__
        raise MethodError(
            f"method {method.card.name}, case {case_id}: postprocess returned {got}, expected bool {shape}"
        )
    return mask
