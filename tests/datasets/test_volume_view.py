import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.datasets.case import Case
from uasbench.datasets.storing.prepared import read_view, view_key, write_view
from uasbench.datasets.views.slice_geometry import ViewError
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_geometry import geometry_from_json
from uasbench.datasets.views.volume_view import VolumeView, apply_view

WINDOW = (-800.0, 100.0)


def make_case(shape=(8, 40, 44), spacing=(2.0, 0.7, 0.7), seed=0, roi=None):
    rng = np.random.default_rng(seed)
    if roi is None:
        roi = np.zeros(shape, bool)
        roi[1 : max(2, shape[0] - 1), 5 : shape[1] - 8, 7 : shape[2] - 4] = True
    return Case("a", "p", rng.uniform(-1000, 300, shape).astype(np.float32), spacing, roi)


def windowed(image, window=WINDOW):
    return np.clip((image - np.float32(window[0])) / np.float32(window[1] - window[0]), 0, 1)


def box_of(mask):
    return [(int(where.min()), int(where.max()) + 1) for where in np.nonzero(mask)]


def random_case(shape, spacing, seed, density):
    roi = np.random.default_rng(seed).random(shape) < density
    roi[seed % shape[0], shape[1] // 2, shape[2] // 2] = True
    return make_case(shape, spacing, seed, roi)


step = st.sampled_from([0.3, 0.7, 0.8, 1.0, 1.7, 5.0])
steps = st.tuples(step, step, step)
cases = st.builds(
    random_case,
    st.tuples(st.integers(1, 6), st.integers(1, 30), st.integers(1, 30)),
    steps,
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.02, 0.4, 1.0]),
)
views = st.builds(
    VolumeView,
    size=st.integers(1, 40),
    spacing=steps,
    reduce=st.sampled_from([1, 1, 2, 3]),
    resample_z=st.booleans(),
    mask_roi=st.booleans(),
)
any_view = st.one_of(views, st.integers(1, 60).map(lambda size: View(size=size)))
both = pytest.mark.parametrize("view", [View(size=16), VolumeView(size=16)])


def area_mean(array, axis, geometry):
    """Mean over each viewed voxel along an axis of data that are constant inside native voxels."""
    grid = geometry.axes[axis]
    edges = np.clip(grid.origin + np.arange(grid.count + 1) * grid.ratio, *grid.data)
    total = np.concatenate([[0], np.cumsum(array)])
    return np.diff(np.interp(edges, np.arange(len(array) + 1), total)) / np.maximum(np.diff(edges), 1e-9)


class TestLook:
    def test_enlarging_equals_simpleitk(self):
        import SimpleITK as sitk

        case = make_case((8, 40, 44), (2.0, 0.9, 1.1))
        viewed = apply_view(case, VolumeView(size=72, mask_roi=False))
        source = sitk.GetImageFromArray(case.image)
        source.SetSpacing(case.spacing[::-1])
        grid, spacing = viewed.geometry.axes, viewed.geometry.spacing
        assert spacing == (1.0, 0.8, 0.8)
        origin = [float((a.centres[0] - 0.5) * s) for a, s in zip(grid, case.spacing, strict=True)]
        expected = sitk.GetArrayFromImage(
            sitk.Resample(source, viewed.image.shape[::-1], sitk.Transform(), sitk.sitkLinear, origin[::-1],
                          spacing[::-1], source.GetDirection(), WINDOW[0])
        )  # fmt: skip
        expected = windowed(expected)
        (z0, z1), *_ = viewed.geometry.box
        inner = [(a.centres >= low + 0.5) & (a.centres <= high - 0.5)
                 for a, (low, high) in zip(grid, [(z0, z1), (0, 40), (0, 44)], strict=True)]  # fmt: skip
        assert [int(i.sum()) for i in inner] == [10, 44, 60]
        np.testing.assert_allclose(viewed.image[np.ix_(*inner)], expected[np.ix_(*inner)], atol=2e-6)

    def test_shrinking_is_the_mean_by_area(self):
        case = make_case((9, 41, 44), (0.7, 0.33, 0.5))
        viewed = apply_view(case, VolumeView(size=16, spacing=(1.3, 1.0, 0.9), mask_roi=False))
        expected = case.image.astype(np.float64)
        for axis in (0, 1, 2):
            expected = np.apply_along_axis(area_mean, axis, expected, axis, viewed.geometry)
            if axis == 0:
                (z0, z1), *_ = viewed.geometry.box
                assert (z0, z1) == (1, 8)
        inner = np.ix_(range(len(expected)), *(np.flatnonzero(a.inside) for a in viewed.geometry.axes[1:]))
        np.testing.assert_allclose(viewed.image[inner], windowed(expected)[inner], atol=2e-6)
        assert not np.delete(viewed.image, np.flatnonzero(viewed.geometry.axes[1].inside), axis=1).any()

    def test_nothing_is_interpolated_where_spacings_agree(self):
        case = make_case((7, 41, 45), (1.0, 0.8, 0.8))
        case.roi[:, :20] = False
        viewed = apply_view(case, VolumeView(size=64))
        ys, xs = (int(-a.origin) for a in viewed.geometry.axes[1:])
        expected = np.zeros((5, 64, 64), np.float32)
        expected[:, max(ys, 0) : 41 + ys, xs : xs + 45] = (windowed(case.image) * case.roi)[1:6, max(-ys, 0) :]
        np.testing.assert_array_equal(viewed.image, expected)
        np.testing.assert_array_equal(viewed.support, viewed.roi)
        assert viewed.roi.sum() == case.roi.sum()
        map_ = np.random.default_rng(1).random(viewed.image.shape, np.float32)
        np.testing.assert_array_equal(viewed.to_native(map_)[case.roi], map_[viewed.roi])
        rounded = make_case((5, 30, 30), (1.00001, 0.8, 0.79999))
        assert apply_view(rounded, VolumeView(size=40)).geometry.spacing == rounded.spacing

    def test_the_border_of_the_region_does_not_fade(self):
        case = make_case()
        flat = replace(case, image=np.full(case.image.shape, -350, np.float32))
        viewed = apply_view(flat, VolumeView(size=48))
        np.testing.assert_allclose(viewed.image[viewed.roi], 0.5, atol=1e-6)
        assert not viewed.image[~viewed.roi].any()

    @pytest.mark.parametrize("spacing", [(1.0, 0.8, 0.8), (2.0, 0.35, 1.4)])
    def test_a_region_larger_than_the_grid_enlarges_the_spacing_just_enough(self, spacing):
        case = make_case((4, 90, 60), (2.0, 0.7, 0.7))
        viewed = apply_view(case, VolumeView(size=32, spacing=spacing))
        found = viewed.geometry.spacing
        assert found[0] == spacing[0]
        assert found[1] / found[2] == pytest.approx(spacing[1] / spacing[2])
        (y0, y1), (x0, x1) = box_of(viewed.roi)[1:]
        assert max(y1 - y0, x1 - x0) == 32
        assert max((90 - 13) * 0.7 / found[1], (60 - 11) * 0.7 / found[2]) == pytest.approx(32)

    def test_native_slices_are_kept_without_resampling_in_z(self):
        case = make_case((9, 30, 30), (5.0, 0.8, 0.8))
        case.roi[4] = False
        viewed = apply_view(case, VolumeView(size=40, resample_z=False))
        assert viewed.geometry.spacing == (5.0, 0.8, 0.8)
        assert viewed.geometry.slices == tuple(range(1, 8))
        assert viewed.roi.any(axis=(1, 2)).tolist() == [True, True, True, False, True, True, True]

    def test_half_precision_rounds_the_same_values(self):
        case = make_case()
        full, half = (apply_view(case, VolumeView(size=48, dtype=d)) for d in ("float32", "float16"))
        assert half.image.dtype == np.float16
        np.testing.assert_array_equal(half.image, full.image.astype(np.float16))

    @both
    def test_case_without_region_gives_no_slices(self, view):
        viewed = apply_view(make_case(roi=np.zeros((8, 40, 44), bool)), view)
        assert viewed.image.shape == (0, 16, 16)
        assert viewed.geometry.slices == ()
        assert not viewed.to_native(viewed.image).any()
        assert geometry_from_json(viewed.geometry.to_json()).view_shape == (0, 16, 16)

    def test_memory_is_that_of_the_result_and_a_few_planes(self):
        case = make_case((60, 128, 128), (1.0, 0.8, 0.8))
        apply_view(make_case(), VolumeView(size=128))
        tracemalloc.start()
        viewed = apply_view(case, VolumeView(size=128, spacing=(0.7, 0.9, 0.9)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        results = viewed.image.nbytes + viewed.roi.nbytes + viewed.support.nbytes
        assert peak < results + case.roi.nbytes + 12 * viewed.image[0].nbytes

    @given(cases, views)
    def test_a_reduced_pixel_is_the_mean_of_the_finer_grid_at_its_place(self, case, view):
        viewed = apply_view(case, view)
        fine = apply_view(case, replace(view, size=view.size * view.reduce, reduce=1))
        blocks = fine.image.reshape(-1, view.size, view.reduce, view.size, view.reduce)
        np.testing.assert_allclose(viewed.image, blocks.mean(axis=(2, 4)), atol=2e-6)
        for axis, finer in zip(viewed.geometry.axes[1:], fine.geometry.axes[1:], strict=True):
            assert axis.origin == pytest.approx(finer.origin)
            assert axis.ratio == pytest.approx(view.reduce * finer.ratio)
        assert viewed.geometry.slices == fine.geometry.slices

    def test_an_unmasked_view_maps_whole_slices_back_as_far_as_its_grid_reaches(self):
        case = make_case((6, 40, 44), (1.0, 0.8, 0.8))
        case.roi[:, :20] = False
        viewed = apply_view(case, VolumeView(size=36, mask_roi=False))
        native = viewed.to_native(viewed.image)
        _, (y0, y1), (x0, x1) = viewed.geometry.mapped
        assert (y1 - y0, x1 - x0) == (32, 36)
        np.testing.assert_allclose(native[1:5, y0:y1, x0:x1], windowed(case.image)[1:5, y0:y1, x0:x1], atol=1e-6)
        assert viewed.geometry.mask_to_native(np.ones(viewed.image.shape, bool)).sum() == 4 * 32 * 36

    @given(cases, views)
    def test_shape_bounds_and_place(self, case, view):
        before = case.image.copy()
        viewed = apply_view(case, view)
        geometry = viewed.geometry
        np.testing.assert_array_equal(case.image, before)
        assert viewed.image.shape == viewed.roi.shape == viewed.support.shape == geometry.view_shape
        assert viewed.image.shape[1:] == (view.size, view.size)
        assert 0 <= viewed.image.min() <= viewed.image.max() <= 1
        if view.mask_roi:
            shown = viewed.roi if view.reduce == 1 else geometry.mask_to_view(case.roi, "any")
            assert not viewed.image[~shown].any()
        assert not (viewed.roi & ~viewed.support).any()
        (z0, z1), *in_plane = box_of(case.roi)
        z, y, x = geometry.axes
        assert ((z.centres >= z0) & (z.centres <= z1)).all()
        assert (geometry.reads.min(), geometry.reads.max()) == (z0, z1)
        for axis, (start, stop) in zip((y, x), in_plane, strict=True):
            assert abs(axis.origin + axis.ratio * view.size / 2 - (start + stop) / 2) <= 0.5
            assert axis.origin <= start + 1e-6
            assert axis.origin + axis.ratio * view.size >= stop - 1e-6
        assert geometry_from_json(json.loads(json.dumps(geometry.to_json()))) == geometry

    @pytest.mark.parametrize(
        ("view", "message"),
        [
            (VolumeView(size=0), "size 0"),
            (VolumeView(reduce=0), "reduce 0"),
            (VolumeView(window=(100, 100)), "window"),
            (VolumeView(spacing=(1, 0, 1)), "positive"),
            (VolumeView(spacing=(1, float("nan"), 1)), "positive"),
            (VolumeView(dtype="uint8"), "float16"),  # pyright: ignore[reportArgumentType]
        ],
    )
    def test_impossible_views_are_refused(self, view, message):
        with pytest.raises(ViewError, match=message):
            apply_view(make_case(), view)
        with pytest.raises(ViewError, match="scan"):
            apply_view(make_case(spacing=(0.0, 0.8, 0.8)), VolumeView())


class TestBack:
    @given(cases, any_view, st.floats(-1e6, 1e6, width=32))
    def test_constant_stays_exactly_constant_and_support_is_all_that_is_read(self, case, view, value):
        viewed = apply_view(case, view)
        map_ = np.where(viewed.support, np.float32(value), np.float32(np.nan))
        native = viewed.to_native(map_)
        assert (native.dtype, native.shape) == (np.float32, case.image.shape)
        assert (native[case.roi] == np.float32(value)).all()
        full = np.random.default_rng(1).random(viewed.image.shape, np.float32)
        kept = np.where(viewed.support, full, 0)
        np.testing.assert_array_equal(viewed.to_native(full)[case.roi], viewed.to_native(kept)[case.roi])

    def test_equals_scipy(self):
        from scipy.ndimage import map_coordinates

        case = make_case((7, 40, 44), (2.0, 0.7, 0.9))
        viewed = apply_view(case, VolumeView(size=64))
        map_ = np.random.default_rng(1).random(viewed.image.shape)
        grid = [(np.arange(n) + 0.5 - a.origin) / a.ratio - 0.5
                for n, a in zip(case.image.shape, viewed.geometry.axes, strict=True)]  # fmt: skip
        expected = map_coordinates(map_, np.meshgrid(*grid, indexing="ij"), order=1, mode="nearest")
        np.testing.assert_allclose(viewed.to_native(map_)[case.roi], expected[case.roi], atol=1e-6)

    @given(cases, views)
    def test_mask_goes_back_by_nearest_voxel(self, case, view):
        geometry = apply_view(case, view).geometry
        mask = np.random.default_rng(1).random(geometry.view_shape) < 0.5
        native = geometry.mask_to_native(mask)
        assert (native.dtype, native.shape) == (bool, case.roi.shape)
        voxels = zip(geometry.axes, np.nonzero(case.roi), strict=True)
        distances = [np.abs(axis.centres[None] - (index[:, None] + 0.5)) for axis, index in voxels]
        reached = mask[tuple(d.argmin(axis=1) for d in distances)]
        tied = np.zeros(len(reached), bool)
        for d in distances:
            tied |= (d < d.min(axis=1, keepdims=True) + 1e-5).sum(axis=1) > 1
        np.testing.assert_array_equal(native[case.roi][~tied], reached[~tied])
        assert geometry.mask_to_native(np.ones(geometry.view_shape, bool))[case.roi].all()

    @both
    def test_a_wrong_shape_and_an_unknown_rule_are_refused(self, view):
        case = make_case()
        geometry = apply_view(case, view).geometry
        for back in (geometry.to_native, geometry.mask_to_native):
            with pytest.raises(ViewError, match="does not fit"):
                back(np.zeros((1, 16, 16), bool))
        with pytest.raises(ViewError, match="majority"):
            geometry.mask_to_view(case.roi, "majority")


class TestMasks:
    @given(cases, views)
    def test_any_covers_area_and_region(self, case, view):
        viewed = apply_view(case, view)
        any_, area = (viewed.geometry.mask_to_view(case.roi, how) for how in ("any", "area"))
        assert any_.any()
        assert not (area & ~any_).any()
        assert not (viewed.roi & ~any_).any()
        assert not (area & ~viewed.roi).any()
        np.testing.assert_array_equal(viewed.geometry.view_roi(case.roi), viewed.roi)

    def test_area_is_half_of_the_voxel(self):
        case = make_case((6, 40, 40), (1.0, 0.8, 0.8), roi=np.ones((6, 40, 40), bool))
        geometry = apply_view(case, VolumeView(size=20, spacing=(2.0, 1.6, 1.6))).geometry
        mask = np.random.default_rng(0).random(case.roi.shape) < 0.5
        share = mask.reshape(3, 2, 20, 2, 20, 2).mean(axis=(1, 3, 5))
        np.testing.assert_array_equal(geometry.mask_to_view(mask, "area"), share >= 0.5)
        np.testing.assert_array_equal(geometry.mask_to_view(mask, "any"), share > 0)

    def test_nearest_reads_the_voxel_at_the_centre(self):
        case = make_case((6, 40, 40), (1.0, 0.8, 0.8))
        geometry = apply_view(case, VolumeView(size=80, spacing=(0.5, 0.4, 0.4))).geometry
        mask = np.random.default_rng(0).random(case.roi.shape) < 0.5
        found = geometry.mask_to_view(mask, "nearest")
        z, y, x = (np.floor(axis.centres).astype(int) for axis in geometry.axes)
        inside = ((y >= 0) & (y < 40))[:, None] & ((x >= 0) & (x < 40))
        expected = mask[np.ix_(z, y.clip(0, 39), x.clip(0, 39))] & inside
        np.testing.assert_array_equal(found, expected)

    def test_thin_regions_keep_their_slices(self):
        roi = np.zeros((6, 40, 40), bool)
        roi[1:5, 20, 20] = True
        viewed = apply_view(make_case(roi=roi, shape=roi.shape), VolumeView(size=16, spacing=(2.0, 3.0, 3.0)))
        assert viewed.roi.any(axis=(1, 2)).all()


class TestStored:
    def test_slices_written_without_a_kind_are_read(self, tmp_path):
        viewed = apply_view(make_case(), View(size=16))
        assert "kind" not in viewed.geometry.to_json()
        write_view(tmp_path / "a", viewed)
        assert read_view(tmp_path / "a").geometry == viewed.geometry
        assert geometry_from_json(json.loads(json.dumps(viewed.geometry.to_json()))) == viewed.geometry

    def test_address_depends_on_every_field(self):
        others = [
            VolumeView(size=256),
            VolumeView(spacing=(1.0, 0.8, 0.81)),
            VolumeView(resample_z=False),
            VolumeView(reduce=2),
            VolumeView(window=(-800, 101)),
            VolumeView(mask_roi=False),
            VolumeView(dtype="float16"),
            View(size=512, window=WINDOW),
        ]
        assert len({view_key("f", view) for view in (VolumeView(), *others)}) == 9
        assert view_key("f", VolumeView(spacing=(1, 0.8, 0.8), window=(-800, 100))) == view_key("f", VolumeView())
