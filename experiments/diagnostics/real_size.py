"""A rehearsal at the size of real scans: the liver phantom's, enlarged to 512 × 512 × 400 voxels.

``python -m uasbench.experiments.diagnostics.real_size ROOT`` writes twenty of them (7.8 GB) in the layouts of BTCV and
LiTS; ``bench run --data-root ROOT --dataset lits …`` then shows what disk, memory and time real scans will take. What
is found in them means nothing. Options give other numbers of scans, beyond the phantom's own the same with other noise,
and another shape: ``bench plan`` counts slices and voxels of organs.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from ...datasets.phantom.disk import INFO, phantom_root

SHAPE = (512, 512, 400)
SCANS = (6, 14)
NOISE_HU = 10.0


def write(root: Path, shape: Sequence[int] = SHAPE, scans: Sequence[int] = SCANS) -> None:
    """Write the enlarged scans below ``root``; each keeps its extent in mm and gets noise of its own.

    Args:
        shape: voxels (x, y, z).
        scans: how many to learn from and to test.
    """
    with tempfile.TemporaryDirectory() as scratch:
        small = phantom_root(Path(scratch), anatomy="liver", seed=0, size="quick")
        patterns = ("btcv/RawData/Training/img/*", "lits/Training Batch 1/volume-*")
        sources = [sorted(small.glob(pattern), key=_number) for pattern in patterns]
        taken = [
            (own[n % len(own)], n // len(own)) for own, count in zip(sources, scans, strict=True) for n in range(count)
        ]
        for seed, (scan, copy) in enumerate(taken):
            labels = Path(str(scan).replace("/img/img", "/label/label").replace("volume-", "segmentation-"))
            for path, order in ((scan, 1), (labels, 0)):
                target = root / path.relative_to(small).with_name(_numbered(path, copy))
                target.parent.mkdir(parents=True, exist_ok=True)
                nib.save(_enlarged(nib.Nifti1Image.from_filename(path), shape, order, seed), target)
        (root / INFO).write_bytes((small / INFO).read_bytes())


def _number(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[0])


def _numbered(path: Path, copy: int) -> str:
    """Return the name of a copied scan's file: its number is 100 higher for each copy."""
    return re.sub(r"\d+", f"{_number(path) + 100 * copy:04d}", path.name, count=1) if copy else path.name


def _enlarged(image: nib.Nifti1Image, shape: Sequence[int], order: int, seed: int) -> nib.Nifti1Image:
    values = np.asarray(image.dataobj)
    factors = np.array(shape) / values.shape
    zoomed = ndimage.zoom(values.astype(np.float32), factors, order=order, grid_mode=True, mode="nearest")
    large = np.asarray(zoomed, np.float32)
    if order:
        large += np.random.default_rng(seed).normal(0, NOISE_HU, shape).astype(np.float32)
    return nib.Nifti1Image(np.rint(large).astype(values.dtype), image.affine @ np.diag([*(1 / factors), 1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the scans to a new folder."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("root", type=Path, help="a new folder")
    parser.add_argument("--shape", nargs=3, type=int, default=SHAPE, help="voxels x y z")
    parser.add_argument("--scans", nargs=2, type=int, default=SCANS, help="how many to learn from and to test")
    given = parser.parse_args(arguments)
    given.root.mkdir(parents=True)
    write(given.root, given.shape, given.scans)


if __name__ == "__main__":
    main()
