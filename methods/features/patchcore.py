"""PatchCore: distance to the nearest of a thinned-out memory of healthy patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...common.errors import DataError
from ..card import MethodCard, same
from ..context import FitContext, TrainingError
from ..nets.corpora import IMAGENET
from ..training import as_input, autocast, run_updates
from .parts.backbone import LITE0
from .parts.pooled_patches import PooledPatchConfig, PooledPatchMethod

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack


@dataclass(frozen=True)
class PatchCoreConfig(PooledPatchConfig):
    """Settings of :class:`PatchCore`.

    Attributes:
        ratio: share of the patches that the coreset keeps.
        projection: components in which the coreset is selected.
        max_patches: patches remembered before selection; of more, a random part is taken, and the state says so.
        max_gib: most memory that patches may take; more is refused before anything is extracted.
    """

    ratio: float = 0.1
    projection: int = 128
    max_patches: int = 400_000
    max_gib: float = 8.0

    profiles: ClassVar = {
        "smoke": {"size": 32, "backbone": LITE0, "dims": 128, "batch": 8, "max_patches": 500, "sigma": 1.0},
        "quick": {"size": 128, "backbone": LITE0, "dims": 128, "batch": 16, "max_patches": 20_000, "sigma": 2.0},
        "standard": {"field_of_view": 256.0, "backbone": LITE0, "max_patches": 40_000},
    }


class PatchCore(PooledPatchMethod):
    """Remembers a coreset of healthy patch features; the map is the distance to the nearest of them.

    Attributes:
        bank: float32 (patches, dims).
        patches: how many there were (``found``), were extracted (``extracted``: all, or a part of ``max_patches``) and
            are remembered (``kept``).
    """

    card = MethodCard(
        name="patchcore",
        title="PatchCore",
        year=2022,
        family="features",
        citation="Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022",
        reference="doi:10.1109/CVPR52688.2022.01392",
        pretraining=IMAGENET,
        figures=(
            ("input", "224² cut from 256²", "224², masked, equalised"),
            same("network", "Wide-ResNet-50-2 layers 2–3, pooled, 1024 components"),
            (
                "loss",
                "none: greedy coreset of 10 % of all patches",
                "none: greedy coreset of 10 % of ≤ 400,000 organ patches",
            ),
            same("optimiser", "none"),
            same("length", "one pass"),
        ),
        notes="Wide-ResNet-50-2, coreset of 10 %. The slice score is the maximum of the map, without the paper's "
        "re-weighting by neighbours. Patches away from the organ are left out; of more than 400,000 "
        "a random part is taken, and the record says so. Without any slice seen the map is the "
        "norm of the features.",
    )
    Config = PatchCoreConfig
    tuned: ClassVar = {"ratio": (0.01, 0.25, "log"), "pool": [1, 3, 5], "sigma": (0.0, 6.0)}

    def build(self) -> None:
        """Create the backbone and a memory that holds nothing but the origin."""
        import torch

        super().build()
        self.bank = torch.zeros(1, self.config.dims)
        self.patches = {"found": 0, "extracted": 0, "kept": 0}

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Extract the patches of the organ, then keep a greedy coreset.

        Raises:
            DataError: the patches would need more memory than ``max_gib``; nothing has been extracted by then.
            TrainingError: no patch of the organ was met.
        """
        import torch

        from ..resident import sent
        from .parts.coreset import greedy_k_centre, random_projection

        c = self.config
        stack = healthy.array(self.view)
        wanted, found = self._choose(stack, ctx)
        memory = torch.empty((len(wanted), c.dims), device=ctx.device)
        ends = np.searchsorted(wanted, np.arange(0, len(stack) + c.batch, c.batch) * self.side**2)
        self.backbone.eval()

        def step(i: int) -> dict[str, float]:
            first, last = i * c.batch, min((i + 1) * c.batch, len(stack))
            if ends[i] < ends[i + 1]:
                with torch.no_grad(), autocast(ctx.device, ctx.precision):
                    embedded = self.embed(as_input(stack.take(range(first, last))[0], ctx.device))
                local = sent(wanted[ends[i] : ends[i + 1]] - first * self.side**2, ctx.device)
                memory[ends[i] : ends[i + 1]] = embedded.reshape(-1, c.dims)[local]
            return {"patches": float(ends[i + 1])}

        done = run_updates(ctx, math.ceil(len(stack) / c.batch), step)
        memory = memory[: ends[done]]
        if ctx.updates(1) == 0:
            return
        if len(memory) == 0:
            raise TrainingError(
                f"PatchCore: {done} steps over {len(stack)} slices met no patch of the organ (max_patches "
                f"{c.max_patches}); give healthy scans with a region of interest, or raise max_patches"
            )
        draws = torch.Generator().manual_seed(ctx.seed_for("coreset"))
        projected = random_projection(memory, c.projection, draws)
        first = int(torch.randint(len(memory), (), generator=draws))
        kept = max(1, round(c.ratio * len(memory)))
        self.bank = memory[greedy_k_centre(projected, kept, first)]
        self.patches = {"found": found, "extracted": len(memory), "kept": kept}

    def provenance(self) -> dict[str, str]:
        found, extracted, kept = (self.patches[part] for part in ("found", "extracted", "kept"))
        return {**super().provenance(), "patches": f"{extracted} of {found} extracted, {kept} kept"}

    def patch_scores(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the distances to the nearest remembered patch."""
        from .parts.coreset import nearest_distance

        return nearest_distance(vectors, self.bank.to(vectors.device))

    def _choose(self, stack: SliceStack, ctx: FitContext) -> tuple[np.ndarray, int]:
        """Return the patches to extract, ascending (slice · positions + position), and how many there are in all."""
        c = self.config
        per_slice = self.side**2
        found = [np.empty(0, np.int64)]
        for start in range(0, len(stack), c.batch):
            rois = stack.take(range(start, min(start + c.batch, len(stack))))[1]
            found.append(np.flatnonzero(self._cells(rois)) + start * per_slice)
        every = np.concatenate(found)
        wanted = every
        if len(every) > c.max_patches:
            wanted = np.sort(ctx.rng("patches").choice(every, c.max_patches, replace=False))
        need = memory_gib(len(wanted), c.dims, c.projection, c.ratio)
        if need > c.max_gib:
            raise DataError(
                f"PatchCore: {len(wanted)} patches of {c.dims} components need {need:.1f} GiB, max_gib is "
                f"{c.max_gib:g}; lower max_patches (now {c.max_patches}) or raise max_gib"
            )
        return wanted, len(every)


def memory_gib(patches: int, dims: int, projection: int, ratio: float) -> float:
    """Return the memory in GiB that fitting needs at its peak: patches, two copies of their projection, the coreset."""
    projected = min(projection, dims)
    return 4 * patches * (dims * (1 + ratio) + 2 * projected + 3) / 2**30
