import shutil

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.adapters import luna16
from uasbench.datasets.adapters.luna16 import LUNA16, draw, read_annotations, slices_near
from uasbench.datasets.check import check, format_report
from uasbench.datasets.reading.side_tables import natural_key

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
SPACING = (5.0, 10.0, 12.0)
ORIGIN = (-180.0, -120.0, -400.0)
SHAPE = (20, 24, 32)


def _write(path, lps, flips=(False, False, False), compressed=False):
    image = SimpleITK.GetImageFromArray(lps)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.Flip(image, flips), str(path), compressed)


@pytest.fixture
def put(tmp_path, chest):
    """Return ``put(uid)``: write a chest and its mask, where 3 is the left lung, 4 the right one, 5 the trachea."""

    def write(uid, *, root=tmp_path, subset="subset0", seed=0, flips=(False, False, False), mask=True, annotations=""):
        image, lungs = chest(SHAPE, seed)
        labels = np.where(lungs > 0, lungs + 2, 0).astype(np.uint8)
        labels[8:18, 11:13, 15:17], image[8:18, 11:13, 15:17] = 5, -980
        _write(root / subset / f"{uid}.mhd", image, flips)
        if mask:
            _write(root / "seg-lungs-LUNA16" / f"{uid}.mhd", labels, flips, compressed=True)
        table = root / "annotations.csv"
        if annotations or not table.is_file():
            table.write_text(HEADER + annotations)
        return image, labels

    return write


def _world(z, y, x):
    return tuple(o + s * i for o, s, i in zip(ORIGIN, SPACING[::-1], (x, y, z), strict=True))


def _row(uid, zyx, diameter):
    return f"{uid}," + ",".join(f"{c:.3f}" for c in _world(*zyx)) + f",{diameter}\n"


@pytest.mark.parametrize("flips", [(True, False, False), (False, True, False), (True, True, True)])
def test_direction_is_undone_for_scan_lungs_and_nodules(tmp_path, put, flips, opened):
    image, labels = put("1.2", flips=flips, annotations=_row("1.2", (6, 9, 8), 10.0))
    case = opened(LUNA16, tmp_path).load("1.2")
    np.testing.assert_array_equal(case.image, image)
    kept = np.isin(labels, (3, 4))
    kept[4:9] = False  # diameter/2 = 1 slice, and one more on either side
    np.testing.assert_array_equal(case.roi, kept)
    assert any("5 slices with lung left out" in note.text and "1 annotated nodules" in note.text for note in case.notes)


@given(st.floats(-5, 45), st.floats(0.1, 60), st.floats(0.3, 6), st.integers(1, 40))
def test_slices_near_a_nodule(centre, diameter, step, count):
    chosen = np.arange(count)[slices_near(centre, diameter, step, count)]
    distance = np.abs(np.arange(count) - centre) * step
    reach = diameter / 2 + step
    assert set(np.flatnonzero(distance < reach - 1e-4)) <= set(chosen) <= set(np.flatnonzero(distance < reach + 1e-4))


def test_nodules_that_leave_nothing_or_lie_outside(tmp_path, put, opened):
    put("1.2", annotations=_row("1.2", (10, 9, 8), 200.0))
    with pytest.raises(DataError, match=r"no slice with lung is left .* 1 nodules .*--exclude luna16:1\.2"):
        opened(LUNA16, tmp_path).load("1.2")
    (tmp_path / "annotations.csv").write_text(HEADER + _row("1.2", (10, 60, 8), 5.0))
    with pytest.raises(DataError, match=r"nodule at \(-84, 480, -350\) mm lies outside the scan"):
        opened(LUNA16, tmp_path).load("1.2")


def test_every_file_of_a_case_is_named_and_missing_annotations_are_refused_but_none_are_fine(tmp_path, put, opened):
    put("1.2")
    ref = LUNA16().discover(tmp_path)[0]
    assert ref.label == tmp_path / "seg-lungs-LUNA16" / "1.2.mhd"
    assert {path.name for path in ref.extra} == {"annotations.csv", "1.2.raw", "1.2.zraw"}
    assert opened(LUNA16, tmp_path).load("1.2").roi.any(axis=(1, 2)).sum() == 16
    (tmp_path / "annotations.csv").unlink()
    with pytest.raises(DataError, match=r"no annotations\.csv, so slices with nodules cannot be told"):
        LUNA16().discover(tmp_path)


def test_annotations_in_csvfiles_and_copies(tmp_path, put, opened):
    put("1.2", annotations=_row("1.2", (6, 9, 8), 10.0))
    (tmp_path / "CSVFILES").mkdir()
    shutil.move(tmp_path / "annotations.csv", tmp_path / "CSVFILES" / "annotations.csv")
    assert len(opened(LUNA16, tmp_path).nodules["1.2"]) == 1
    shutil.copy(tmp_path / "CSVFILES" / "annotations.csv", tmp_path / "annotations.csv")
    assert len(opened(LUNA16, tmp_path).nodules["1.2"]) == 1
    (tmp_path / "annotations.csv").write_text(HEADER)
    with pytest.raises(DataError, match="several versions"):
        LUNA16().discover(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seriesuid,x,y,z,diameter_mm\n", r"no column coordX, coordY, coordZ"),
        (HEADER.replace(",", ";"), r"no column .*coordX"),
        (HEADER + "1.2,1,2,three,4\n", r"line 2: 1, 2, three, 4; expected centre"),
        (HEADER + "1.2,1,2,3,0\n", "positive diameter"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "annotations.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path / "annotations.csv")


def test_annotations_of_unknown_series(tmp_path, put, opened):
    put("1.2", annotations=_row("1.2", (6, 9, 8), 10.0) + 2 * _row("9.9", (6, 9, 8), 10.0))
    dataset = opened(LUNA16, tmp_path)
    assert any("2 annotations of 1 series" in note and "9.9" in note for note in dataset.notes)
    (tmp_path / "annotations.csv").write_text(HEADER + _row("9.9", (6, 9, 8), 10.0))
    with pytest.raises(DataError, match="none of its 1 series is among the 1 scans found"):
        LUNA16().discover(tmp_path)


@given(st.sets(st.integers(0, 10**6), max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_draw(numbers, count, seed):
    uids = [f"1.3.{n}" for n in numbers]
    drawn = draw(uids, count, seed)
    assert drawn == draw(reversed(uids), count, seed) == tuple(sorted(drawn, key=natural_key))
    assert len(set(drawn)) == len(drawn) == min(count, len(uids))
    assert set(drawn) <= set(uids)
    if len(drawn) < len(uids):
        without = draw([uid for uid in uids if uid != drawn[0]], count, seed)
        assert len(set(drawn) - set(without)) == 1


def test_draw_of_453_is_a_fair_half_of_888():
    uids = [f"1.3.6.1.4.1.{n}" for n in range(888)]
    drawn = draw(uids)
    assert len(drawn) == 453
    assert len(set(drawn) & set(uids[:444])) == pytest.approx(226, abs=40)
    assert drawn != draw(uids, seed=1)


def test_more_scans_than_drawn_are_announced(tmp_path, put, monkeypatch):
    for number in range(5):
        put(f"1.{number}", seed=number, mask=number > 0)
    monkeypatch.setattr(luna16, "draw", lambda uids: draw(uids, 3))
    dataset, drawn = LUNA16(), list(draw([f"1.{n}" for n in range(5)], 3))
    assert [ref.id for ref in dataset.discover(tmp_path)] == list(dataset.drawn) == drawn
    assert any("3 of 5 series are used, drawn with seed 0" in note for note in dataset.notes)
    report = check(tmp_path, {"luna16": LUNA16()})
    assert report.ok
    assert "3 of 5 series are used" in format_report(report)


def test_bad_scans_and_masks_are_named_one_by_one(tmp_path, put):
    for number in range(6):
        _, labels = put(f"1.{number}", seed=number)
    data, masks = tmp_path / "subset0", tmp_path / "seg-lungs-LUNA16"
    (data / "1.0.raw").unlink()
    (data / "1.1.raw").write_bytes((data / "1.1.raw").read_bytes()[:1000])
    _write(masks / "1.2.mhd", labels[:10], compressed=True)
    (masks / "1.3.mhd").write_text("nothing")
    _write(masks / "1.4.mhd", labels + 1, compressed=True)
    body = np.zeros(SHAPE, np.uint8)
    body[:, 18:20, 4:28] = 3
    _write(masks / "1.5.mhd", body, compressed=True)
    report = check(tmp_path, {"luna16": LUNA16()})
    beginnings = (
        "1.0.mhd: its voxels lie in 1.0.raw, which is not beside it",
        "1.1.raw: 1000 of 30720 voxel bytes (truncated file)",
        "1.2.mhd: shape (32, 24, 10) (x, y, z) differs from the image's (32, 24, 20)",
        "1.3.mhd: not a MetaImage header",
        "1.4.mhd: unexpected labels 1, 6; this set uses 0, 3, 4, 5",
    )
    for error, beginning in zip(report.errors, beginnings, strict=True):
        assert beginning in error
    assert any("median of the lungs is" in warning for warning in report.warnings)


@pytest.mark.real_data
def test_the_direction_matrix_of_real_scans_is_obeyed(real_ct):
    dataset = LUNA16()
    for ref in dataset.discover(real_ct):
        case = dataset.load(ref.id)
        bone = np.nonzero(case.image > 300)[1].mean()
        assert bone > np.nonzero(case.roi)[1].mean(), "the spine lies behind the lungs"
        stored = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(ref.image))).clip(-1024, 3071)
        np.testing.assert_array_equal(case.image, stored[:, ::-1] if "subset1" in str(ref.image) else stored)


@pytest.mark.real_data
def test_real_scan_without_its_mask(real_ct, tmp_path, opened):
    uid = "2.25.37445861865020869553034547712043038080"
    for path in (real_ct / "luna16" / "subset1").glob(f"{uid}.*"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "annotations.csv").write_text(HEADER)
    case = opened(LUNA16, tmp_path).load(uid)
    mask = opened(LUNA16, real_ct).load(uid).roi
    assert case.roi_source != "mask file"
    assert 2 * (case.roi & mask).sum() / (case.roi.sum() + mask.sum()) > 0.95
