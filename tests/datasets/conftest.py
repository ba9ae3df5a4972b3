"""Small NIfTI files in any orientation, and an abdomen: liver on the right, spine at the back, lungs above."""

import gzip
import locale
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations


@pytest.fixture(autouse=True)
def _same_locale():
    """SimpleITK's writer of DICOM files leaves the process in the C locale, where text files are read as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@dataclass(frozen=True)
class Abdomen:
    """CT (HU) and LiTS labels, both (z, y, x) in LPS."""

    image: np.ndarray
    labels: np.ndarray


def make_abdomen(seed=0, tumour=True, shape=(14, 24, 32)):
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    cy, cx = (shape[1] - 1) / 2, (shape[2] - 1) / 2
    body = ((y - cy) / (0.45 * shape[1])) ** 2 + ((x - cx) / (0.45 * shape[2])) ** 2 < 1
    liver = (((y - 0.45 * shape[1]) / 5) ** 2 + ((x - 0.3 * shape[2]) / 6) ** 2 < 1) & (z >= 2) & (z < shape[0] - 4)
    lungs = body & (z >= shape[0] - 4) & (abs(x - cx) > 2) & (abs(x - cx) < 11) & (abs(y - cy) < 7)
    spine = ((y - 0.8 * shape[1]) ** 2 + (x - cx) ** 2) < 9
    image = np.full(shape, -1000.0)
    image[body] = 20 + rng.normal(0, 8, int(body.sum()))
    image[liver] += 40
    image[lungs] = -850 + rng.normal(0, 20, int(lungs.sum()))
    image[spine] = 500 + rng.normal(0, 30, int(spine.sum()))
    labels = liver.astype(np.uint8)
    if tumour:
        spot = liver & (z >= 4) & (z < 7) & ((y - 0.45 * shape[1]) ** 2 + (x - 0.3 * shape[2]) ** 2 < 6)
        labels[spot] = 2
        image[spot] -= 40
    return Abdomen(np.round(image).astype(np.int16), labels)


def make_chest(shape, seed=0):
    """Return CT (HU) and lungs (1 left, 2 right), both (z, y, x) in LPS, of a chest of boxes."""
    depth, height, width = shape
    image = np.full(shape, -1000.0)
    image[:, height // 8 : height - height // 8, width // 16 : width - width // 16] = 40
    lungs = np.zeros(shape, np.uint8)
    rows = np.s_[depth // 10 : depth - depth // 10, height // 4 : 3 * height // 4]
    lungs[(*rows, slice(width // 8, 7 * width // 16))] = 2
    lungs[(*rows, slice(9 * width // 16, 7 * width // 8))] = 1
    image[lungs > 0] = -850
    noise = np.random.default_rng(seed).normal(0, 15, shape)
    return np.round(image + noise).clip(-1024).astype(np.int16), lungs


def nifti_bytes(
    lps, spacing=(2.0, 1.5, 1.25), codes="LPS", *, slope=1.0, inter=0.0, affine=None, form_codes=(1, 1), version=1
):
    """Encode an LPS (z, y, x) array whose stored axes follow ``codes``; values are stored as given."""
    z, y, x = spacing
    stored = np.asarray(lps).T
    lps_affine = np.diag([-x, -y, z, 1.0])
    lps_affine[:3, 3] = (90.0, 80.0, -300.0)
    transform = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(codes))
    moved = orientations.apply_orientation(stored, transform)
    own = lps_affine @ orientations.inv_ornt_aff(transform, stored.shape)
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    image = kind(moved, own if affine is None else affine)
    image.header.set_data_dtype(moved.dtype)
    image.set_sform(image.affine, form_codes[0])
    image.set_qform(image.affine, form_codes[1])
    data = bytearray(image.to_bytes())
    if (slope, inter) != (1.0, 0.0):
        kind_header = image.header.__class__
        size = 348 if version == 1 else 540
        header = kind_header(bytes(data[:size]))
        header["scl_slope"], header["scl_inter"] = slope, inter
        data[:size] = header.binaryblock
    return bytes(data)


def write_nifti(path, lps, *, zipped=None, **options):
    """Write ``nifti_bytes``; zipped follows the name unless it is given."""
    data = nifti_bytes(lps, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 1) if (path.name.endswith(".gz") if zipped is None else zipped) else data)
    return path


@pytest.fixture(scope="session")
def two_forms():
    """Return ``two_forms(path, flips, wrong, in_place)``: run stored axes the other way in one form of a sound file.

    The wrong form covers the same place if it is told to.
    """

    def change(path, flips, wrong="sform", in_place=False):
        image = nib.load(path)
        affine = image.affine.copy()
        for axis in flips:
            affine[:3, 3] += in_place * (image.shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
        made = nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), None, image.header)
        forms = {"sform": image.affine, "qform": image.affine, wrong: affine}
        made.set_sform(forms["sform"], 1)
        made.set_qform(forms["qform"], 1)
        nib.save(made, path)

    return change


@pytest.fixture(scope="session")
def second_pack(real_ct):
    """The second development pack, which lies beside the first one; tests that need it skip where it is absent."""
    path = real_ct.with_name("real-ct-2")
    if not path.is_dir():
        pytest.skip(f"second pack of real CT not found at {path}")
    return path


@pytest.fixture
def encode_nifti():
    return nifti_bytes


@pytest.fixture
def put_nifti():
    return write_nifti


@pytest.fixture(scope="session")
def abdomen():
    return make_abdomen()


@pytest.fixture(scope="session")
def chest():
    """Return ``chest(shape, seed)``: CT and lungs."""
    return make_chest


@pytest.fixture
def stored(tmp_path):
    """Return ``stored(case)``: the pointer to a case that was written to a store below the test's folder."""
    from uasbench.datasets.storing.entries import read_meta, write_native
    from uasbench.datasets.storing.prepared import PreparedCase

    def store(case):
        path = tmp_path / "native" / case.id
        write_native(path, case)
        same = {name: getattr(case, name) for name in ("id", "patient", "spacing")}
        print_ = read_meta(path)["fingerprint"]
        return PreparedCase(dataset="set", shape=case.image.shape, fingerprint=print_, path=path, **same)

    return store


@pytest.fixture(scope="session")
def opened():
    """Return ``opened(adapter, root)``: the data set after its discovery."""

    def discover(adapter, root):
        dataset = adapter()
        dataset.discover(root)
        return dataset

    return discover


@pytest.fixture
def put_slice():
    """Return ``put_slice(path, plane, tags)``: write one slice as DICOM, CT of one series unless the tags say other."""
    import SimpleITK

    def put(path, plane, spacing, tags):
        image = SimpleITK.GetImageFromArray(plane[None])
        image.SetSpacing((spacing[1], spacing[0], 1.0))
        for tag, value in {"0008|0060": "CT", "0020|000e": "1.2.3", "0020|0037": "1\\0\\0\\0\\1\\0", **tags}.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.Execute(image)
        return path

    return put


@pytest.fixture
def put_chaos_case(put_slice):
    """Return a writer of ``NUMBER/DICOM_anon`` and ``Ground``, both (z, y, x), masks from the head; gives the folder.

    ``numbers`` are the instance numbers from the feet, ``gap`` the slice before which one is missing.
    """
    from PIL import Image

    def put(folder, number, image, liver, spacing, *, from_head=True, shuffled=False, numbers=None, gap=None, tags=()):
        home, count = folder / str(number), len(image)
        names = np.random.default_rng(0).permutation(count) if shuffled else np.arange(count)
        numbers = (range(count, 0, -1) if from_head else range(1, count + 1)) if numbers is None else numbers
        for z, (plane, name, instance) in enumerate(zip(image, names, numbers, strict=True)):
            height = spacing[0] * (z + (gap is not None and z >= gap)) - 300
            place = {"0020|0032": f"-90\\-80\\{height}", "0020|0013": str(instance), **dict(tags)}
            put_slice(home / "DICOM_anon" / f"i{name:04d},0000b.dcm", plane, spacing[1:], place)
        (home / "Ground").mkdir(parents=True, exist_ok=True)
        for rank, plane in enumerate(liver[::-1] if from_head else liver):
            Image.fromarray(plane > 0).save(home / "Ground" / f"liver_GT_{rank:03d}.png")
        return home

    return put


@pytest.fixture
def put_lits_case():
    def put(folder, number, *, seed=None, tumour=True, ext=".nii", **options):
        scan = make_abdomen(number if seed is None else seed, tumour)
        write_nifti(folder / f"volume-{number}{ext}", scan.image, **options)
        write_nifti(folder / f"segmentation-{number}{ext}", scan.labels, **options)
        return scan

    return put


@pytest.fixture
def put_btcv_case():
    def put(folder, number, *, seed=None, **options):
        scan = make_abdomen(100 + number if seed is None else seed, tumour=False)
        write_nifti(folder / "img" / f"img{number:04d}.nii.gz", scan.image, **options)
        labels = np.where(scan.labels > 0, 6, 0).astype(np.uint8)
        labels[:, -1, -1] = 8
        write_nifti(folder / "label" / f"label{number:04d}.nii.gz", labels, **options)
        return scan

    return put
