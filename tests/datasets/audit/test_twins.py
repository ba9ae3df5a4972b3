"""A body is known again in copies that were cut, turned, resampled or averaged, and nobody else is taken for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.benchmark.catalogue.registry import datasets
from uasbench.datasets.audit.marks import marks, shared
from uasbench.datasets.audit.spectra import comparable, likeness, mirrored, spectra
from uasbench.datasets.audit.twins import Signature, find_twins, sign
from uasbench.datasets.looking import look
from uasbench.datasets.reading.listening import loaded

SPACING = (2.0, 1.5, 1.5)


def body(seed):
    """Return an image in HU (24, 160, 180) with organs of its own, and the noise of CT."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:24, :160, :180]
    image = np.where(((y - 80) / 65) ** 2 + ((x - 90) / 80) ** 2 < 1, 40.0, -1000.0)
    for _ in range(30):
        centre, radius = rng.uniform((0, 30, 30), (24, 130, 150)), rng.uniform(4, 18)
        ball = ((z - centre[0]) * 1.5) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
        image[ball] = rng.uniform(-120, 250)
    return np.rint(ndimage.gaussian_filter(image, (0, 0.7, 0.7)) + rng.normal(0, 12, image.shape)).astype(np.float32)


BODY, OTHERS = body(0), [body(seed) for seed in range(1, 6)]
MARKS = marks(BODY)


def of(image, spacing=SPACING):
    return Signature(marks(image), spectra(image, spacing))


def pairs(*signatures):
    named = {("set", str(number)): signature for number, signature in enumerate(signatures)}
    return [(pair.a[1], pair.b[1]) for pair in find_twins(named)]


@settings(max_examples=10)
@given(st.integers(0, 4), st.integers(0, 50), st.integers(0, 40), st.sets(st.sampled_from((0, 1, 2))), st.booleans())
def test_marks_are_those_of_the_whole_in_any_cut_flip_and_order(z, y, x, flipped, transposed):
    cut = np.flip(BODY[z : z + 18, y : y + 100, x : x + 120], tuple(flipped))
    cut = cut.transpose(0, 2, 1) if transposed else cut
    found = marks(np.ascontiguousarray(cut))
    assert len(found) > 20
    assert shared(MARKS, found) == (len(found), 1.0)


def test_other_bodies_flat_images_and_changed_voxels_share_no_mark():
    assert all(shared(MARKS, marks(other))[0] <= 1 for other in OTHERS)
    assert len(marks(np.zeros((3, 40, 40), np.float32))) == 0
    assert len(marks(np.zeros((3, 4, 4), np.float32))) == 0
    assert shared(MARKS, marks(BODY + 1))[0] <= 1
    assert shared(MARKS, np.empty(0, np.uint64)) == (0, 0.0)


def resampled(image):
    return ndimage.zoom(image, (2 / 3, 0.6, 0.6), order=1), (3.0, 2.5, 2.5)


COPIES = {
    "resampled": resampled(BODY),
    "resampled and flipped": (resampled(BODY)[0][:, :, ::-1], resampled(BODY)[1]),
    "resampled, head and feet exchanged": (resampled(BODY)[0][::-1], resampled(BODY)[1]),
    "averaged": (BODY.reshape(24, 80, 2, 90, 2).mean(axis=(2, 4)), (2.0, 3.0, 3.0)),
    "moved": (np.roll(BODY, (11, -7), axis=(1, 2)) + 3, SPACING),
    "windowed": (np.clip(BODY, -160, 240) + 0.5, SPACING),
    "half of it": (BODY[6:20] + 1, SPACING),
    "a wrong spacing": (BODY, (5.0, 0.7, 0.7)),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_among_others(copy):
    strangers = [of(other) for other in OTHERS]
    assert pairs(of(BODY), *strangers, of(*COPIES[copy])) == [("0", "6")]


def test_nobody_is_alone_a_twin():
    assert pairs() == pairs(of(BODY)) == []
    assert pairs(*map(of, OTHERS)) == []


def test_mirrored_rows_are_those_of_a_mirrored_image():
    spacing = (3.0, 2.0, 2.0)  # whole pixels of 4 mm, the same ones from either side
    ours, flipped = spectra(BODY, spacing), spectra(np.ascontiguousarray(BODY[:, :, ::-1]), spacing)
    assert np.allclose(mirrored(ours), flipped, atol=0.05)
    assert np.array_equal(mirrored(mirrored(ours)), ours)
    a, b, _ = comparable([ours, flipped, spectra(OTHERS[0], spacing)])
    assert likeness(a, mirrored(a), b) > 0.95


@pytest.mark.real_data
def test_a_patient_of_two_sets_whose_slices_do_not_agree_is_found(real_ct, real_ct_2):
    signatures = {}
    for root, name in ((real_ct, "btcv"), (real_ct_2, "chaos"), (real_ct, "lits"), (real_ct, "luna16")):
        found = look(datasets().get(name)(), root)
        signatures |= {(name, ref.id): sign(loaded(found.dataset, ref.id)) for ref in found.refs}
    named = {(pair.a, pair.b) for pair in find_twins(signatures)}
    assert named == {(("btcv", "img0001"), ("chaos", "chaos_1")), (("lits", "volume-0"), ("lits", "volume-1"))}
