import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from uasbench.benchmark.runs.map_store import MapError, read_map, read_mask, write_map, write_mask
from uasbench.datasets.case import Case
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import apply_view

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
in_tmp_path = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture
def viewed():
    rng = np.random.default_rng(0)
    roi = np.zeros((6, 40, 50), bool)
    roi[1:4, 8:30, 10:33] = rng.random((3, 22, 23)) < 0.8
    return apply_view(
        Case("a", "a", rng.normal(0, 99, roi.shape).astype(np.float32), (2, 1, 1), roi), View(size=32)
    ), roi


@in_tmp_path
@given(data=st.data())
def test_values_come_back_bit_by_bit(tmp_path, data):
    map_ = data.draw(arrays(np.float32, (3, 4, 5), elements=FLOATS))
    support = data.draw(arrays(bool, (3, 4, 5)))
    write_map(tmp_path / "a.map", map_, None, support)
    stored = read_map(tmp_path / "a.map")
    assert stored.values.view(np.uint32).tolist() == map_[support].view(np.uint32).tolist()
    np.testing.assert_array_equal(stored.support, support)
    np.testing.assert_array_equal(stored.native(), np.where(support, map_, 0))
    assert stored.geometry is None


def test_view_maps_go_back_to_the_native_grid_exactly(tmp_path, viewed):
    seen, roi = viewed
    map_ = np.random.default_rng(1).random(seen.image.shape, np.float32)
    map_[~seen.support] = np.nan  # what lies outside is not kept
    size = write_map(tmp_path / "deep" / "a.map", map_, seen.geometry, seen.support)
    stored = read_map(tmp_path / "deep" / "a.map")
    assert size == (tmp_path / "deep" / "a.map").stat().st_size
    assert stored.geometry == seen.geometry
    assert stored.native().dtype == np.float32
    inside = np.where(seen.support, map_, 0)
    np.testing.assert_array_equal(stored.view_map(), inside)
    np.testing.assert_array_equal(stored.native()[roi], seen.to_native(inside)[roi])
    with pytest.raises(MapError, match="expected"):  # the native grid
        write_map(tmp_path / "b.map", np.zeros(roi.shape, np.float32), seen.geometry, roi)


@pytest.mark.parametrize(
    ("map_", "message"),
    [
        *[
            (np.array([0.0] * 23 + [bad], np.float32).reshape(2, 3, 4), "1 NaN or infinite values of 24")
            for bad in (np.nan, np.inf, -np.inf)
        ],
        (np.zeros((2, 3, 5), np.float32), "shape"),
        (np.zeros((2, 3, 4)), "float64"),
        (np.zeros((2, 3, 4), np.float16), "float16"),
    ],
)
def test_values_shapes_and_types_that_are_no_map_are_refused(tmp_path, map_, message):
    with pytest.raises(MapError, match=message):
        write_map(tmp_path / "a.map", map_, None, np.ones((2, 3, 4), bool))
    assert not list(tmp_path.iterdir())


@in_tmp_path
@given(mask=arrays(bool, st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))))
def test_masks_come_back(tmp_path, mask):
    write_mask(tmp_path / "a.mask", mask)
    found = read_mask(tmp_path / "a.mask")
    assert found.dtype == bool
    np.testing.assert_array_equal(found, mask)
    with pytest.raises(MapError, match="uint8"):
        write_mask(tmp_path / "a.mask", mask.astype(np.uint8))


def test_the_format_needs_nothing_but_the_standard_library(tmp_path):
    map_ = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    support = map_ > -0.5
    write_map(tmp_path / "a.map", map_, None, support)
    content = (tmp_path / "a.map").read_bytes()
    (length,) = struct.unpack_from("<I", content, 8)
    header = json.loads(content[12 : 12 + length])
    start, first = 12 + length, header["bytes"][0]
    planes = zlib.decompress(content[start + first :])
    count = header["count"]
    values = [struct.unpack("<f", bytes(planes[k + b * count] for b in range(4)))[0] for k in range(count)]
    assert values == map_[support].tolist()
    assert zlib.decompress(content[start : start + first]) == np.packbits(support).tobytes()


@pytest.fixture
def stored(tmp_path):
    map_ = np.random.default_rng(0).random((4, 20, 20), np.float32)
    write_map(tmp_path / "a.map", map_, None, map_ > 0.3)
    return tmp_path / "a.map"


def test_missing_foreign_truncated_and_damaged_files_are_refused(tmp_path, stored):
    with pytest.raises(MapError, match="cannot be read"):
        read_map(tmp_path / "none.map")
    with pytest.raises(MapError, match="not a stored mask"):
        read_mask(stored)
    content, rng = stored.read_bytes(), np.random.default_rng(0)
    broken = [content[:keep] for keep in (0, 5, 10, 40, 300, -1)]
    for position in rng.integers(0, len(content), 200):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        broken.append(bytes(damaged))
    for text in broken:
        stored.write_bytes(text)
        with pytest.raises(MapError, match=r"a\.map"):
            read_map(stored)


def test_a_failed_write_keeps_the_old_file(stored, monkeypatch):
    from uasbench.common import atomic

    before = stored.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(atomic.DiskError, match="disk is full"):
        write_map(stored, np.ones((4, 20, 20), np.float32), None, np.ones((4, 20, 20), bool))
    assert stored.read_bytes() == before
    assert [p.name for p in stored.parent.iterdir()] == ["a.map"]
