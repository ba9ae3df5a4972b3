import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.datasets.case import Case
from uasbench.datasets.views.slice_geometry import Geometry, ViewError
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_geometry import geometry_from_json
from uasbench.datasets.views.volume_view import apply_view

SPACING = (2.5, 0.8, 0.8)


def make_case(shape=(5, 40, 40), seed=0, roi=None):
    rng = np.random.default_rng(seed)
    image = rng.normal(50, 90, shape).astype(np.float32)
    if roi is None:
        roi = np.zeros(shape, bool)
        roi[1 : shape[0] - 1, 5 : shape[1] - 8, 7 : shape[2] - 4] = True
    return Case("a", "p", image, SPACING, roi)


cases = st.builds(
    lambda shape, seed, density: make_case(
        shape, seed, np.random.default_rng(seed).random(shape) < density * (np.arange(shape[0]) % 2)[:, None, None]
    ),
    st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 1000),
    st.sampled_from([0.002, 0.1, 0.9]),
)


class TestLook:
    @pytest.mark.parametrize("size", [20, 40, 64])
    @pytest.mark.parametrize("mask_roi", [True, False])
    def test_equals_torch(self, size, mask_roi):
        import torch
        from torch.nn.functional import interpolate, pad

        case = make_case((4, 30, 40))
        viewed = apply_view(case, View(size=size, mask_roi=mask_roi))
        scaled = np.clip((case.image + 200) / 450, 0, 1)
        padded = pad(torch.from_numpy(scaled * case.roi if mask_roi else scaled), (0, 0, 5, 5))
        mode = {"mode": "area"} if size < 40 else {"mode": "bilinear", "align_corners": False}
        expected = interpolate(padded[:, None], size=(size, size), **mode)[:, 0].numpy()
        np.testing.assert_allclose(viewed.image, expected[list(viewed.geometry.slices)], atol=2e-6)

    def test_bytes_round_to_nearest(self):
        case = make_case()
        floats, whole = (apply_view(case, View(size=24, dtype=d)).image for d in ("float32", "uint8"))
        assert whole.dtype == np.uint8
        assert np.abs(whole - 255 * floats).max() <= 0.5 + 1e-4

    def test_masked_slices_are_zero_outside_and_slices_without_roi_are_dropped(self):
        case = make_case((6, 32, 32))
        viewed = apply_view(case, View(size=32))
        assert viewed.geometry.slices == (1, 2, 3, 4)
        assert viewed.image.shape == viewed.roi.shape == viewed.support.shape == (4, 32, 32)
        assert not viewed.image[~viewed.roi].any()
        np.testing.assert_array_equal(viewed.roi, case.roi[1:5])

    def test_other_voxels_change_nothing_under_a_mask_or_a_fixed_window_but_a_slice_stretch(self):
        case = make_case()
        other = Case("a", "p", np.where(case.roi, case.image, 999).astype(np.float32), SPACING, case.roi)
        view = View(size=20, equalise=True)
        np.testing.assert_array_equal(apply_view(case, view).image, apply_view(other, view).image)
        bright = case.image.copy()
        bright[2, 0, 0] = 3000
        other = Case("b", "p", bright, SPACING, case.roi)
        fixed, stretched = View(size=40), View(size=40, grey="slice", window=None)
        np.testing.assert_array_equal(apply_view(case, fixed).image, apply_view(other, fixed).image)
        assert apply_view(other, stretched).image[1].mean() < 0.5 * apply_view(case, stretched).image[1].mean()

    def test_slice_stretch_is_eight_bit_over_the_full_slice_and_clips_to_a_window_first(self):
        case = make_case()
        image = apply_view(case, View(size=40, grey="slice", window=None, mask_roi=False, dtype="uint8")).image
        plane = case.image[1]
        x = (plane - plane.min()) / (plane.max() - plane.min())
        assert (np.abs(image[0].astype(int) - np.minimum(np.floor(256 * x), 255)) <= 1).all()
        assert (image[0].min(), image[0].max()) == (0, 255)
        view = View(size=40, grey="slice", window=(0, 100), mask_roi=False)
        clipped = Case("a", "p", np.clip(case.image, 0, 100), SPACING, case.roi)
        np.testing.assert_array_equal(apply_view(case, view).image, apply_view(clipped, view).image)

    @pytest.mark.parametrize("hu", [-1000.0, -200.0, 30.0, 4000.0])
    @pytest.mark.parametrize("view", [View(size=16, equalise=True), View(size=16, grey="slice", equalise=True)])
    def test_constant_slices(self, hu, view):
        roi = np.ones((2, 20, 20), bool)
        image = apply_view(Case("a", "p", np.full(roi.shape, hu, np.float32), SPACING, roi), view).image
        assert np.isin(image, [0, 1]).all()

    def test_equalising_without_masking_leaves_the_outside_alone(self):
        case = make_case()
        plain, equalised = (
            apply_view(case, View(size=40, mask_roi=False, dtype="uint8", equalise=e)).image for e in (False, True)
        )
        outside = ~case.roi[1:4]
        np.testing.assert_array_equal(plain[outside], equalised[outside])
        assert (plain[~outside] != equalised[~outside]).any()

    def test_cubic_stays_in_range(self):
        image = apply_view(make_case(), View(size=23, resize="cubic")).image
        assert 0 <= image.min() <= image.max() <= 1

    def test_cropping_in_z_is_the_same_as_choosing_slices(self):
        case = make_case((8, 30, 30))
        view = View(size=16, equalise=True)
        np.testing.assert_array_equal(apply_view(case.crop_z(3, 6), view).image, apply_view(case, view).image[2:5])

    @given(cases)
    def test_image_is_not_changed_and_no_viewed_slice_has_an_empty_roi(self, case):
        before = case.image.copy()
        viewed = apply_view(case, View(size=9, equalise=True))
        np.testing.assert_array_equal(case.image, before)
        assert viewed.roi.any(axis=(1, 2)).all()
        assert not (viewed.roi & ~viewed.support).any()

    @pytest.mark.parametrize(
        "view",
        [
            View(size=0),
            View(field_of_view=0),
            View(window=None),
            View(window=(100, 100)),
            View(window=(0, -1), grey="slice"),
        ],
    )
    def test_impossible_views_are_refused(self, view):
        with pytest.raises(ViewError):
            apply_view(make_case(), view)


class TestBack:
    @given(cases)
    def test_identity_at_equal_size(self, case):
        side = max(case.image.shape[1:])
        viewed = apply_view(case, View(size=side))
        rows, columns = (slice(a, a + n) for a, n in zip(viewed.geometry.padding, case.image.shape[1:], strict=True))
        square = Geometry((case.image.shape[0], side, side), viewed.geometry.slices, side)
        map_ = np.random.default_rng(1).random(viewed.image.shape, np.float32)
        np.testing.assert_array_equal(square.to_native(map_)[list(square.slices)], map_)
        np.testing.assert_array_equal(viewed.to_native(map_)[list(square.slices)], map_[:, rows, columns])
        np.testing.assert_array_equal(viewed.support[:, rows, columns], case.roi[list(square.slices)])

    def test_slices_go_back_to_where_they_came_from(self):
        roi = np.zeros((9, 20, 30), bool)
        roi[[1, 4, 7], 5:15, 5:15] = True
        viewed = apply_view(make_case(roi.shape, roi=roi), View(size=16))
        native = viewed.to_native(np.array([1, 2, 3], np.float32)[:, None, None] * np.ones((3, 16, 16), np.float32))
        np.testing.assert_array_equal(native.max(axis=(1, 2)), [0, 1, 0, 0, 2, 0, 0, 3, 0])

    def test_position_survives_the_round_trip(self):
        image = np.zeros((1, 96, 128), np.float32)
        image[0, 24, 100] = 1000
        case = Case("a", "p", image, SPACING, np.ones(image.shape, bool))
        viewed = apply_view(case, View(size=64, window=(0, 1000), mask_roi=False))
        native = viewed.to_native(viewed.image)[0]
        weights = native / native.sum()
        y, x = (weights * np.arange(96)[:, None]).sum(), (weights * np.arange(128)).sum()
        assert (y, x) == pytest.approx((24, 100), abs=1)


class TestFieldOfView:
    @given(cases, st.floats(0.5, 60), st.integers(1, 50))
    def test_equals_the_view_of_a_case_cut_to_that_square(self, case, millimetres, size):
        viewed = apply_view(case, View(size=size, field_of_view=millimetres))
        if not case.roi.any():
            assert viewed.image.shape == (0, size, size)
            return
        _, in_y, in_x = (np.flatnonzero(case.roi.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        side = max(round(millimetres / 0.8), np.ptp(in_y) + 1, np.ptp(in_x) + 1)
        top, left, found = viewed.geometry.square
        assert found == side
        for start, index in ((top, in_y), (left, in_x)):  # the organ is in the middle, but for half a pixel
            before, after = index[0] - start, start + side - 1 - index[-1]
            assert min(before, after) >= 0
            assert abs(before - after) <= 1
        wide = [(0, 0), (100, 100), (100, 100)]
        part = np.s_[:, 100 + top : 100 + top + side, 100 + left : 100 + left + side]
        cut = Case("a", "p", np.pad(case.image, wide)[part], SPACING, np.pad(case.roi, wide)[part])
        expected = apply_view(cut, View(size=size))
        np.testing.assert_array_equal(viewed.image, expected.image)
        np.testing.assert_array_equal(viewed.roi, expected.roi)
        np.testing.assert_array_equal(viewed.support, expected.support)
        map_ = np.random.default_rng(1).random(viewed.image.shape, np.float32)
        native = np.pad(viewed.to_native(map_), wide)[part]
        np.testing.assert_array_equal(native[cut.roi], expected.to_native(map_)[cut.roi])
        mask = map_ < 0.5
        back = np.pad(viewed.geometry.mask_to_native(mask), wide)[part]
        np.testing.assert_array_equal(back[cut.roi], expected.geometry.mask_to_native(mask)[cut.roi])
        for rule in ("nearest", "any", "area", "cubic>0.1"):
            there = viewed.geometry.mask_to_view(case.roi, rule)
            np.testing.assert_array_equal(there, expected.geometry.mask_to_view(cut.roi, rule))

    def test_survives_the_record(self):
        geometry = apply_view(make_case(), View(size=20, field_of_view=30)).geometry
        assert geometry_from_json(json.loads(json.dumps(geometry.to_json()))) == geometry


class TestMasks:
    def test_papers_truth_rule_equals_pillow_and_grows_small_lesions(self):
        import PIL.Image as image_module

        mask = np.zeros((1, 512, 512), bool)
        mask[0, 201:204, 100:103] = True
        mask[0, 300:333, 280:310] = True
        geometry = Geometry((1, 512, 512), (0,), 256)
        byte = image_module.fromarray(mask[0].astype(np.uint8) * 255)
        expected = np.asarray(byte.resize((256, 256), image_module.Resampling.BICUBIC)) / 255 > 0.1
        found = geometry.mask_to_view(mask, "cubic>0.1")
        assert (found[0] != expected).mean() < 1e-4
        nearest = geometry.mask_to_view(mask, "nearest")
        assert found[0, :140].sum() > nearest[0, :140].sum()
        np.testing.assert_array_equal(nearest[0], mask[0, 1::2, 1::2])

    @given(cases, st.integers(1, 60))
    def test_any_covers_area_and_loses_no_slice(self, case, size):
        geometry = apply_view(case, View(size=size)).geometry
        any_, area = geometry.mask_to_view(case.roi, "any"), geometry.mask_to_view(case.roi, "area")
        assert any_.any(axis=(1, 2)).all()
        if size <= geometry.side:
            assert not (area & ~any_).any()

    def test_padding_is_outside_every_mask(self):
        mask = np.ones((1, 20, 40), bool)
        geometry = Geometry(mask.shape, (0,), 20)
        for rule in ("nearest", "any", "area", "cubic>0.1"):
            inside = geometry.mask_to_view(mask, rule)[0]
            assert inside[5:15].all(), rule
            assert not inside[[0, 1, 2, 3, -1, -2, -3, -4]].any(), rule
