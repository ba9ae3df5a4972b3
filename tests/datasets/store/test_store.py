"""What is prepared comes back, and is prepared once."""

import dataclasses

import numpy as np
import pytest
from pydantic import TypeAdapter
from uasbench.datasets.case import Note, Trust, Truth, warning
from uasbench.datasets.storing import store
from uasbench.datasets.storing.prepared import PreparedCase, TruthRef, load_truth
from uasbench.datasets.views.slice_view import View
from uasbench.datasets.views.volume_view import apply_view


def test_what_was_prepared_comes_back_and_pointers_travel_as_json(prepare, views, tmp_path, dataset, data):
    prepared = prepare(tmp_path, dataset)
    assert [c.id for c in prepared.cases] == list("abcd")
    for pointer in prepared.cases:
        original = dataset.load(pointer.id)
        case = pointer.case()
        assert case.image.dtype == np.float32
        np.testing.assert_array_equal(case.image, original.image)
        np.testing.assert_array_equal(case.roi, original.roi)
        assert (case.spacing, case.patient) == ((2.0, 0.8, 0.7), f"patient-{case.id}")
        assert case.notes == (Note("found"), Note("read"), warning("look"))
        assert case.trust == pointer.trust == Trust("table", spacing_trusted=False, orientation_source="anatomy")
        assert pointer.shape == case.image.shape
        assert pointer.roi_slices() == (1, 2, 3)
        assert pointer.roi_voxels() == case.roi.sum()
        for view in views:
            seen, expected = pointer.viewed(view), apply_view(original, view)
            for field in ("image", "roi", "support"):
                np.testing.assert_array_equal(getattr(seen, field), getattr(expected, field))
            assert seen.geometry == expected.geometry
            assert seen.image.dtype == view.dtype
        truth = load_truth(prepared.truths[pointer.id])
        np.testing.assert_array_equal(truth.lesion, np.load(data / f"{pointer.id}.label.npy") == 2)
        np.testing.assert_array_equal(truth.slice_labels, [False, False, True, False, False])
    stored = [np.load(p.path / "image.npy", mmap_mode="r").dtype for p in prepared.cases]
    assert stored == [np.int16, np.int16, np.int16, np.float32]
    for case in prepared.cases:
        text = TypeAdapter(PreparedCase).dump_json(case)
        assert TypeAdapter(PreparedCase).validate_json(text) == case
        assert not [word for word in (b"label", b"truth") if word in text]
    for truth in prepared.truths.values():
        assert TypeAdapter(TruthRef).validate_json(TypeAdapter(TruthRef).dump_json(truth)) == truth


def test_each_case_is_decoded_once_and_its_unchanged_files_are_never_read_again(
    prepare, views, tmp_path, dataset, settled, monkeypatch
):
    first = prepare(tmp_path, dataset)
    assert dataset.loaded == list("abcd")
    assert prepare(tmp_path, dataset) == first
    more = prepare(tmp_path, dataset, views=[*views, View(size=8)])
    assert more.cases == first.cases
    assert dataset.loaded == list("abcd")
    monkeypatch.setattr(store, "file_digest", lambda path: pytest.fail(f"{path} was read"))
    assert prepare(tmp_path, dataset) == first


def test_fresh_files_are_not_trusted_by_their_time_stamp(prepare, tmp_path, dataset):
    prepare(tmp_path, dataset)
    assert not (tmp_path / "cache" / "index").exists()


def test_labels_inside_the_roi_change_the_truth_alone(prepare, entries, views, tmp_path, dataset, data, settled):
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
def test_fingerprint_follows_voxels_and_roi(prepare, tmp_path, dataset, data, change, settled):
    before = prepare(tmp_path, dataset).cases[0].fingerprint
    image, label = np.load(data / "a.npz")["image"].copy(), np.load(data / "a.label.npy")
    if change == "voxel":
        image[0, 0, 0] += 1
    else:
        label[1, 3, 4] = 0
    np.savez(data / "a.npz", image=image)
    np.save(data / "a.label.npy", label)
    assert prepare(tmp_path, dataset).cases[0].fingerprint != before


def test_patient_is_a_matter_of_the_pointer(prepare, tmp_path, dataset, settled):
    first = prepare(tmp_path, dataset).cases[0]
    dataset.refs = [dataclasses.replace(ref, patient="someone") for ref in dataset.refs]
    second = prepare(tmp_path, dataset).cases[0]
    assert second == dataclasses.replace(first, patient="someone")
    assert second.case().patient == "someone"


def test_slice_hashes_find_common_slices(prepare, tmp_path, dataset, data):
    image = np.load(data / "d.npz")["image"].copy()
    image[3] = np.load(data / "a.npz")["image"][1]
    np.savez(data / "d.npz", image=image)
    a, *_, d = (case.slice_hashes() for case in prepare(tmp_path, dataset).cases)
    assert (len(a), a[0]) == (5, "")
    assert a[1] == d[3]
    assert len({*a[1:], *d[1:]}) == 7


def test_view_that_was_not_prepared_is_computed_once(prepare, tmp_path, dataset):
    pointer = prepare(tmp_path, dataset).cases[0]
    view = View(size=9, window=(0, 100))
    np.testing.assert_array_equal(pointer.viewed(view).image, apply_view(pointer.case(), view).image)
    assert pointer.view_path(view).is_dir()
    assert pointer.view_path(view) == pointer.view_path(View(size=9, window=(0.0, 100.0)))


def test_writing_to_what_is_read_changes_no_file(prepare, views, tmp_path, dataset):
    prepared = prepare(tmp_path, dataset)
    for pointer in (prepared.cases[0], prepared.cases[3]):
        pointer.case().image[:] = 0
        pointer.viewed(views[0]).image[:] = 0
        assert pointer.case().image.any()
        assert pointer.viewed(views[0]).image.any()


def test_order_and_progress(prepare, tmp_path, dataset):
    seen = []
    dataset.refs = dataset.refs[::-1]
    prepared = prepare(tmp_path, dataset, progress=lambda *state: seen.append(state))
    assert [c.id for c in prepared.cases] == list("dcba")
    assert [s[:2] for s in seen] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert all("arrays" in text for *_, text in seen)


def test_sets_with_slice_labels_only(prepare, tmp_path, dataset, monkeypatch):
    labels = [True, False, True, False, False]
    monkeypatch.setattr(type(dataset), "load_truth", lambda _, case: Truth(case, slice_labels=np.array(labels)))
    truth = load_truth(prepare(tmp_path, dataset).truths["a"])
    assert (truth.lesion, truth.slice_labels.tolist()) == (None, labels)
