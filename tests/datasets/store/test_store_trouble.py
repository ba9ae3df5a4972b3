"""Damaged files, killed processes, full disks: what the store says and what stays usable."""

import dataclasses
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from uasbench.common import atomic
from uasbench.common.atomic import DiskError
from uasbench.common.errors import DataError
from uasbench.datasets.case import Truth
from uasbench.datasets.readers import Readers
from uasbench.datasets.storing import room, store
from uasbench.datasets.storing.prepared import TruthRef, load_truth
from uasbench.datasets.storing.store import Store


class TestReaders:
    @pytest.fixture(autouse=True)
    def _no_set_is_small(self, monkeypatch):
        monkeypatch.setattr(store, "SMALL_BYTES", 0)

    def test_same_entries_and_errors_as_in_one_process(self, views, tmp_path, dataset, data):
        (data / "c.npz").write_bytes(b"nonsense")
        options = {"views": views, "truth": True, "on_error": "collect"}
        one = Store(tmp_path / "one").prepare(dataset, dataset.refs, **options)
        with Readers(2) as readers:
            two = Store(tmp_path / "two").prepare(dataset, dataset.refs, readers=readers, **options)
        assert set(one.failures) == {"c"}
        assert one.failures == two.failures
        for a, b in zip(one.cases, two.cases, strict=True):
            assert dataclasses.replace(b, path=a.path) == a
        for kind in ("native", "views", "truth"):
            names = [{p.name for p in (tmp_path / home / kind).iterdir()} for home in ("one", "two")]
            assert names[0] == names[1]

    @pytest.mark.parametrize(
        ("way", "words"),
        [
            ("segfault", "the reader crashed (SIGSEGV)"),
            ("abort", "the reader crashed (SIGABRT)"),
            ("nothing", "the reader ended with exit status 0 and no result"),
            ("exit", "SystemExit in the adapter of arrays: 3"),
            ("interrupt", "KeyboardInterrupt"),
        ],
    )
    def test_a_reader_that_ends_costs_its_case_and_the_next_run_does_the_rest(
        self, prepare, entries, tmp_path, dataset, data, monkeypatch, way, words
    ):
        monkeypatch.setenv("END_AT", "d")
        monkeypatch.setenv("END_BY", way)
        with Readers() as readers:
            found = prepare(tmp_path, dataset, readers=readers, on_error="collect")
        assert [case.id for case in found.cases] == ["a", "b", "c"]
        assert str(data / "d.npz") in found.failures["d"]
        assert words in found.failures["d"]
        monkeypatch.delenv("END_AT")
        assert [c.id for c in prepare(tmp_path, dataset).cases] == list("abcd")
        assert dataset.loaded == ["d"]
        assert not [n for kind in ("native", "views", "truth") for n in entries(tmp_path, kind) if n.startswith(".")]

    def test_what_libraries_say_is_a_note_of_the_case(self, prepare, tmp_path, dataset, monkeypatch, capfd):
        monkeypatch.setenv("END_AT", "c")
        monkeypatch.setenv("END_BY", "warn")
        with Readers() as readers:
            cases = prepare(tmp_path, dataset, readers=readers).cases
        said = [[note.text for note in case.notes if note.text.startswith("while reading: ")] for case in cases]
        assert said == [[], [], ["while reading: odd header", "while reading: ITK WARNING: odd spacing"], []]
        assert capfd.readouterr() == ("", "")

    def test_an_adapter_that_a_reader_cannot_import_says_so(self, prepare, tmp_path, dataset, monkeypatch):
        monkeypatch.setattr(sys, "path", [path for path in sys.path if "plugin" not in path])
        with Readers() as readers, pytest.raises(DataError, match="No module named 'arrays_adapter'"):
            prepare(tmp_path, dataset, readers=readers)


class TestTrouble:
    def test_a_file_that_cannot_be_asked_fails_its_case_alone_in_every_run(
        self, prepare, tmp_path, dataset, data, monkeypatch
    ):
        monkeypatch.setattr(store, "_SETTLED_NS", -(10**12))
        dataset.refs[0] = dataclasses.replace(dataset.refs[0], label=data / ("x" * 300))
        for _ in range(2):
            failures = prepare(tmp_path, dataset, on_error="collect").failures
            assert set(failures) == {"a"}
            assert "File name too long" in failures["a"]

    def test_all_bad_cases_are_named_at_once(self, prepare, tmp_path, dataset, data):
        for name in "ac":
            (data / f"{name}.npz").write_bytes(b"nonsense")
        with pytest.raises(DataError, match="2 of 4 cases") as caught:
            prepare(tmp_path, dataset)
        assert all(f"{data / name}.npz" in str(caught.value) for name in "ac")
        kept = prepare(tmp_path, dataset, on_error="collect")
        assert [c.id for c in kept.cases] == ["b", "d"]
        assert set(kept.failures) == {"a", "c"}
        assert set(kept.truths) == {"b", "d"}
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
    def test_unusable_voxels(self, prepare, tmp_path, dataset, data, spoil, message):
        image, label = spoil(np.load(data / "a.npz")["image"], np.load(data / "a.label.npy"))
        np.savez(data / "a.npz", image=image)
        np.save(data / "a.label.npy", label)
        with pytest.raises(DataError, match=message):
            prepare(tmp_path, dataset)

    def test_an_adapter_whose_truth_has_another_shape_or_that_raises_something_else(
        self, prepare, tmp_path, dataset, monkeypatch
    ):
        monkeypatch.setattr(type(dataset), "load_truth", lambda self, case: Truth(case, np.zeros((1, 2, 3), bool)))
        with pytest.raises(DataError, match=r"lesion mask has shape \(1, 2, 3\)"):
            prepare(tmp_path / "shape", dataset)
        monkeypatch.setattr(type(dataset), "load", lambda self, case: 1 / 0)
        with pytest.raises(DataError, match="ZeroDivisionError in the adapter of arrays"):
            prepare(tmp_path, dataset)

    def test_full_disk_leaves_nothing_half_written(self, prepare, entries, tmp_path, dataset, monkeypatch):
        def full(_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, "fsync", full)
            with pytest.raises(DataError, match=r"disk is full: .* MiB are needed"):
                prepare(tmp_path, dataset)
            assert entries(tmp_path, "native") == []
        assert len(prepare(tmp_path, dataset).cases) == 4

    @pytest.mark.parametrize("name", ["image.npy", "roi.npy", "meta.json"])
    def test_damaged_and_missing_entries_say_what_to_do(self, prepare, views, tmp_path, dataset, name):
        pointer = prepare(tmp_path, dataset).cases[0]
        for path, read in (
            (pointer.path, lambda: (pointer.case(), pointer.slice_hashes())),
            (pointer.view_path(views[0]), lambda: pointer.viewed(views[0])),
        ):
            (path / name).write_bytes((path / name).read_bytes()[:60])
            with pytest.raises(DataError, match="missing or damaged"):
                read()
        with pytest.raises(DataError, match="missing or damaged"):
            load_truth(TruthRef(tmp_path / "none", "f"))

    def test_leftovers_of_dead_processes_are_removed(self, prepare, tmp_path, dataset):
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


@pytest.mark.parametrize("short", [False, True])
def test_scans_that_will_not_fit_are_refused_while_there_is_room(
    prepare, tmp_path, dataset, settled, monkeypatch, short
):
    """After three of four scans the last is expected to take a third of what they took."""

    def size() -> int:
        files = (path for kind in ("native", "views", "truth") for path in (tmp_path / "cache" / kind).rglob("*"))
        return sum(path.stat().st_size for path in files if path.is_file())

    share = 0.9 if short else 1.1
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(share * size() / 3)))
    if not short:
        prepare(tmp_path, dataset)
        return
    with pytest.raises(DiskError, match=r"1 more scans of arrays will take .* --cache"):
        prepare(tmp_path, dataset)
    assert dataset.loaded == list("abc")
    prepare(tmp_path, dataset)  # what is there takes nothing, and of one scan alone nothing is expected
    assert dataset.loaded == list("abcd")
