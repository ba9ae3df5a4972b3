"""What lies in the store is compared with its digests when it is read, and made again where it differs."""

import errno
from pathlib import Path

import numpy as np
import pytest
from uasbench.common.atomic import DiskError
from uasbench.common.sealed import DamagedError
from uasbench.datasets.storing import entries as files
from uasbench.datasets.storing.entries import remove_damaged
from uasbench.datasets.storing.prepared import TruthRef, load_truth
from uasbench.datasets.storing.store import Store

KINDS = {
    "native": ("image.npy", "roi.npy", "meta.json"),
    "views": ("image.npy", "roi.npy", "support.npy", "meta.json"),
    "truth": ("lesion.npy", "meta.json"),
}
FILES = [(kind, name) for kind, names in KINDS.items() for name in names]


def _content(entry: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in entry.iterdir()}


@pytest.fixture
def spoil():
    """Return ``spoil(path, how)``, which changes a file behind the back of whoever wrote it."""

    def change(path: Path, how: str) -> None:
        content = bytearray(path.read_bytes())
        if how == "flip":
            content[len(content) * 3 // 4] ^= 1
        path.unlink()
        path.write_bytes({"flip": content, "truncate": content[: len(content) // 2], "empty": b""}[how])

    return change


@pytest.mark.parametrize("how", ["flip", "truncate", "empty"])
@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_damaged_file_is_refused_by_name_and_its_entry_made_again(
    prepare, views, tmp_path, dataset, settled, spoil, kind, name, how
):
    first = prepare(tmp_path, dataset)
    case, truth = first.cases[0], first.truths["a"]
    entry = {"native": case.path, "views": case.view_path(views[0]), "truth": truth.path}[kind]
    whole = _content(entry)
    spoil(entry / name, how)
    with pytest.raises(DamagedError, match=str(entry / name)):
        {"native": case.case, "views": lambda: case.viewed(views[0]), "truth": lambda: load_truth(truth)}[kind]()
    assert [error.path for error in remove_damaged([entry])] == [entry / name]
    assert prepare(tmp_path, dataset) == first
    assert _content(entry) == whole
    assert remove_damaged(seal.parent for seal in (tmp_path / "cache").rglob("meta.json")) == []


@pytest.mark.parametrize("kind", ["native", "truth"])
def test_an_entry_whose_pointer_is_damaged_is_made_again_at_once(prepare, tmp_path, dataset, settled, spoil, kind):
    first = prepare(tmp_path, dataset)
    entry = first.cases[0].path if kind == "native" else first.truths["a"].path
    spoil(entry / "meta.json", "flip")
    assert prepare(tmp_path, dataset) == first


def test_an_index_that_is_damaged_costs_a_reading_alone(prepare, tmp_path, dataset, settled, spoil):
    first = prepare(tmp_path, dataset)
    for how in ("flip", "truncate", "empty"):
        spoil(next((tmp_path / "cache" / "index").iterdir()), how)
        assert prepare(tmp_path, dataset) == first


def test_another_entrys_file_is_noticed(prepare, tmp_path, dataset):
    one, two, *_ = prepare(tmp_path, dataset).cases
    (one.path / "image.npy").unlink()
    (one.path / "image.npy").write_bytes((two.path / "image.npy").read_bytes())
    with pytest.raises(DamagedError, match="digest differs"):
        one.case()


def test_a_flipped_name_of_the_digest_does_not_pass_as_an_entry_without(prepare, tmp_path, dataset):
    case = prepare(tmp_path, dataset).cases[0]
    meta = case.path / "meta.json"
    for key in ("digest", "files"):
        text = meta.read_text()
        meta.write_text(text.replace(f'"{key}"', f'"{key[:-1]}_"'))
        with pytest.raises(DamagedError):
            case.case()
        meta.write_text(text)


def test_arrays_are_written_read_only_and_their_views_are_private(prepare, views, tmp_path, dataset):
    case = prepare(tmp_path, dataset).cases[0]
    assert {path.stat().st_mode & 0o777 for path in case.path.glob("*.npy")} == {0o444}
    case.viewed(views[0]).image[:] = 7
    assert not (case.viewed(views[0]).image == 7).all()


def test_what_was_changed_through_a_shared_map_is_noticed(prepare, views, tmp_path, dataset):
    case = prepare(tmp_path, dataset).cases[0]
    path = case.view_path(views[0]) / "image.npy"
    path.chmod(0o644)
    array = np.load(path, mmap_mode="r+")
    array[:] = 0
    array.flush()
    with pytest.raises(DamagedError, match=r"image\.npy"):
        case.viewed(views[0])


class TestDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        def raises(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(files.np.lib.format, "write_array_header_1_0", raises)

    def test_a_full_cache_blames_no_case(self, prepare, tmp_path, dataset, full):
        with pytest.raises(DiskError) as caught:
            prepare(tmp_path, dataset)
        message = str(caught.value)
        assert message.startswith(f"cache {tmp_path / 'cache' / 'native'}: the disk is full")
        assert message.endswith("make room or choose another folder, with --cache or UASBENCH_CACHE")
        assert ".npz" not in message

    def test_a_cache_that_cannot_be_made_blames_no_case(self, tmp_path, dataset):
        (tmp_path / "file").write_text("")
        with pytest.raises(
            DiskError, match=r"^cache .*file/store/native cannot be written .*--cache or UASBENCH_CACHE"
        ):
            Store(tmp_path / "file" / "store").prepare(dataset, dataset.refs)

    def test_a_complete_cache_needs_no_writing(self, prepare, tmp_path, dataset, settled, monkeypatch):
        first = prepare(tmp_path, dataset)
        for path in (tmp_path / "cache" / "index").iterdir():
            path.unlink()

        opened = Path.open

        def read_only(path, mode="r", *rest, **options):
            if "w" in mode:
                raise OSError(errno.EROFS, "Read-only file system")
            return opened(path, mode, *rest, **options)

        def kept(path, missing_ok=False):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(Path, "open", read_only)
        monkeypatch.setattr(Path, "unlink", kept)
        assert prepare(tmp_path, dataset) == first


def test_a_truth_that_is_gone_is_named(tmp_path):
    with pytest.raises(DamagedError, match=r"none/meta.json is missing"):
        load_truth(TruthRef(tmp_path / "none", "f"))
