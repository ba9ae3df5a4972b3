"""The scans and the seeds that the conformance check relies on."""

import numpy as np
from uasbench.benchmark.conformance.phantom import SHAPE, healthy_cases, lesion_cases, tissue_of
from uasbench.benchmark.stages import drive


def test_the_tiny_scans_are_what_they_claim():
    for anatomy in ("liver", "lung", "kidney", "pancreas"):
        cases = [*healthy_cases(anatomy), *(c for c, _ in lesion_cases(anatomy))]
        tissue = tissue_of(anatomy)
        assert len({c.id for c in cases}) == len({c.patient for c in cases}) == 6
        for case in cases:
            assert case.image.shape == SHAPE
            assert case.image.dtype == np.float32
            assert case.roi.any(axis=(1, 2)).sum() >= 6
            assert abs(np.median(case.image[case.roi]) - tissue.organ) < tissue.noise
        for case, lesion in lesion_cases(anatomy):
            assert (lesion <= case.roi).all()
            assert 0.01 < lesion.sum() / case.roi.sum() < 0.2
        again = healthy_cases(anatomy)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(cases, again, strict=False))


def test_driving_seeds_before_construction(tiny_net):
    first, second, other = (
        drive.construct(tiny_net, tiny_net.Config(), seed=s, device="cpu").net[0].weight for s in (0, 0, 1)
    )
    assert (first == second).all()
    assert not (first == other).all()
