"""Can the networks of two-stage learn the liver phantom's tumours at all, when they are trained on nothing else?

``python -m uasbench.experiments.diagnostics.own_lesions --phantom-seed 30 --out maps`` makes the patients of another
seed twice, with tumours and without, which is what the method's synthesis imitates: a slice, the same slice healthy,
and the lesion's mask. It trains both networks on these pairs instead, and writes the maps of the phantom's test
patients for ``bench import maps``, which measures them. It is no method: it has seen lesions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...benchmark.catalogue import registry
from ...benchmark.locations import cache_root
from ...common.seeds import derive
from ...datasets.case import Case
from ...datasets.healthy import HealthySet
from ...datasets.phantom import liver
from ...datasets.phantom.disk import phantom_root
from ...datasets.phantom.liver_anatomy import LABELS
from ...datasets.phantom.liver_tumours import Strata
from ...datasets.views.volume_view import apply_view
from ...methods.config import resolve
from ...methods.context import FitContext
from ...methods.pseudo_anomaly.two_stage import TwoStage
from ...methods.training import batches

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import SliceStack
    from ...methods.pseudo_anomaly.parts.augmented_slices import NextBatch


def pairs(seed: int, size: str) -> list[tuple[Case, Case, np.ndarray]]:
    """Return the training patients of a seed, each without tumours, with tumours, and their mask."""
    spec = liver.specification()
    plan = spec.size(size)
    bearers = Strata.deal(
        np.random.default_rng(derive(seed, "own lesions")), replace(plan, lesion=plan.healthy, free=0)
    )
    found = []
    for number, index in enumerate(bearers):
        own = derive(seed, "own lesions", number)
        clean, ill = (liver.make_patient(spec, plan, own, style="btcv", index=i) for i in (None, index))
        roi = ill.labels == LABELS["liver"]
        cases = (Case(str(number), str(number), p.hu.astype(np.float32), p.spacing, roi) for p in (clean, ill))
        found.append((*cases, ill.tumour & roi))
    return found


class OwnLesions(TwoStage):
    """Both networks of two-stage on pairs of the phantom."""

    def read(self, made: list[tuple[Case, Case, np.ndarray]]) -> None:
        """Keep the slices of the pairs: clean and ill, uint8, and masks, all (n, H, W)."""
        clean = [apply_view(case, self.view) for case, _, _ in made]
        ill = [apply_view(case, self.view) for _, case, _ in made]
        self.clean = np.concatenate([v.image for v in clean])
        self.ill = np.concatenate([v.image for v in ill])
        self.masks = np.concatenate([v.geometry.mask_to_view(m) for v, (_, _, m) in zip(ill, made, strict=True)])

    def batch_source(self, stack: SliceStack, ctx: FitContext, phase: str, rotate_p: float = 0.0) -> NextBatch:
        """Return what yields pairs instead of synthetic lesions."""
        import torch

        order = batches(ctx, len(self.clean), self.config.batch, "order", phase)

        def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            at = next(order)
            clean, ill = (torch.from_numpy(a[at]).float()[:, None] / 255 for a in (self.clean, self.ill))
            return clean, ill, torch.from_numpy(self.masks[at])

        return draw


def main() -> None:
    """Train on the pairs and write the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantom-seed", type=int, required=True)
    parser.add_argument("--size", default="standard")
    parser.add_argument("--out", type=Path, required=True, help="folder for one NIfTI file per test patient")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of two-stage")
    options = parser.parse_args()

    import nibabel as nib
    import torch

    torch.set_num_threads(1)
    settings = dict(item.split("=", 1) for item in options.set)
    method = OwnLesions(resolve(TwoStage.Config, "standard", "liver", settings))
    torch.manual_seed(0)
    method.build()
    made = pairs(options.phantom_seed + 1000, options.size)
    method.read(made)
    method.fit(HealthySet.from_cases([clean for clean, _, _ in made]), FitContext(seed=0))
    options.out.mkdir(parents=True, exist_ok=True)
    root = phantom_root(cache_root() / "phantom", anatomy="liver", seed=options.phantom_seed, size=options.size)
    tests = registry.datasets().get("lits")()
    for found in tests.discover(root):
        case = tests.load(found.id)
        viewed = apply_view(case, method.view)
        native = viewed.to_native(method.score_view(viewed.image, viewed.roi, case.spacing))
        affine = np.diag([*(-s for s in case.spacing[:0:-1]), case.spacing[0], 1.0])
        nib.Nifti1Image(native.transpose(2, 1, 0), affine).to_filename(options.out / f"{found.id}.nii.gz")
        print(found.id, flush=True)


if __name__ == "__main__":
    main()
