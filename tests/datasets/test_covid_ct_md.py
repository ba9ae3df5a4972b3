import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
from uasbench.datasets.check import check

SHAPE = (12, 20, 24)
SPACING = (10.0, 12.0, 12.0)
HEADER = "case,slice_index,label\n"


def _labels(seed=0, count=SHAPE[0]):
    return np.random.default_rng(seed).random(count) < 0.4


def _rows(case, labels):
    return "".join(f"{case},{index},{int(label)}\n" for index, label in enumerate(labels))


@pytest.fixture
def put_slices(put_slice):
    """Return a writer of one DICOM slice per plane under names in no order."""

    def put(folder, image, *, number_from_head=True):
        names = np.random.default_rng(1).permutation(len(image))
        for at, plane in enumerate(image):
            number = len(image) - at if number_from_head else at + 1
            tags = {"0020|0032": f"-100\\-90\\{at * SPACING[0] - 400}", "0020|0013": str(number)}
            put_slice(folder / f"IM{names[at]:04d}.dcm", plane, SPACING[1:], tags)

    return put


def _put_published(root, labels_from_feet, numbers=None, names=None):
    """Write ``Index.csv`` and the array as published: slices from the head, rows padded to 200."""
    rows = np.zeros((len(labels_from_feet), 200), np.int32)
    for row, labels in zip(rows, labels_from_feet, strict=True):
        row[: len(labels)] = labels[::-1]
    np.save(root / "Slice-level-labels-updated-1.npy", rows)
    numbers = range(len(rows)) if numbers is None else numbers
    names = [f"P{i + 1:03d}" for i in range(len(rows))] if names is None else names
    lines = [f"{n},COVID-19,./COVID-19/,{name}" for n, name in zip(numbers, names, strict=True)]
    (root / "Index.csv").write_text("\n".join(["Label Index,Diagnosis,Relative Path,Folder/ID", *lines]))


@pytest.fixture
def put_case(put_nifti, chest):
    def put(root, case, *, seed=0, codes="LPS", mask=True, labels=True):
        image, lungs = chest(SHAPE, seed)
        put_nifti(root / f"{case}.nii.gz", image, spacing=SPACING, codes=codes)
        if mask:
            put_nifti(root / "lung_mask" / f"{case}.nii.gz", lungs, spacing=SPACING, codes=codes)
        if labels:
            table = root / "slice_labels.csv"
            before = table.read_text() if table.is_file() else HEADER
            stored = _labels(seed)[::-1] if codes.endswith("I") else _labels(seed)
            table.write_text(before + _rows(case, stored))
        return image, lungs

    return put


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "P001,0,2\n", r"line 2: label '2' of P001; expected 0 \(nothing seen\) or 1 \(lesion\)"),
        (HEADER + "P001,-1,0\n", "slice_index '-1'"),
        (HEADER + "P001,1,0\nP001,1,1\n", "line 3: slice 1 of P001 has both labels"),
        (HEADER, "no labels; add one row per slice"),
        (HEADER + "P002,0,1\n", r"P002, 1 in all, but no such scan; did you mean 'P001'\?; add the scan or remove"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, put_case, text, message):
    put_case(tmp_path, "P001")
    (tmp_path / "slice_labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        CovidCTMD().discover(tmp_path)


def test_scans_without_labels_are_left_out_with_a_note(tmp_path, put_case):
    put_case(tmp_path, "P001")
    put_case(tmp_path, "normal001", seed=1, labels=False)
    dataset = CovidCTMD()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["P001"]
    assert dataset.notes == ("1 scans without slice labels are ignored (first: normal001)",)
    with pytest.raises(DataError, match="no case 'normal001'"):
        dataset.load("normal001")


def test_missing_labels_two_tables_and_an_absent_set(tmp_path, put_case, put_lits_case):
    put_case(tmp_path / "covid-ct-md", "P001", labels=False)
    with pytest.raises(DataError, match=r"no slice labels; put Slice-level-labels.* or write slice_labels\.csv"):
        CovidCTMD().discover(tmp_path)
    for folder in ("a", "b"):
        put_case(tmp_path / "covid-ct-md" / folder, f"{folder}1")
    with pytest.raises(DataError, match=r"slice_labels\.csv lies in 2 places"):
        CovidCTMD().discover(tmp_path)
    put_lits_case(tmp_path / "other" / "lits", 1)
    (tmp_path / "other" / "lits" / "Index.csv").write_text("a,b\n")
    assert check(tmp_path / "other", {"covid-ct-md": CovidCTMD()}).sets == []


def test_scan_stored_in_sagittal_slices(tmp_path, put_case, opened):
    put_case(tmp_path, "P001", codes="SPL")
    dataset = opened(CovidCTMD, tmp_path)
    assert dataset.load("P001").image.shape == SHAPE
    with pytest.raises(DataError, match="last axis does not run along the body"):
        dataset.load_truth("P001")


def test_labelled_slices_outside_the_lungs_are_reported(tmp_path, put_case):
    put_case(tmp_path, "P001")
    (tmp_path / "slice_labels.csv").write_text(HEADER + _rows("P001", [1, 1, *[0] * 9, 1]))
    report = check(tmp_path, {"covid-ct-md": CovidCTMD()})
    assert report.ok
    assert any("2 slices labelled with infection lie outside the lung mask" in text for text in report.warnings)


@pytest.mark.parametrize("main", ["COVID-19 Cases", "covid-ct-md/COVID-19 subjects", "COVID-CT-MD"])
def test_dicom_layout_with_a_table(tmp_path, put_nifti, put_slices, chest, main):
    image, lungs = chest(SHAPE)
    put_slices(tmp_path / main / "P001", image)
    home = (tmp_path / main).parent if main != "COVID-CT-MD" else tmp_path / main
    put_nifti(home / "lung_mask" / "P001.nii.gz", lungs, spacing=SPACING, codes="RAS")
    (home / "slice_labels.csv").write_text(HEADER + _rows("P001", _labels()))
    dataset = CovidCTMD()
    (ref,) = dataset.discover(tmp_path)
    assert (ref.id, len(ref.extra)) == ("P001", SHAPE[0])
    case = dataset.load("P001")
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.roi, lungs > 0)
    assert case.spacing == SPACING
    np.testing.assert_array_equal(dataset.load_truth("P001").slice_labels, _labels())
    put_nifti(home / "lung_mask" / "P001.nii.gz", lungs[2:], spacing=SPACING, codes="RAS")
    with pytest.raises(DataError, match=r"lung_mask/P001\.nii\.gz: lung mask of shape"):
        dataset.load("P001")


def test_a_mask_beside_slices_whose_header_cannot_be_trusted(tmp_path, put_nifti, put_slices, chest, two_forms, opened):
    image, lungs = chest(SHAPE)
    gone = (lungs == 1) | (np.arange(SHAPE[0])[:, None, None] < 5)  # so that neither sides nor ends are alike
    image[gone & (lungs > 0)] = 40
    lungs[gone] = 0
    put_slices(tmp_path / "COVID-19 Cases" / "P001", image)
    (tmp_path / "slice_labels.csv").write_text(HEADER + _rows("P001", _labels()))
    path = put_nifti(tmp_path / "lung_mask" / "P001.nii.gz", lungs, spacing=SPACING, codes="RAS")
    two_forms(path, (2,), "sform", True)
    case = opened(CovidCTMD, tmp_path).load("P001")
    np.testing.assert_array_equal(case.roi, lungs > 0)
    warned = [note.text for note in case.notes if note.level == "warning"]
    assert "P001.nii.gz: the sform names the axes RAI, the qform RAS" in warned
    assert "P001.nii.gz is stored as RAI or RAS, its image as LPS; paired as RAS, as the scan shows" in warned
    put_nifti(path, lungs, spacing=SPACING, affine=np.diag([-1.0, -1, 1, 1]))
    case = opened(CovidCTMD, tmp_path).load("P001")
    assert any(note.text.startswith("P001.nii.gz: lost header (identity affine)") for note in case.notes)


def test_dicom_layout_as_published(tmp_path, put_slices, chest):
    image, _ = chest(SHAPE)
    put_slices(tmp_path / "COVID-19 Cases" / "P001", image)
    put_slices(tmp_path / "Cap Cases" / "cap001", image, number_from_head=False)
    put_slices(tmp_path / "Normal Cases" / "normal001", image)
    _put_published(tmp_path, [_labels(0), _labels(5), _labels(1)], numbers=[0, 1, 3], names=["P001", "P002", "cap001"])
    (tmp_path / "Slice-level-labels.npy").write_bytes(b"")
    dataset = CovidCTMD()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["P001", "cap001"]
    notes = "\n".join(dataset.notes)
    assert "Slice-level-labels-updated-1.npy is used" in notes
    assert "1 scans without slice labels are ignored (first: normal001)" in notes
    assert "labels of P002, 1 in all, but no such scan" in notes
    np.testing.assert_array_equal(dataset.load_truth("P001").slice_labels, _labels(0))
    np.testing.assert_array_equal(dataset.load_truth("cap001").slice_labels, _labels(1))
    assert not any("instance numbers" in note.text for note in dataset.load("P001").notes)
    assert any("warning: instance numbers do not run from head" in str(note) for note in dataset.load("cap001").notes)


def test_published_labels_of_converted_scans(tmp_path, put_case, opened):
    put_case(tmp_path, "P001", labels=False)
    put_case(tmp_path, "P002", labels=False, seed=1, codes="LPI")
    _put_published(tmp_path, [_labels(0), _labels(1)])
    dataset = opened(CovidCTMD, tmp_path)
    np.testing.assert_array_equal(dataset.load_truth("P001").slice_labels, _labels(0))
    np.testing.assert_array_equal(dataset.load_truth("P002").slice_labels, _labels(1))
    table = HEADER + _rows("P001", ~_labels(0)) + _rows("P002", ~_labels(1)[::-1])
    (tmp_path / "slice_labels.csv").write_text(table)
    dataset = opened(CovidCTMD, tmp_path)
    assert "slice_labels.csv is used, Slice-level-labels-updated-1.npy is ignored" in dataset.notes
    np.testing.assert_array_equal(dataset.load_truth("P001").slice_labels, ~_labels(0))
    np.testing.assert_array_equal(dataset.load_truth("P002").slice_labels, ~_labels(1))


def test_published_labels_that_do_not_fit(tmp_path, put_case, opened):
    put_case(tmp_path, "P001", labels=False)
    _put_published(tmp_path, [np.ones(13, bool)])
    with pytest.raises(DataError, match="P001 has 12 slices, but slice 12 is labelled"):
        opened(CovidCTMD, tmp_path).load_truth("P001")
    index, array = tmp_path / "Index.csv", tmp_path / "Slice-level-labels-updated-1.npy"
    for spoil, message in (
        (lambda: np.save(array, np.full((1, 200), 2)), "values 0 to 2; expected one row of 0 and 1 per case"),
        (lambda: array.write_bytes(b"version https://git-lfs"), "cannot be read as an array"),
        (lambda: np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True), "cannot be read as an array"),
        (index.unlink, "no slice labels"),
    ):
        spoil()
        with pytest.raises(DataError, match=message):
            CovidCTMD().discover(tmp_path)
