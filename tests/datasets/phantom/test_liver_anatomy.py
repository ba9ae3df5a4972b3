"""What a patient looks like: organs, vessels, tumours, noise, styles."""

import numpy as np
import pytest
from scipy import ndimage
from uasbench.datasets.phantom.fields import ct_noise, smooth_field, tissue_texture
from uasbench.datasets.phantom.liver import make_patient
from uasbench.datasets.phantom.liver_tumours import Strata
from uasbench.datasets.phantom.scanner import Scanner
from uasbench.datasets.phantom.shapes import Space, ellipsoid, intersection, occupancy, union
from uasbench.datasets.phantom.spec import read_spec
from uasbench.datasets.phantom.vessels import grow

LIVER, SPEC = 6, read_spec("liver")


@pytest.fixture(scope="module")
def quick():
    """One patient of every set at the size that tables use."""
    plan = SPEC.size("quick")
    return {
        "btcv": make_patient(SPEC, plan, 11, style="btcv"),
        "lits": make_patient(SPEC, plan, 12, style="lits", index=Strata(0.5, 0.7, 0.4, 0.9)),
    }


def test_healthy_patients_have_no_tumour_and_the_organs_of_btcv(quick):
    patient = quick["btcv"]
    assert (patient.tumour.any(), patient.lesions) == (False, [])
    assert set(np.unique(patient.labels)) == set(range(12))


def test_liver_lies_on_the_right_with_an_adult_volume_and_the_noise_of_its_scanner(quick):
    for patient in quick.values():
        liver = patient.labels == LIVER
        assert 700 < liver.sum() * np.prod(patient.spacing) / 1000 < 2500
        assert np.nonzero(liver)[2].mean() < liver.shape[2] / 2 - 5
        largest = ndimage.sum_labels(liver, *ndimage.label(liver)).max() if liver.any() else 0
        assert largest >= 0.5 * liver.sum()
        assert patient.noise[liver].std() == pytest.approx(patient.scanner.noise, rel=0.2)


def test_vessels_are_brighter_than_the_parenchyma(quick):
    for patient in quick.values():
        liver = (patient.labels == LIVER) & ~ndimage.binary_dilation(patient.tumour, iterations=3)
        inner = ndimage.binary_erosion(liver, iterations=2)
        branches = patient.vessels & inner
        away = inner & ~ndimage.binary_dilation(patient.vessels, iterations=3)
        assert branches.sum() > 50
        assert 12 < patient.hu[branches].mean() - patient.hu[away].mean() < 60


def test_lesions_lie_inside_the_liver(smoke_patients, quick):
    for patient in (*smoke_patients["btcv"], *smoke_patients["lits"], *quick.values()):
        assert not (patient.tumour & (patient.labels != LIVER)).any()
        assert patient.tumour.sum() == sum(lesion.voxels for lesion in patient.lesions)
        assert all(lesion.voxels > 0 for lesion in patient.lesions)
    assert all(patient.tumour.any() for patient in smoke_patients["lits"])


def test_most_lesions_are_darker_and_some_are_brighter():
    plan = SPEC.size("smoke")
    lesions = [
        lesion
        for seed, index in enumerate(Strata.strata(np.random.default_rng(0), 20))
        for lesion in make_patient(SPEC, plan, 1000 + seed, style="lits", index=index).lesions
    ]
    dark = [lesion for lesion in lesions if lesion.kind != "bright"]
    assert 0.75 < len(dark) / len(lesions) < 0.97
    assert all(-72 <= lesion.contrast_hu <= -40 for lesion in dark)
    assert all(30 <= lesion.contrast_hu <= 45 for lesion in lesions if lesion.kind == "bright")
    assert 0.08 < sum(lesion.kind == "rim" for lesion in dark) / len(dark) < 0.42
    assert np.mean([lesion.mean_contrast_hu for lesion in dark if lesion.kind == "dark"]) < -12


def test_measured_contrast_agrees_with_the_table(quick):
    patient = quick["lits"]
    weights = [lesion.voxels for lesion in patient.lesions]
    expected = np.average([lesion.mean_contrast_hu for lesion in patient.lesions], weights=weights)
    around = ndimage.binary_erosion(patient.labels == LIVER, iterations=2) & ~patient.vessels
    around &= ~ndimage.binary_dilation(patient.tumour, iterations=3)
    assert patient.hu[patient.tumour].mean() - patient.hu[around].mean() == pytest.approx(expected, abs=10)


def test_tumour_edges_are_soft(quick):
    """The rim inside the label is closer to the liver than the middle of the tumour."""
    patient = quick["lits"]
    inner = np.stack([ndimage.binary_erosion(plane, iterations=2) for plane in patient.tumour])
    edge = patient.tumour & np.stack([ndimage.binary_dilation(~plane) for plane in patient.tumour])
    outside = np.stack([ndimage.binary_dilation(plane) for plane in patient.tumour]) & ~patient.tumour
    outside &= ndimage.binary_erosion(patient.labels == LIVER, iterations=2)
    assert patient.hu[inner].mean() < patient.hu[edge].mean() < patient.hu[outside].mean()


def radial_spectrum(noise):
    """Mean power in 8 rings between zero and the Nyquist frequency."""
    n = noise.shape[-1]
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0)
    radius = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None]) * 2
    return np.array([power[(radius >= a / 8) & (radius < (a + 1) / 8)].mean() for a in range(8)])


@pytest.mark.parametrize("peak", [0.36, 0.48])
def test_noise_spectrum_is_a_band_with_little_power_at_both_ends(peak):
    noise = ct_noise(np.random.default_rng(0), (24, 96, 96), peak=peak, floor=0.1, z_correlation=0.2)
    rings = radial_spectrum(noise)
    best = int(rings.argmax())
    assert abs((best + 0.5) / 8 - peak) < 0.13
    assert max(rings[0], rings[7]) < 0.5 * rings[best]
    assert noise.std() == pytest.approx(1, abs=0.03)


def test_noise_is_correlated_between_neighbouring_slices_only():
    noise = ct_noise(np.random.default_rng(1), (40, 64, 64), peak=0.4, floor=0.1, z_correlation=0.2)
    next_slice = (noise[1:] * noise[:-1]).mean()
    assert next_slice == pytest.approx(2 * 0.2 / (1 + 2 * 0.2**2), abs=0.03)
    assert abs((noise[3:] * noise[:-3]).mean()) < 0.02


def test_the_two_styles_differ():
    drawn = {
        style: [Scanner.draw(SPEC, style, np.random.default_rng(seed), 128, 5.0) for seed in range(40)]
        for style in ("btcv", "lits")
    }
    for quantity in ("noise", "peak", "psf_pixels", "pixel", "enhancement"):
        a, b = ([getattr(scanner, quantity) for scanner in drawn[style]] for style in ("btcv", "lits"))
        assert abs(np.mean(a) - np.mean(b)) > 0.5 * np.std(a)
    assert {scanner.thickness for scanner in drawn["btcv"]} == {5.0}
    assert len({scanner.thickness for scanner in drawn["lits"]}) == 3
    assert len({scanner.orientation for scanner in drawn["lits"]}) == 3
    assert {scanner.slope for scanner in drawn["lits"]} == {1.0, 0.5}


def test_fields_have_the_promised_scale():
    rng = np.random.default_rng(0)
    axis = np.arange(96, dtype=np.float32)
    field = smooth_field(rng, (axis, axis, axis), 8.0)
    assert field.mean() == pytest.approx(0, abs=0.3)
    assert field.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(field, axis=2)).max() < 1
    texture = tissue_texture(rng, (20, 64, 64), (5.0, 2.8, 2.8), 5.0)
    assert texture.std() == pytest.approx(1, abs=0.05)
    assert texture.mean() == pytest.approx(0, abs=1e-3)


def test_ellipsoid_distances_are_exact_for_balls():
    axis = np.linspace(-20, 20, 41, dtype=np.float32)
    x, y, z = axis[None, None], axis[None, :, None], axis[:, None, None]
    distance = ellipsoid(x, y, z, (0, 0, 0), (8, 8, 8))
    assert np.allclose(distance, np.sqrt(x**2 + y**2 + z**2) - 8, atol=0.02)


def test_blends_only_add_near_the_seam():
    a, b = np.meshgrid(np.linspace(-30, 30, 61), np.linspace(-30, 30, 61))
    joined, cut = union(a, b, 10), intersection(a, b, 10)
    assert np.all(joined <= np.minimum(a, b) + 1e-6)
    assert np.all(cut >= np.maximum(a, b) - 1e-6)
    far = np.abs(a - b) >= 10
    assert np.allclose(joined[far], np.minimum(a, b)[far])
    assert np.allclose(cut[far], np.maximum(a, b)[far])
    assert occupancy(np.array([-9.0, 0.0, 9.0]), 2.0).tolist() == [1, 0.5, 0]


def test_vessel_radii_follow_murrays_law():
    rng = np.random.default_rng(0)
    ends = rng.uniform(-50, 50, (40, 3))
    tree = grow(rng, [(0, 0, -60), (0, 0, -50)], [(20, 0, -30)], ends, root_radius=6, leaf_radius=0.5, exponent=3.0)
    assert tree.radius[0] == pytest.approx(6)
    assert tree.radius.min() >= 0.5
    tips = {tuple(np.round(point, 6)) for point in tree.stop}
    assert all(tuple(np.round(end, 6)) in tips for end in ends)


def test_locate_inverts_the_deformation():
    axis = np.arange(-60, 60, 2, dtype=np.float32)
    grid = np.meshgrid(axis, axis, axis, indexing="ij")
    bent = tuple((part + 4 * np.sin(grid[2] / 40)).astype(np.float32) for part in grid)
    space = Space((axis, axis, axis), (bent[0], bent[1], bent[2]), 2.0)
    points = np.array([[10.0, -12.0, 20.0], [-30.0, 0.0, 5.0]])
    found = space.locate(points)
    assert np.allclose(found + 4 * np.sin(found[:, :1] / 40), points, atol=0.3)


def test_a_tumour_replaces_the_tissue_that_every_synthesis_keeps():
    """The same patient with and without tumours: shifted or darkened tissue would keep its vessels and its texture."""
    plan, tumours = SPEC.size("quick"), Strata(0.9, 0.9, 0.2, 0.9)
    sick, well = (make_patient(SPEC, plan, 21, style="lits", index=index) for index in (tumours, None))
    tissue = [patient.hu - patient.noise for patient in (sick, well)]
    away = (well.labels == LIVER) & ~ndimage.binary_dilation(sick.tumour, iterations=4)
    assert np.abs(tissue[0] - tissue[1])[away].max() <= 6  # a breath moves what is near
    inner = ndimage.binary_erosion(sick.tumour, np.ones((1, 3, 3)))
    assert inner.sum() > 100
    assert abs(np.corrcoef(tissue[0][inner], tissue[1][inner])[0, 1]) < 0.5
