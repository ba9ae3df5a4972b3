import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from uasbench.datasets import atomic, preparation
from uasbench.datasets.case import Case, Truth
from uasbench.datasets.dataset import CaseRef, Dataset, DatasetCard
from uasbench.datasets.errors import DataError
from uasbench.datasets.store import PreparedCase, Store, TruthRef, load_truth
from uasbench.datasets.view import View
from uasbench.datasets.viewing import look

VIEWS = (View(size=16), View(size=16, dtype="uint8", equalise=True))
ADAPTER = '''
import os
from pathlib import Path

import numpy as np

from uasbench.datasets.case import Case, Truth
from uasbench.datasets.dataset import CaseRef, Dataset, DatasetCard
from uasbench.datasets.errors import DataError


class Arrays(Dataset):
    """Cases as .npz files with image and labels; counts how often it decodes."""

    card = DatasetCard(
        name="arrays", title="Arrays", anatomy="liver", role="lesion", licence="", citation="", obtain="", layout="",
        roi_source="label", truth="voxel",
    )

    def discover(self, root):
        self.root, self.loaded = root, []
        return [
            CaseRef(p.stem, f"patient-{p.stem}", p, root / f"{p.stem}.label.npy", notes=("found",))
            for p in sorted(root.glob("*.npz"))
        ]

    def _read(self, case_id):
        self.loaded.append(case_id)
        try:
            return np.load(self.root / f"{case_id}.npz")["image"], np.load(self.root / f"{case_id}.label.npy")
        except (OSError, ValueError) as error:
            raise DataError(f"{self.root / case_id}.npz: damaged ({error})") from error

    def load(self, case_id):
        if case_id == os.environ.get("KILL_AT"):
            os._exit(9)
        image, label = self._read(case_id)
        return Case(case_id, f"patient-{case_id}", image.astype(np.float32), (2.0, 0.8, 0.7), label > 0, ("read",))

    def load_truth(self, case_id):
        label = np.load(self.root / f"{case_id}.label.npy")
        return Truth(case_id, label == 2)
'''


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter in a module that spawned processes can import."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "arrays_adapter.py").write_text(ADAPTER)
    sys.path.insert(0, str(folder))
    import arrays_adapter

    yield arrays_adapter
    sys.path.remove(str(folder))
    del sys.modules["arrays_adapter"]


@pytest.fixture
def data(tmp_path):
    """Four cases on disk; the last holds values that int16 cannot."""
    root = tmp_path / "data"
    root.mkdir()
    for i, name in enumerate("abcd"):
        rng = np.random.default_rng(i)
        image = rng.integers(-500, 500, (5, 20, 24)).astype(np.float32) + (0.5 if name == "d" else 0)
        image[0] = -1000
        label = np.zeros(image.shape, np.uint8)
        label[1:4, 3:15, 4:18] = 1
        label[2, 5:8, 6:9] = 2
        np.savez(root / f"{name}.npz", image=image)
        np.save(root / f"{name}.label.npy", label)
    return root


@pytest.fixture
def dataset(adapter, data):
    dataset = adapter.Arrays()
    dataset.refs = dataset.discover(data)
    return dataset


@pytest.fixture
def settled(monkeypatch):
    """Trust time stamps of files that were just written."""
    monkeypatch.setattr(preparation, "_SETTLED_NS", -(10**12))


def prepare(tmp_path, dataset, **options):
    options = {"views": VIEWS, "truth": True, **options}
    return Store(tmp_path / "cache").prepare(dataset, dataset.refs, **options)


def entries(tmp_path, kind):
    return sorted(p.name for p in (tmp_path / "cache" / kind).iterdir())


def test_cases_views_and_truths_come_back(tmp_path, dataset, data):
    prepared = prepare(tmp_path, dataset)
    assert [c.id for c in prepared.cases] == list("abcd")
    for pointer in prepared.cases:
        original = dataset.load(pointer.id)
        case = pointer.case()
        assert case.image.dtype == np.float32
        np.testing.assert_array_equal(case.image, original.image)
        np.testing.assert_array_equal(case.roi, original.roi)
        assert (case.spacing, case.patient, case.notes) == ((2.0, 0.8, 0.7), f"patient-{case.id}", ("found", "read"))
        assert pointer.shape == case.image.shape
        assert pointer.roi_slices() == (1, 2, 3)
        assert pointer.roi_voxels() == case.roi.sum()
        for view in VIEWS:
            seen, expected = pointer.viewed(view), look(original, view)
            for field in ("image", "roi", "support"):
                np.testing.assert_array_equal(getattr(seen, field), getattr(expected, field))
            assert seen.geometry == expected.geometry
            assert seen.image.dtype == view.dtype
        truth = load_truth(prepared.truths[pointer.id])
        np.testing.assert_array_equal(truth.lesion, np.load(data / f"{pointer.id}.label.npy") == 2)
        np.testing.assert_array_equal(truth.slice_labels, [False, False, True, False, False])
    stored = [np.load(p.path / "image.npy", mmap_mode="r").dtype for p in prepared.cases]
    assert stored == [np.int16, np.int16, np.int16, np.float32]


def test_each_case_is_decoded_once_and_never_again(tmp_path, dataset, settled):
    first = prepare(tmp_path, dataset)
    assert dataset.loaded == list("abcd")
    assert prepare(tmp_path, dataset) == first
    more = prepare(tmp_path, dataset, views=[*VIEWS, View(size=8)])
    assert more.cases == first.cases
    assert dataset.loaded == list("abcd")


def test_unchanged_files_are_not_even_read_again(tmp_path, dataset, settled, monkeypatch):
    first = prepare(tmp_path, dataset)
    monkeypatch.setattr(preparation, "file_digest", lambda path: pytest.fail(f"{path} was read"))
    assert prepare(tmp_path, dataset) == first


def test_fresh_files_are_not_trusted_by_their_time_stamp(tmp_path, dataset):
    prepare(tmp_path, dataset)
    assert not (tmp_path / "cache" / "index").exists()


def test_pointers_travel_as_json(tmp_path, dataset):
    prepared = prepare(tmp_path, dataset)
    for case in prepared.cases:
        assert PreparedCase.from_json(json.loads(json.dumps(case.to_json()))) == case
        assert "label" not in json.dumps(case.to_json())
        assert "truth" not in json.dumps(case.to_json())
    for truth in prepared.truths.values():
        assert TruthRef.from_json(json.loads(json.dumps(truth.to_json()))) == truth


def test_labels_inside_the_roi_change_the_truth_alone(tmp_path, dataset, data, settled):
    before = prepare(tmp_path, dataset)
    views = entries(tmp_path, "views")
    label = np.load(data / "a.label.npy")
    rng = np.random.default_rng(0)
    label[label > 0] = rng.integers(1, 3, int((label > 0).sum()))
    np.save(data / "a.label.npy", label)
    after = prepare(tmp_path, dataset)
    assert [c.fingerprint for c in after.cases] == [c.fingerprint for c in before.cases]
    assert entries(tmp_path, "views") == views
    assert after.truths["a"].fingerprint != before.truths["a"].fingerprint
    assert after.truths["b"] == before.truths["b"]
    np.testing.assert_array_equal(load_truth(after.truths["a"]).lesion, label == 2)


@pytest.mark.parametrize("change", ["voxel", "roi"])
def test_fingerprint_follows_voxels_and_roi(tmp_path, dataset, data, change, settled):
    before = prepare(tmp_path, dataset).cases[0].fingerprint
    image, label = np.load(data / "a.npz")["image"].copy(), np.load(data / "a.label.npy")
    if change == "voxel":
        image[0, 0, 0] += 1
    else:
        label[1, 3, 4] = 0
    np.savez(data / "a.npz", image=image)
    np.save(data / "a.label.npy", label)
    assert prepare(tmp_path, dataset).cases[0].fingerprint != before


def test_patient_is_a_matter_of_the_pointer(tmp_path, dataset, settled):
    first = prepare(tmp_path, dataset).cases[0]
    dataset.refs = [dataclasses.replace(ref, patient="someone") for ref in dataset.refs]
    second = prepare(tmp_path, dataset).cases[0]
    assert second == dataclasses.replace(first, patient="someone")
    assert second.case().patient == "someone"


def test_slice_hashes_find_common_slices(tmp_path, dataset, data):
    image = np.load(data / "d.npz")["image"].copy()
    image[3] = np.load(data / "a.npz")["image"][1]
    np.savez(data / "d.npz", image=image)
    a, *_, d = (case.slice_hashes() for case in prepare(tmp_path, dataset).cases)
    assert len(a) == 5
    assert a[0] == ""
    assert a[1] == d[3]
    assert len({*a[1:], *d[1:]}) == 7


def test_view_that_was_not_prepared_is_computed_once(tmp_path, dataset):
    pointer = prepare(tmp_path, dataset).cases[0]
    view = View(size=9, window=(0, 100))
    np.testing.assert_array_equal(pointer.viewed(view).image, look(pointer.case(), view).image)
    assert pointer.view_path(view).is_dir()
    assert pointer.view_path(view) == pointer.view_path(View(size=9, window=(0.0, 100.0)))


def test_writing_to_what_is_read_changes_no_file(tmp_path, dataset):
    prepared = prepare(tmp_path, dataset)
    for pointer in (prepared.cases[0], prepared.cases[3]):
        pointer.case().image[:] = 0
        pointer.viewed(VIEWS[0]).image[:] = 0
        assert pointer.case().image.any()
        assert pointer.viewed(VIEWS[0]).image.any()


def test_order_and_progress(tmp_path, dataset):
    seen = []
    dataset.refs = dataset.refs[::-1]
    prepared = prepare(tmp_path, dataset, progress=lambda *state: seen.append(state))
    assert [c.id for c in prepared.cases] == list("dcba")
    assert [s[:2] for s in seen] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert all("arrays" in text for *_, text in seen)


class TestProcesses:
    @pytest.fixture(autouse=True)
    def _no_set_is_small(self, monkeypatch):
        monkeypatch.setattr(preparation, "SMALL_BYTES", 0)

    def test_same_entries_and_errors_as_in_one_process(self, tmp_path, dataset, data):
        (data / "c.npz").write_bytes(b"nonsense")
        one = Store(tmp_path / "one").prepare(dataset, dataset.refs, views=VIEWS, truth=True, on_error="collect")
        two = Store(tmp_path / "two").prepare(
            dataset, dataset.refs, views=VIEWS, truth=True, workers=2, on_error="collect"
        )
        assert set(one.failures) == {"c"}
        assert one.failures == two.failures
        for a, b in zip(one.cases, two.cases, strict=True):
            assert dataclasses.replace(b, path=a.path) == a
        for kind in ("native", "views", "truth"):
            assert [p.name for p in sorted((tmp_path / "one" / kind).iterdir())] == [
                p.name for p in sorted((tmp_path / "two" / kind).iterdir())
            ]

    def test_a_killed_process_is_an_error_and_the_rest_stays_usable(self, tmp_path, dataset, monkeypatch):
        monkeypatch.setenv("KILL_AT", "b")
        with pytest.raises(DataError, match=r"not finished: .*b.*fewer workers"):
            prepare(tmp_path, dataset, workers=2)
        monkeypatch.delenv("KILL_AT")
        assert [c.id for c in prepare(tmp_path, dataset).cases] == list("abcd")
        assert not [n for kind in ("native", "views", "truth") for n in entries(tmp_path, kind) if n.startswith(".")]


class TestTrouble:
    def test_all_bad_cases_are_named_at_once(self, tmp_path, dataset, data):
        for name in "ac":
            (data / f"{name}.npz").write_bytes(b"nonsense")
        with pytest.raises(DataError, match="2 of 4 cases") as caught:
            prepare(tmp_path, dataset)
        assert all(f"{data / name}.npz" in str(caught.value) for name in "ac")
        kept = prepare(tmp_path, dataset, on_error="collect")
        assert [c.id for c in kept.cases] == ["b", "d"]
        assert set(kept.failures) == {"a", "c"}
        assert set(kept.truths) == {"b", "d"}

    def test_missing_file(self, tmp_path, dataset, data):
        (data / "b.npz").unlink()
        with pytest.raises(DataError, match=r"b\.npz.*cannot be read"):
            prepare(tmp_path, dataset)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda image, label: (image, label * 0), "region of interest is empty"),
            (lambda image, label: (np.where(image > 400, np.nan, image), label), "NaN"),
            (lambda image, label: (image, label[1:]), "shape"),
        ],
    )
    def test_unusable_voxels(self, tmp_path, dataset, data, spoil, message):
        image, label = spoil(np.load(data / "a.npz")["image"], np.load(data / "a.label.npy"))
        np.savez(data / "a.npz", image=image)
        np.save(data / "a.label.npy", label)
        with pytest.raises(DataError, match=message):
            prepare(tmp_path, dataset)

    def test_truth_of_another_shape(self, tmp_path, dataset, monkeypatch):
        monkeypatch.setattr(type(dataset), "load_truth", lambda self, case: Truth(case, np.zeros((1, 2, 3), bool)))
        with pytest.raises(DataError, match=r"lesion mask has shape \(1, 2, 3\)"):
            prepare(tmp_path, dataset)

    def test_an_adapter_that_raises_something_else(self, tmp_path, dataset, monkeypatch):
        monkeypatch.setattr(type(dataset), "load", lambda self, case: 1 / 0)
        with pytest.raises(DataError, match="ZeroDivisionError in the adapter of arrays"):
            prepare(tmp_path, dataset)

    def test_full_disk_leaves_nothing_half_written(self, tmp_path, dataset, monkeypatch):
        def full(_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, "fsync", full)
            with pytest.raises(DataError, match=r"disk is full: .* MiB are needed"):
                prepare(tmp_path, dataset)
            assert entries(tmp_path, "native") == []
        assert len(prepare(tmp_path, dataset).cases) == 4

    def test_read_only_cache(self, tmp_path, dataset, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(atomic.Path, "mkdir", refuse)
        with pytest.raises(DataError, match=r"cannot be written \(Permission denied\); choose another folder"):
            prepare(tmp_path, dataset)

    @pytest.mark.parametrize("name", ["image.npy", "roi.npy", "meta.json"])
    def test_damaged_entries_say_what_to_do(self, tmp_path, dataset, name):
        pointer = prepare(tmp_path, dataset).cases[0]
        for path, read in (
            (pointer.path, lambda: (pointer.case(), pointer.slice_hashes())),
            (pointer.view_path(VIEWS[0]), lambda: pointer.viewed(VIEWS[0])),
        ):
            (path / name).write_bytes((path / name).read_bytes()[:60])
            with pytest.raises(DataError, match="missing or damaged"):
                read()

    def test_missing_entry(self, tmp_path):
        with pytest.raises(DataError, match="missing or damaged"):
            load_truth(TruthRef(tmp_path / "none", "f"))

    def test_leftovers_of_dead_processes_are_removed(self, tmp_path, dataset):
        prepare(tmp_path, dataset)
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        host = os.uname().nodename
        stale = tmp_path / "cache" / "native" / f".x.partial-{host}-{dead.pid}-00000000"
        alive = tmp_path / "cache" / "native" / f".x.partial-{host}-{os.getpid()}-00000000"
        elsewhere = tmp_path / "cache" / "views" / f".x.partial-other-{dead.pid}-00000000"
        for folder in (stale, alive, elsewhere):
            folder.mkdir()
            (folder / "image.npy").write_bytes(b"")
        prepare(tmp_path, dataset)
        assert [p.exists() for p in (stale, alive, elsewhere)] == [False, True, True]

    def test_a_faster_process_wins(self, tmp_path):
        final = tmp_path / "entry"
        with atomic.new_folder(final) as folder:
            (folder / "a").write_text("mine")
            final.mkdir()
            (final / "a").write_text("theirs")
        assert (final / "a").read_text() == "theirs"
        assert [p.name for p in tmp_path.iterdir()] == ["entry"]


class Local(Dataset):
    """An adapter that other processes could not import."""

    card = DatasetCard(
        name="local",
        title="Local",
        anatomy="liver",
        role="healthy",
        licence="",
        citation="",
        obtain="",
        layout="",
        roi_source="",
    )

    def discover(self, root: Path) -> list[CaseRef]:
        (root / "x").write_text("x")
        return [CaseRef("x", "x", root / "x")]

    def load(self, case_id: str) -> Case:
        image = np.full((1, 4, 4), 30, np.float32)
        return Case(case_id, case_id, image, (1, 1, 1), np.ones(image.shape, bool))

    def load_truth(self, case_id: str) -> Truth:
        return Truth(case_id, slice_labels=np.array([True]))


def test_sets_with_slice_labels_only(tmp_path):
    dataset = Local()
    refs = dataset.discover(tmp_path)
    prepared = Store(tmp_path / "cache").prepare(dataset, refs, truth=True)
    truth = load_truth(prepared.truths["x"])
    assert truth.lesion is None
    assert truth.slice_labels is not None
    assert truth.slice_labels.tolist() == [True]


def test_an_interrupted_preparation_is_continued(tmp_path, adapter, data):
    """A process that is killed in the middle leaves whole entries only, and the next one does the rest."""
    code = (
        "import sys; from pathlib import Path; import arrays_adapter as m;"
        "from uasbench.datasets.store import Store; from uasbench.datasets.view import View;"
        "d = m.Arrays(); refs = d.discover(Path(sys.argv[1]));"
        "Store(sys.argv[2]).prepare(d, refs, views=[View(size=16)], truth=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(adapter.__file__).parent), "KILL_AT": "c"}
    command = [sys.executable, "-c", code, str(data), str(tmp_path / "cache")]
    assert subprocess.run(command, env=environment, cwd=tmp_path, check=False).returncode == 9
    assert len(entries(tmp_path, "native")) == 2
    dataset = adapter.Arrays()
    dataset.refs = dataset.discover(data)
    prepared = prepare(tmp_path, dataset, views=[View(size=16)])
    assert dataset.loaded == ["c", "d"]
    assert len(prepared.truths) == 4
