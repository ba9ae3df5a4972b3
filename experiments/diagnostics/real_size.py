"""A rehearsal at the size of real scans: the liver phantom's, enlarged to 512 × 512 × 400 voxels.

``python -m uasbench.experiments.diagnostics.real_size ROOT`` writes twenty of them (7.8 GB) in the layouts of BTCV and
LiTS; ``bench run --data-root ROOT --dataset lits …`` then shows what disk, memory and time real scans will take. What
is found in them means nothing.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from ...datasets.phantom.disk import INFO, phantom_root

SHAPE = (512, 512, 400)
TRAINED_ON, TESTED_ON = 6, 14
NOISE_HU = 10.0


def write(root: Path, shape: tuple[int, int, int] = SHAPE) -> None:
    """Write the enlarged scans below ``root``; each keeps its extent in mm and gets noise of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        small = phantom_root(Path(scratch), anatomy="liver", seed=0, size="quick")
        scans = sorted(small.glob("btcv/RawData/Training/img/*"))[:TRAINED_ON]
        scans += [small / f"lits/Training Batch 1/volume-{number}.nii" for number in range(TESTED_ON)]
        for number, scan in enumerate(scans):
            labels = Path(str(scan).replace("/img/img", "/label/label").replace("volume-", "segmentation-"))
            for path, order in ((scan, 1), (labels, 0)):
                target = root / path.relative_to(small)
                target.parent.mkdir(parents=True, exist_ok=True)
                nib.save(_enlarged(nib.Nifti1Image.from_filename(path), shape, order, number), target)
        (root / INFO).write_bytes((small / INFO).read_bytes())


def _enlarged(image: nib.Nifti1Image, shape: tuple[int, int, int], order: int, seed: int) -> nib.Nifti1Image:
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
    given = parser.parse_args(arguments)
    given.root.mkdir(parents=True)
    write(given.root)


if __name__ == "__main__":
    main()
