"""The generator of synthetic tumours and the method that trains on them, with the traps of its paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.losses.dice import DiceCELoss
from scipy import ndimage
from scipy.interpolate import CubicSpline
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_stack import SliceRun
from uasbench.methods.context import FitContext
from uasbench.methods.early_stopping import held_out_patients
from uasbench.methods.pseudo_anomaly.parts.volume_crops import VolumeCrops, held_out_runs, slide
from uasbench.methods.pseudo_anomaly.synthetic_tumours import SyntheticTumours
from uasbench.methods.synthesis import tumours
from uasbench.methods.synthesis.lung_lesions import LesionRecipe
from uasbench.methods.synthesis.shift import ShiftedRegions
from uasbench.methods.synthesis.stretched_noise import ShapeConfig, StretchedNoise
from uasbench.methods.synthesis.tumours import (
    TumourGenerator,
    TumourRecipe,
    Tumours,
    draw_tumours,
    paint_tumours,
    random_centres,
)
from uasbench.methods.synthesis.volume_fields import Look, spline_basis

MM = (1.0, 1.0, 1.0)
TABLE = {  # radius, least and most, elastic sigma: Hu et al. 2023 at 1 mm
    "tiny": (4, (3, 10), (0.5, 1)),
    "small": (8, (3, 10), (1, 2)),
    "medium": (16, (2, 5), (3, 6)),
    "large": (32, (1, 3), (5, 10)),
}


def ball(side: int = 48, radius: float = 22) -> np.ndarray:
    z, y, x = np.mgrid[:side, :side, :side] - side / 2
    return z**2 + y**2 + x**2 < radius**2


def one(radii, centre, elastic: float = 0.0) -> Tumours:
    return Tumours(np.array([centre], np.int64), np.array([radii], float), np.array([elastic]))


@pytest.mark.parametrize("kind", [*TABLE, "mix"])
def test_sizes_numbers_and_deformations_follow_the_table(kind):
    rng, roi, seen = np.random.default_rng(0), ball(), set()
    for _ in range(60):
        drawn = draw_tumours(kind, roi, MM, rng)
        names = list(TABLE) if kind == "mix" else [kind]
        limits = {n: (5, 10) if kind == "mix" and n == "small" else TABLE[n][1] for n in names}
        assert sum(a for a, _ in limits.values()) <= len(drawn) <= sum(b for _, b in limits.values())
        seen.add(len(drawn))
        if kind != "mix":
            radius, _, elastic = TABLE[kind]
            assert 0.75 * radius <= drawn.radii.min() <= drawn.radii.max() <= 1.25 * radius
            assert elastic[0] <= drawn.elastic.min() <= drawn.elastic.max() <= elastic[1]
    if kind != "mix":
        least, most = TABLE[kind][1]
        assert seen == set(range(least, most + 1))


def test_centres_lie_deep_in_the_middle_of_the_organ():
    roi = ball()
    centres = random_centres(roi, MM, 400, np.random.default_rng(0))
    filled = np.flatnonzero(roi.any(axis=(1, 2)))
    extent = filled[-1] - filled[0]
    z = centres[:, 0] - filled[0]
    assert round(0.3 * extent) <= z.min() <= z.max() <= round(0.7 * extent)
    eroded = np.stack([ndimage.binary_erosion(plane, np.ones((5, 5))) for plane in roi])
    assert eroded[tuple(centres.T)].all()


@given(
    radii=st.tuples(*[st.floats(4, 12)] * 3),
    spacing=st.tuples(st.floats(0.8, 4), st.floats(0.8, 2), st.floats(0.8, 2)),
    origin=st.tuples(*[st.integers(-6, 6)] * 3),
)
def test_without_deformation_the_shape_is_an_ellipsoid_in_mm(radii, spacing, origin):
    shape, centre = (14, 26, 26), (7, 13, 13)
    painted = paint_tumours(one(radii, centre), np.array(origin), shape, spacing, np.random.default_rng(0))
    at = np.subtract(centre, origin)
    grid = np.moveaxis(np.indices(shape), 0, -1) - at
    distance = ((grid * np.array(spacing) / np.array(radii)) ** 2).sum(-1)
    assert (painted == (distance <= 1))[np.abs(distance - 1) > 1e-9].all()


def test_deformation_changes_the_shape_and_keeps_its_size_about():
    plain = paint_tumours(one((16,) * 3, (32,) * 3), np.zeros(3, int), (64,) * 3, MM, np.random.default_rng(0))
    volumes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        bent = paint_tumours(one((16,) * 3, (32,) * 3, 4.5), np.zeros(3, int), (64,) * 3, MM, rng)
        assert (bent != plain).any()
        assert ndimage.label(bent)[1] == 1
        volumes.append(bent.sum() / plain.sum())
    assert 0.6 < np.median(volumes) < 1.6


@pytest.mark.parametrize("points", [3, 7])
def test_control_points_are_joined_by_cubic_splines(points):
    values = np.random.default_rng(0).normal(size=points)
    shares = np.linspace(0, 1, 40)
    reference = CubicSpline(np.linspace(0, 1, points), values, bc_type="clamped")(shares)
    assert np.allclose(spline_basis(shares, points) @ values, reference)
    assert np.allclose(spline_basis(shares, points).sum(1), 1)
    beyond = np.array([-0.3, 1.4])  # mirrored
    assert np.allclose(spline_basis(beyond, points), spline_basis(np.array([0.3, 0.6]), points))


@pytest.mark.parametrize("sign", [-1, 1])
def test_tumours_change_the_organ_alone_by_their_sign(sign):
    rng, roi = np.random.default_rng(3), ball()
    image = np.where(roi, 50 + rng.normal(0, 5, roi.shape), -900).astype(np.float32)
    generator = TumourGenerator(TumourRecipe(sign=sign, probability=1, kinds=("small",)), rng)
    changed, mask = generator.place(image, roi, generator.draw(roi, MM), np.zeros(3, int), MM)
    assert mask.any()
    assert not (mask & ~roi).any()
    assert np.array_equal(changed[~roi], image[~roi])
    far = ~ndimage.binary_dilation(mask, iterations=9 * 2)
    assert np.array_equal(changed[far], image[far])
    assert ((changed - image) * sign >= 0).all()
    deep = ndimage.binary_erosion(mask, iterations=3)
    hu = (changed - image)[deep].mean() * sign
    assert 65 * 0.3 < hu < 145 * 0.8
    assert changed.dtype == np.float32


def test_the_map_of_probabilities_rises_by_a_fifth_above_its_lowest(monkeypatch):
    looks: list[Look] = []
    draw = tumours.filtered_salt
    monkeypatch.setattr(tumours, "filtered_salt", lambda look, *rest: looks.append(look) or draw(look, *rest))
    generator = TumourGenerator(TumourRecipe(), np.random.default_rng(0))
    for _ in range(40):
        generator._texture((6, 6, 6), MM)
    low, high = np.array([(look.a_low, look.a_high) for look in looks]).T
    assert 0.04 <= low.min() <= low.max() <= 0.06
    assert 0.19 <= (high - low).min() <= (high - low).max() <= 0.21
    assert 0.23 <= high.min() <= high.max() <= 0.27


def test_texture_is_brought_to_its_mean():
    generator = TumourGenerator(TumourRecipe(), np.random.default_rng(0))
    for _ in range(5):
        texture = generator._texture((32, 48, 48), MM)
        bright = texture[texture > np.median(texture) * 0.8]
        assert 0 <= texture.min() <= texture.max() <= 1
        assert 0.35 < bright.mean() < 0.75


def test_an_organ_too_thin_for_the_erosion_gets_no_tumour_and_a_crop_without_one_stays_as_it_is():
    thin = np.zeros((10, 20, 20), bool)
    thin[:, 8:11] = True
    for roi in (thin, np.zeros_like(thin)):
        assert len(draw_tumours("small", roi, MM, np.random.default_rng(0))) == 0
    generator = TumourGenerator(TumourRecipe(), np.random.default_rng(0))
    image, roi = np.full((8, 8, 8), 0.5, np.float32), np.ones((8, 8, 8), bool)
    changed, mask = generator.place(image, roi, one((4, 4, 4), (90, 90, 90)), np.zeros(3, int), MM)
    assert np.array_equal(changed, image)
    assert not mask.any()


def test_nine_organs_of_ten_get_tumours():
    generator = TumourGenerator(TumourRecipe(kinds=("large",)), np.random.default_rng(0))
    roi = ball()
    share = np.mean([len(generator.draw(roi, MM)) > 0 for _ in range(400)])
    assert 0.85 < share < 0.95


IMPOSSIBLE = {
    TumourRecipe: ({"kinds": ("huge",)}, {"kinds": ()}, {"sign": 0}),
    LesionRecipe: (
        {"a_gap": 0.3},
        {"radius_scale": 0.0},
        {"guard_share": 0.0},
        {"shapes": "round"},
        {"texture_extent": "x"},
    ),
    StretchedNoise: ({"ellipse": 4}, {"ellipse": 0}, {"frame": 40}),
    (lambda **values: ShiftedRegions(64, "cpu", 0, ShapeConfig(**values))): ({"min_shift": 120.0},),
}


@pytest.mark.parametrize(("recipe", "wrong"), [(r, w) for r, found in IMPOSSIBLE.items() for w in found])
def test_impossible_recipes_and_shifts_are_refused(recipe, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        recipe(**wrong)


SMALL = {"spacing": (2.5, 3.0, 3.0), "size": 24}


def test_schedule_and_loss_are_the_published_ones(make_method, healthy_volumes, rates):
    losses = []
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "lr": 4e-4, "updates": 4, "warmup": 2000})
    method.fit(healthy_volumes, FitContext(seed=0, on_log=lambda _, v: losses.append(v["dice + ce"])))
    assert rates == pytest.approx([2e-4, 4e-4, 4e-4, 2e-4])
    fresh = make_method(SyntheticTumours, "smoke", SMALL)
    _, images, masks = fresh.batch_source(
        VolumeCrops(healthy_volumes.volumes(fresh.view), fresh.config.crop), FitContext(0)
    )()
    reference = DiceCELoss(to_onehot_y=True, softmax=True)(fresh.net(images[:, None]), masks[:, None])
    assert losses[0] == pytest.approx(reference.item(), rel=1e-5)


@pytest.mark.parametrize(("anatomy", "sign"), [("liver", -1), ("lung", 1)])
def test_batches_show_tumours_of_the_right_sign_inside_the_organ(make_method, healthy_volumes, anatomy, sign):
    values = {**SMALL, "flip": 0.0, "rotate": 0.0, "intensity_p": 0.0, "window": (-200.0, 250.0), "batch": 8}
    method = make_method(SyntheticTumours, "smoke", values, anatomy)
    draw = method.batch_source(
        VolumeCrops(healthy_volumes.volumes(method.view), method.config.crop), FitContext(seed=1)
    )
    clean, images, masks = (part.numpy() for part in draw())
    assert clean.shape == images.shape == masks.shape == (8, 8, 16, 16)
    assert (images.dtype, masks.dtype) == (np.float32, bool)
    assert ((images - clean) * sign >= 0).all()
    assert (images[masks] != clean[masks]).mean() > 0.9
    assert ((images >= 0) & (images <= 1)).all()
    assert 0 < masks.mean() < 0.9
    assert not masks[clean == 0].any(), "a tumour outside the organ"


@pytest.mark.parametrize(("anatomy", "hu"), [("liver", 230.0), ("lung", -850.0)])
def test_tumours_come_before_the_clip_to_the_window(make_method, anatomy, hu):
    """Tissue beyond the window by less than the change shows in the lesion, at a difference that reaches the window."""
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "size": 32}, anatomy)
    low, high = method.config.window
    roi = np.ones((16, 16, 16), bool)
    stored = HealthySet.from_cases([Case("c", "p", np.full(roi.shape, hu, np.float32), (2.5, 3.0, 3.0), roi)])
    volume = stored.volumes(method.view)
    image = method.hounsfield(volume.image(0))[volume.roi(0)]
    assert np.allclose(image, hu, atol=0.01), "the view has clipped before the tumour came"
    outside = 1.0 if hu > high else 0.0
    assert (method.windowed(image, np.ones_like(image, bool)) == outside).all()
    sign = -1 if anatomy == "liver" else 1
    changed = method.windowed(image + sign * np.float32(max(method.config.difference)), np.ones_like(image, bool))
    assert np.allclose(changed, (hu + sign * max(method.config.difference) - low) / (high - low), atol=1e-3)


def test_half_of_the_crops_are_centred_in_the_organ_and_half_outside_it_in_its_box(toy_case, make_method):
    stack = HealthySet.from_cases([toy_case(0, slices=12)[0]]).volumes(
        make_method(SyntheticTumours, "smoke", SMALL).view
    )
    crops, rng = VolumeCrops(stack, (6, 8, 8)), np.random.default_rng(0)
    run, roi = stack.runs[0], stack.roi(0)
    for inside in (True, False):
        found = np.array([crops.centre(run, rng, inside=inside) for _ in range(200)]) + np.array([run.start, 0, 0])
        assert (roi[tuple(found.T)] == inside).all()
        where = np.argwhere(roi)
        assert ((found >= where.min(0)) & (found <= where.max(0))).all()
        assert len(np.unique(found, axis=0)) > 60


def test_flips_and_turns_keep_image_and_mask_together(make_method):
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "flip": 0.5, "rotate": 0.5, "intensity_p": 0.0})
    rng = np.random.default_rng(0)
    image = rng.random((4, 6, 6)).astype(np.float32)
    mask = image > 0.7
    moved = 0
    for _ in range(30):
        changed, where = method._change(image, np.ones_like(mask), mask, rng)
        assert np.array_equal(changed > 0.7, where)
        assert np.array_equal(np.sort(changed.ravel()), np.sort(image.ravel()))
        moved += not np.array_equal(changed, image)
    assert moved > 20


def test_grey_values_change_inside_the_organ_by_a_tenth_at_most(make_method):
    method = make_method(SyntheticTumours, "smoke", {**SMALL, "flip": 0.0, "rotate": 0.0, "intensity_p": 1.0})
    image, roi = np.full((4, 6, 6), 0.5, np.float32), np.zeros((4, 6, 6), bool)
    roi[:, :3] = True
    for seed in range(20):
        changed, _ = method._change(image, roi, roi, np.random.default_rng(seed))
        assert np.array_equal(changed[~roi], image[~roi])
        assert 0.5 * 0.9 - 0.1 <= changed[roi].min() <= changed[roi].max() <= 0.5 * 1.1 + 0.1


def test_crops_never_bridge_a_slice_that_was_taken_out(toy_case, make_method):
    case, _ = toy_case(0, slices=16)
    roi = case.roi.copy()
    roi[9:11] = False
    view = make_method(SyntheticTumours, "smoke", SMALL).view
    stack = HealthySet.from_cases([Case("c", "p", case.image, case.spacing, roi)]).volumes(view)
    crops = VolumeCrops(stack, (6, 8, 8))
    assert [(r.start, r.stop) for r in crops.runs] == [(0, 9), (11, 16)]
    rng = np.random.default_rng(0)
    for _ in range(30):
        run = crops.run_of(0, rng)
        centre = np.array([rng.integers(len(run)), rng.integers(24), rng.integers(24)])
        crop = crops.around(run, centre)
        stop = min(crop.origin[0] + 6, run.stop)
        assert run.start <= crop.origin[0]
        assert crop.image.shape == crop.roi.shape == (6, 8, 8)
        assert not crop.roi[stop - crop.origin[0] :].any()
        assert not crop.image[~crop.roi].any()
        full = np.zeros((6, 8, 8), bool)
        part = tuple(slice(a, a + n) for a, n in zip(crop.origin, (stop - crop.origin[0], 8, 8), strict=True))
        full[: stop - crop.origin[0]] = stack.roi(0)[part]
        assert np.array_equal(crop.roi, full)


def test_held_out_runs_share_no_patient_with_the_others():
    runs = [SliceRun(case, 0, 10) for case in range(10)]
    patients = [f"p{case // 2}" for case in range(10)]
    rest, held = held_out_runs(patients, runs, np.random.default_rng(0))
    assert len(rest) + len(held) == 10
    assert held
    assert not {patients[r.case] for r in rest} & {patients[r.case] for r in held}
    rest, held = held_out_runs(["p"], [SliceRun(0, 5, 15)], np.random.default_rng(0))
    assert (rest, held) == ([SliceRun(0, 5, 13)], [SliceRun(0, 13, 15)])
    rest, held = held_out_runs(["p", "p"], [SliceRun(0, 0, 4), SliceRun(1, 0, 4)], np.random.default_rng(0))
    assert (rest, held) == ([SliceRun(0, 0, 4)], [SliceRun(1, 0, 4)])


@pytest.mark.parametrize(("patients", "wanted"), [(1, 0), (2, 1), (7, 1), (8, 2), (20, 4)])
def test_a_fifth_of_the_patients_validates(patients, wanted):
    names = [f"p{i}" for i in range(patients)]
    held = held_out_patients(names * 2, np.random.default_rng(0))
    assert len(set(held)) == len(held) == wanted
    assert set(held) <= set(names)
    assert held == held_out_patients(reversed(names), np.random.default_rng(0))


def test_windows_cover_the_organ_and_leave_the_rest_at_zero():
    roi = np.zeros((9, 20, 20), bool)
    roi[2:7, 3:15, 4:16] = True
    volume = np.random.default_rng(0).random(roi.shape).astype(np.float32)
    map_ = slide(lambda x: x * 2, volume, roi, (4, 8, 8), overlap=0.5, device="cpu")
    assert np.allclose(map_[roi], 2 * volume[roi], atol=1e-5)
    assert not map_[~roi].any()
    assert not slide(lambda x: x, volume, np.zeros_like(roi), (4, 8, 8), overlap=0.5, device="cpu").any()


def test_training_works_in_bf16_on_the_cpu_too(train, healthy_volumes, toy_case):
    method, curve = train(SyntheticTumours, healthy_volumes, precision="bf16", limit=2, **SMALL)
    assert method.updates == 2
    assert np.isfinite([v["dice + ce"] for v in curve]).all()
    assert np.isfinite(method.score(toy_case(9, slices=12)[0])).all()


def test_preview_shows_healthy_crops_and_tumours(make_method, healthy_volumes):
    shown = make_method(SyntheticTumours, "smoke", SMALL).preview(healthy_volumes, FitContext(seed=0))
    assert list(shown) == ["healthy", "with synthetic tumours", "target"]
    assert all(p.shape == (2, 16, 16) for p in shown.values())
