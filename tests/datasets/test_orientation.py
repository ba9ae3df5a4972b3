import itertools

import numpy as np
import pytest
from uasbench.datasets.reading.orientation import flips_from_liver

FLIPS = [axes for n in range(4) for axes in itertools.combinations(range(3), n)]


@pytest.mark.parametrize("axes", FLIPS)
def test_every_flip_is_found(abdomen, axes):
    anatomy = flips_from_liver(np.flip(abdomen.image, axes), np.flip(abdomen.labels > 0, axes))
    assert anatomy.flipped == axes
    assert None not in (anatomy.x, anatomy.y, anatomy.z)


def test_nothing_is_claimed_without_evidence():
    image = np.full((5, 9, 9), 40.0)
    liver = np.zeros(image.shape, dtype=bool)
    liver[1:4, 3:6, 3:6] = True
    assert flips_from_liver(image, liver).flipped == ()
    for evidence in ((image, liver), (image, np.zeros_like(liver)), (np.full_like(image, -1000), liver)):
        assert flips_from_liver(*evidence).x is None


def test_a_thin_organ_survives_subsampling():
    image = np.full((3, 1800, 1800), 30, dtype=np.int16)
    liver = np.zeros(image.shape, dtype=bool)
    liver[1, 901, 101] = True
    assert flips_from_liver(image, liver).x is False


@pytest.mark.real_data
@pytest.mark.parametrize("axes", FLIPS)
def test_every_flip_of_real_scans_is_found(real_ct, axes):
    from uasbench.datasets.adapters.btcv import BTCV
    from uasbench.datasets.adapters.lits import LiTS

    for dataset in (LiTS(), BTCV()):
        for ref in dataset.discover(real_ct):
            case = dataset.load(ref.id)
            assert flips_from_liver(np.flip(case.image, axes), np.flip(case.roi, axes)).flipped == axes
