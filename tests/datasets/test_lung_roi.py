"""Which lung mask a case gets, and what is said about it."""

import sys

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.roi import lungmask_model
from uasbench.datasets.roi.lung_roi import CLASSICAL, LUNGMASK, litres, lung_roi

SPACING = (5.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def scan():
    """A chest of two plain lungs in HU, and where they are (z, y, x)."""
    z, y, x = np.indices((40, 70, 90))
    image = np.full(z.shape, -1000, np.float32)
    image[((y - 35) / 28) ** 2 + ((x - 45) / 38) ** 2 < 1] = 40
    lungs = ((abs(x - 45) - 18) / 14) ** 2 + ((y - 35) / 20) ** 2 + ((z - 20) / 18) ** 2 < 1
    image[lungs] = -850
    return image, lungs


@pytest.fixture(autouse=True)
def without_network(monkeypatch, tmp_path):
    monkeypatch.setenv(lungmask_model.VARIABLE, str(tmp_path / "absent.pth"))


@pytest.fixture
def fake_lungmask(monkeypatch, tmp_path):
    """A package in place of lungmask: everything below -400 HU in the middle rows is lung, 1 right and 2 left."""
    package = tmp_path / "site" / "lungmask"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import warnings, numpy as np\n"
        "warnings.filterwarnings('ignore', category=UserWarning)\n"
        "class LMInferer:\n"
        "    def __init__(self, modelname, modelpath, force_cpu, tqdm_disable):\n"
        "        if open(modelpath).read() != 'R231':\n"
        "            raise RuntimeError('bad weights')\n"
        "        assert modelname == 'R231' and force_cpu\n"
        "    def apply(self, image):\n"
        "        half = np.arange(image.shape[2]) < image.shape[2] // 2\n"
        "        lung = (image < -400) & (image > -950)\n"
        "        return np.where(lung, np.where(half, 1, 2), 0).astype(np.uint8)\n",
        encoding="utf-8",
    )
    weights = tmp_path / "weights.pth"
    weights.write_text("R231", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "lungmask", raising=False)
    monkeypatch.setenv(lungmask_model.VARIABLE, str(weights))
    yield weights
    sys.modules.pop("lungmask", None)


def why_not():
    reason = lungmask_model.available()
    assert reason is not None
    return reason


def test_a_plausible_mask_is_kept_as_it_is_and_one_of_another_shape_refused(scan):
    image, lungs = scan
    mask = lungs & (np.arange(90) > 45)
    roi, source, notes = lung_roi("a", image, SPACING, mask, notes=("before",), mask_source="the file")
    np.testing.assert_array_equal(roi, mask)
    assert (source, notes) == ("the file", ("before",))
    with pytest.raises(DataError, match=r"shape \(39, 70, 90\), image of shape \(40, 70, 90\)"):
        lung_roi("a", image, SPACING, lungs[1:])


def test_half_a_litre_is_the_limit(scan):
    image, lungs = scan
    voxels = int(np.ceil(0.5e6 / np.prod(SPACING)))
    places = np.flatnonzero(lungs)
    for count, kept in ((voxels, True), (voxels - 1, False)):
        mask = np.zeros(lungs.size, dtype=bool)
        mask[places[:count]] = True
        _, source, notes = lung_roi("a", image, SPACING, mask.reshape(lungs.shape))
        assert (source == "mask file") is kept
        assert bool(notes) is not kept


@pytest.mark.parametrize("size", [0, 40])
def test_a_small_or_empty_mask_falls_back_with_a_warning(scan, size):
    image, lungs = scan
    mask = np.zeros_like(lungs)
    mask[20, 30:31, 20 : 20 + size] = True
    roi, source, notes = lung_roi("a", image, SPACING, mask)
    assert source == CLASSICAL
    assert litres(roi ^ lungs, SPACING) < 0.05 * litres(lungs, SPACING)
    assert str(notes[0]).startswith("warning: the lung mask is ")
    assert ("empty" in notes[0].text) is (size == 0)
    assert str(notes[1]).startswith("warning: lungs by classical segmentation")


def test_without_a_mask_the_reason_for_the_classical_way_is_named(scan):
    _, source, (note,) = lung_roi("a", scan[0], SPACING)
    assert source == CLASSICAL
    assert why_not() in note.text


def test_no_lung_is_refused_with_file_value_and_fix(scan, tmp_path):
    image = np.full(scan[0].shape, 40, np.float32)
    nothing = r"case a: no lung mask, .* is empty, expected at least 0\.5 l; provide a lung mask"
    with pytest.raises(DataError, match=nothing):
        lung_roi("a", image, SPACING)
    mask = np.zeros(image.shape, dtype=bool)
    mask[0, 0, :20] = True
    with pytest.raises(DataError, match=r"ct\.nii: the lung mask is 0\.0016 l, .* leave a out with --exclude"):
        lung_roi("a", image, SPACING, mask, image_file=tmp_path / "ct.nii")


def test_a_crop_is_judged_by_its_own_volume():
    image, mask = np.full((10, 20, 20), -850, np.float32), np.zeros((10, 20, 20), dtype=bool)
    mask[:, :, :3] = True
    assert lung_roi("crop", image, (2.0, 1.5, 1.5), mask)[1] == "mask file"
    mask[:, :, 1:] = False
    with pytest.raises(DataError, match=r"crop: the lung mask is 0\.0009 l"):
        lung_roi("crop", image, (2.0, 1.5, 1.5), mask)


def test_the_network_is_used_where_its_weights_lie_and_damaged_ones_are_refused(scan, fake_lungmask):
    image, lungs = scan
    assert lungmask_model.available() is None
    assert lungmask_model.weights() == fake_lungmask
    roi, source, notes = lung_roi("a", image, SPACING)
    assert (source, roi.dtype) == (LUNGMASK, bool)
    np.testing.assert_array_equal(roi, lungs)
    assert not any(str(note).startswith("warning") for note in notes)
    fake_lungmask.write_text("half of it", encoding="utf-8")
    with pytest.raises(DataError, match=r"weights\.pth: not the weights of lungmask R231"):
        lungmask_model.segment(image, SPACING)


def test_missing_weights_are_named_and_never_fetched(monkeypatch, tmp_path, fake_lungmask):
    monkeypatch.setenv(lungmask_model.VARIABLE, str(tmp_path / "elsewhere.pth"))
    assert str(tmp_path / "elsewhere.pth") in why_not()
    assert lungmask_model.weights() is None
    monkeypatch.delenv(lungmask_model.VARIABLE)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert str(tmp_path / "torch" / "hub" / "checkpoints" / lungmask_model.WEIGHTS) in why_not()
    with pytest.raises(DataError, match="cannot be segmented by lungmask: no weights"):
        lungmask_model.segment(np.zeros((2, 4, 4), np.float32), SPACING)


def test_without_the_package_the_reason_is_the_package_and_the_search_folder_is_that_of_torch(monkeypatch):
    import torch

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "not installed" in why_not()
    monkeypatch.delenv(lungmask_model.VARIABLE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/somewhere")
        assert f"{torch.hub.get_dir()}/checkpoints" in why_not()
        monkeypatch.delenv(name)
