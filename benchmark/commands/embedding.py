"""Patches of healthy tissue, lesions and synthetic lesions in two dimensions, after Zhang, Deng & Li 2023, Fig. 1C.

The harness reads lesion labels for it, once all methods have been measured; no method sees any of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.errors import UasbenchError
from ...common.seeds import derive
from ...datasets.healthy import HealthySet, Part
from ...datasets.labelled import LabelledPart, LabelledSet
from ...methods.context import FitContext
from ...methods.method import Method
from .. import device as devices
from ..planning.options import RunOptions
from ..planning.tasks import whole_tasks
from ..stages import drive
from .display import preparing

if TYPE_CHECKING:
    from rich.console import Console

    from ..planning.tasks import Planned

HEALTHY, LESION, SYNTHETIC, TRAINING = KINDS = ("healthy", "lesion", "synthetic", "training")
MOST = 150
DRAWS = 60
SHARE, LEAST = 8, 8
NEIGHBOURS = 10


def embed(options: RunOptions, console: Console | None = None) -> dict[str, Any]:
    """Return places of patches by t-SNE, their kinds, and whose neighbours they are.

    Patches are an eighth of the side of the slices that the run's first method with synthetic lesions looks at (8
    pixels at least), in its grey levels: around a random pixel of the organ of slices without a lesion, of the test set
    (``healthy``) and of the healthy set that the method learns from (``training``), and around the inmost pixel of the
    lesions of a test slice and of the synthetic ones, which are put into training slices. ``neighbours`` says by kind
    which shares of the ten nearest patches (of equally many of each kind) are of which kind, before anything is laid
    out.

    Raises:
        UasbenchError: no method of the run makes synthetic lesions on slices, or nothing is there to show.
    """
    with preparing(console) as progress:
        tasks = whole_tasks(options, devices.resolve_workers(options.workers or 1, "cpu")[0], progress)
    for task in tasks:
        for candidate in task.candidates:
            cls, config = candidate.spec.load()
            if cls.preview is not Method.preview and hasattr(config, "size"):
                method = drive.construct(cls, config, seed=options.seeds[0], device="cpu")
                if "target" in (shown := _drawn(method, task, 0)):
                    patches = _patches(method, task, shown, options.seeds[0])
                    return {"method": candidate.label, "dataset": task.data.dataset, **laid_out(patches)}
    raise UasbenchError(f"none of {options.methods} makes synthetic lesions on slices; try draem or two-stage")


def _drawn(method: Any, task: Planned, number: int) -> dict[str, np.ndarray]:
    healthy = HealthySet([Part(case, z) for case, z in task.data.training()])
    return method.preview(healthy, FitContext(seed=derive(number, "embedding")))


def _patches(method: Any, task: Planned, first: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    side = max(LEAST, method.config.size // SHARE)
    rng = np.random.default_rng(derive(seed, "embedding"))
    synthetic: list[np.ndarray] = []
    for number in range(DRAWS):
        shown = first if number == 0 else _drawn(method, task, number)
        augmented = next(images for title, images in shown.items() if title not in ("healthy", "target"))
        synthetic += _inmost(augmented, shown["target"] > 0, side)
        if len(synthetic) >= MOST:
            break
    labelled = LabelledSet([LabelledPart(case, task.data.truths[case.id]) for case in task.data.test])
    training = HealthySet([Part(case, z) for case, z in task.data.training()]).array(method.view)
    tested, lesions = labelled.cases.array(method.view), labelled.lesions(method.view)
    return {
        HEALTHY: np.array(list(_anywhere(tested, np.flatnonzero(~lesions.positive), side, rng))),
        LESION: np.array(list(_lesions(tested, lesions, side, rng))),
        SYNTHETIC: np.array(synthetic[:MOST]),
        TRAINING: np.array(list(_anywhere(training, np.arange(len(training)), side, rng))),
    }


def _anywhere(stack: Any, slices: np.ndarray, side: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for i in rng.permutation(slices)[:MOST]:
        (image,), (roi,) = stack.take([i])
        if roi.any():
            yield _cut(_in_unit_range(image), rng.choice(np.argwhere(roi)), side)


def _lesions(stack: Any, lesions: Any, side: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for i in rng.permutation(np.flatnonzero(lesions.positive))[:MOST]:
        (image,), _ = stack.take([i])
        yield from _inmost(_in_unit_range(image)[None], lesions.take([i]), side)


def _inmost(images: np.ndarray, masks: np.ndarray, side: int) -> list[np.ndarray]:
    """Return the patch around the inmost pixel of the mask of every image that has one."""
    from scipy.ndimage import distance_transform_edt

    found = []
    for image, mask in zip(images, masks, strict=True):
        if mask.any():
            depth = np.asarray(distance_transform_edt(mask))
            found.append(_cut(image, np.array(np.unravel_index(depth.argmax(), depth.shape)), side))
    return found


def _cut(image: np.ndarray, centre: np.ndarray, side: int) -> np.ndarray:
    padded = np.pad(image, side // 2)
    y, x = centre
    return padded[y : y + side, x : x + side].astype(np.float32).ravel()


def _in_unit_range(image: np.ndarray) -> np.ndarray:
    return image / np.float32(255) if image.dtype == np.uint8 else image


def laid_out(patches: dict[str, np.ndarray]) -> dict[str, Any]:
    """Lay patches (n, pixels) of each kind out by t-SNE, equally many of each.

    Raises:
        UasbenchError: a kind has fewer than two patches.
    """
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    count = min(len(found) for found in patches.values())
    if count < 2:
        short = min(patches, key=lambda kind: len(patches[kind]))
        raise UasbenchError(f"{len(patches[short])} {short} patches are too few to lay out")
    points = np.concatenate([patches[kind][:count] for kind in KINDS])
    kinds = np.repeat(np.arange(len(KINDS)), count)
    places = TSNE(init="pca", perplexity=min(30.0, (len(points) - 1) / 3), random_state=0).fit_transform(points)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points) - 1)).fit(points).kneighbors(return_distance=False)
    shares = [[float(np.mean(kinds[near[kinds == a]] == b)) for b in range(len(KINDS))] for a in range(len(KINDS))]
    return {
        "places": {kind: places[kinds == i].round(3).tolist() for i, kind in enumerate(KINDS)},
        "neighbours": {a: dict(zip(KINDS, row, strict=True)) for a, row in zip(KINDS, shares, strict=True)},
    }
