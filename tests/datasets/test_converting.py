import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner
from uasbench import cli_data
from uasbench.common.errors import DataError
from uasbench.datasets.reading.converting import convert, convert_all
from uasbench.datasets.reading.dicom_io import read_folder
from uasbench.datasets.reading.volume_io import read_volume


@pytest.fixture
def put_scan(put_slice):
    """Return a writer of eight slices of noise, 2 mm apart, names from the head; gives the voxels (z, y, x)."""

    def write(folder, *, seed=0, axes="1\\0\\0\\0\\1\\0", series="1.2.3", heights=range(0, 16, 2)):
        lps = np.random.default_rng(seed).integers(-1000, 1500, (8, 10, 12)).astype(np.int16)
        for at, (plane, height) in enumerate(zip(lps, heights, strict=True)):
            tags = {"0020|0032": f"-90.5\\-80.25\\{height - 300}", "0020|0013": str(8 - at), "0020|0037": axes}
            put_slice(folder / f"{series}-{8 - at}", plane, (0.75, 0.7), {**tags, "0020|000e": series})
        return lps

    return write


def _points(image):
    """Return LPS positions of four corner voxels of an image of SimpleITK, by their values."""
    x, y, z = (size - 1 for size in image.GetSize())
    corners = [(0, 0, 0), (x, 0, 0), (0, y, 0), (0, 0, z)]
    return sorted((image.GetPixel(c), *np.round(image.TransformIndexToPhysicalPoint(c), 3)) for c in corners)


@pytest.mark.parametrize("axes", ["1\\0\\0\\0\\1\\0", "-1\\0\\0\\0\\-1\\0"])
def test_what_is_written_lies_where_the_slices_lie_and_reads_alike(tmp_path, put_scan, put_slice, axes):
    folder, out = tmp_path / "scan", tmp_path / "out" / "scan.nii.gz"
    put_scan(folder, axes=axes)
    put_slice(folder / "scout", np.zeros((20, 20), np.int16), (1, 1), {"0020|0032": "0\\0\\0", "0020|000e": "1.2.4"})
    told = convert(folder, out)
    assert "series 1.2.3 (8 slices of 12 x 10)" in told
    assert "2 x 0.75 x 0.7 mm (z, y, x); instance numbers: head to feet" in told
    assert "HU as int16" in told
    assert "scout: a single image of another series, ignored" in told
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), "1.2.3")
    assert _points(SimpleITK.ReadImage(str(out))) == _points(SimpleITK.ReadImage(names))
    here, there = read_folder(folder), read_volume(out)
    np.testing.assert_array_equal(here.data, there.data)
    assert (here.spacing, here.grid.codes) == (there.spacing, there.grid.codes)
    assert there.trust.spacing_trusted
    with pytest.raises(DataError, match=r"scan\.nii\.gz exists; delete it"):
        convert(folder, out)


def test_one_of_two_series_is_named_and_a_file_has_its_ending(tmp_path, put_scan):
    put_scan(tmp_path / "scan")
    second = put_scan(tmp_path / "scan", seed=1, series="1.2.5")
    out = tmp_path / "scan.nii.gz"
    with pytest.raises(DataError, match=r"2 series, expected one scan: .*1\.2\.5 .*name one of them"):
        convert(tmp_path / "scan", out)
    assert not out.exists()
    assert "series 1.2.3 (8 slices of 12 x 10) is not the chosen one" in convert(tmp_path / "scan", out, "1.2.5")
    np.testing.assert_array_equal(read_volume(out).data, second)
    with pytest.raises(DataError, match=r"scan\.nii: one series becomes one file; give a name that ends in \.nii\.gz"):
        convert(tmp_path / "scan", tmp_path / "scan.nii")


def test_a_tree_of_studies(tmp_path, put_scan, put_slice):
    studies, out = tmp_path / "studies", tmp_path / "out"
    scans = {name: put_scan(studies / name, seed=seed) for seed, name in enumerate(("anna/1.5 mm", "berta"))}
    put_scan(studies / "carla", heights=[0, 2, 4, 6, 10, 12, 14, 16])
    put_slice(studies / "anna" / "plan" / "a", np.zeros((4, 4), np.int16), (1, 1), {"0008|0060": "DX"})
    (studies / "notes.txt").write_text("none")
    outcomes = list(convert_all(studies, out))
    assert [good for good, _ in outcomes] == [True, True, True, False]
    assert [text.partition(":")[0] for _, text in outcomes][1] == "left out"
    assert "uneven slice spacing, 2.00 to 4.00 mm" in outcomes[3][1]
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.nii.gz")) == [f"{name}.nii.gz" for name in scans]
    for name, lps in scans.items():
        np.testing.assert_array_equal(read_volume(out / f"{name}.nii.gz").data, lps)
    assert [good for good, _ in convert_all(studies / "berta", out / "again")] == [True]
    assert (out / "again" / "berta.nii.gz").is_file()
    said = CliRunner().invoke(cli_data.app, ["convert", str(studies), str(tmp_path / "said")])
    assert (said.exit_code, said.stdout.count("series 1.2.3 (8 slices of 12 x 10)")) == (2, 2)
    one = CliRunner().invoke(cli_data.app, ["convert", str(studies / "berta"), str(tmp_path / "one.nii.gz")])
    assert (one.exit_code, one.stdout.count("series 1.2.3 (8 slices of 12 x 10)")) == (0, 1)
    with pytest.raises(DataError, match="no DICOM files at or below it"):
        list(convert_all(out, tmp_path / "none"))
