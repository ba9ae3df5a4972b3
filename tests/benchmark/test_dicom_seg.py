"""DICOM segmentations: every frame refers to the slice that it lies on, and holds the mask of that slice."""

import locale
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from uasbench.benchmark.commands import exporting
from uasbench.benchmark.commands.dicom_seg import Segment, write_segmentation
from uasbench.common.errors import DataError
from uasbench.datasets.dataset import CaseRef
from uasbench.datasets.reading.placing import Place, place_of

SHAPE = (6, 10, 12)
SERIES = {
    "0008|0060": "CT", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0020|0052": "1.2.3.5", "0010|0020": "p1",
    "0010|0010": "P^1", "0008|0020": "20200101", "0008|0030": "120000", "0020|0010": "1", "0008|0050": "a",
    "0010|0030": "", "0010|0040": "", "0020|0011": "1", "0020|1040": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _same_locale():
    """SimpleITK's writer of DICOM files leaves the process in the C locale, where text files are read as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.float32)


def put(folder: Path, image: np.ndarray, tags: dict[str, str], *, flip: bool = False) -> CaseRef:
    """Write a scan as slices with names in no order, rows stored from the patient's left if ``flip``."""
    folder.mkdir(parents=True)
    files, turn = [], -1 if flip else 1
    for at, name in enumerate(np.random.default_rng(1).permutation(len(image))):
        plane = SimpleITK.GetImageFromArray(image[at, :, ::turn].astype(np.int16)[None])
        plane.SetSpacing((0.7, 0.75, 1.0))
        x = 0.7 * (SHAPE[2] - 1) if flip else 0.0
        place = {"0020|0032": f"{x}\\-80\\{at * 2.5 - 300}", "0020|0037": f"{turn}\\0\\0\\0\\1\\0"}
        own = {"0020|0013": str(at + 1), "0008|0018": f"1.2.3.4.{at + 1}", "0008|0016": "1.2.840.10008.5.1.4.1.1.2"}
        for tag, value in {**tags, **place, **own}.items():
            plane.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        files.append(folder / f"IM{name:04d}.dcm")
        writer.SetFileName(str(files[-1]))
        writer.Execute(plane)
    files.sort()
    return CaseRef("p1", "p1", files[0], extra=tuple(files[1:]))


@pytest.mark.parametrize("flip", [False, True])
def test_frames_lie_on_their_slices(tmp_path, image, flip):
    highdicom = pytest.importorskip("highdicom")
    place = place_of(put(tmp_path / "scan", image, SERIES, flip=flip), image)
    masks = np.random.default_rng(2).random((2, *SHAPE)) > 0.7
    segments = [Segment("roi", "roi", masks[0]), Segment("val", "lesion", masks[1], "ae")]
    write_segmentation(tmp_path / "seg.dcm", place, segments, "a title")
    found = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [found.get_segment_description(n).segment_label for n in (1, 2)] == ["roi", "val"]
    assert str(found.get_segment_description(2).algorithm_type.value) == "AUTOMATIC"
    slices = {place.series.slices[z].path: z for z in range(SHAPE[0])}
    import pydicom

    for path, z in slices.items():
        own = pydicom.dcmread(path)
        pixels = found.get_pixels_by_source_instance([own.SOPInstanceUID], ignore_spatial_locations=True)[0]
        for number in (0, 1):
            np.testing.assert_array_equal(pixels[..., number][:, :: -1 if flip else 1], masks[number, z])
    for frame in found.PerFrameFunctionalGroupsSequence:
        position = [float(c) for c in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert any(np.allclose(position, one.position) for one in place.series.slices)


def test_a_series_without_what_is_repeated_is_named(tmp_path, image):
    pytest.importorskip("highdicom")
    place = place_of(put(tmp_path / "scan", image, {"0008|0060": "CT", "0020|000e": "1.2"}), image)
    import pydicom

    for one in place.series.slices:
        bare = pydicom.dcmread(one.path)
        for name in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID"):
            if name in bare:
                delattr(bare, name)
        bare.save_as(one.path)
    with pytest.raises(DataError, match="no DICOM segmentation can be made of this series"):
        write_segmentation(tmp_path / "seg.dcm", place, [Segment("roi", "roi", np.ones(SHAPE, bool))], "a title")
    assert not (tmp_path / "seg.dcm").exists()


def test_scans_of_other_formats_have_none(tmp_path):
    place = Place(None, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="no DICOM series"):
        write_segmentation(tmp_path / "seg.dcm", place, [], "a title")


def test_without_the_package_the_command_says_how_to_install_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("uasbench.benchmark.commands.dicom_seg.find_spec", lambda name: None)
    chosen = exporting.Chosen(dicom_seg=True)
    with pytest.raises(exporting.ExportError, match=r"pip install 'uasbench\[dicom-seg\]'"):
        exporting.export(folder, tmp_path / "out", chosen, exporting.Source(), None)
