import os
import subprocess
import sys

import pytest
from uasbench.common import atomic
from uasbench.common.atomic import DiskError, new_file, remove_stale, write_file, write_text


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path):
    path = write_text(tmp_path / "new" / "a.json", "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    write_file(path, b"one", memoryview(b"two"))
    assert path.read_bytes() == b"onetwo"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    assert write_text(tmp_path / ("m" * 250), "x").read_text() == "x", "the longest name that a disk takes"


def test_an_error_in_the_block_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = write_text(tmp_path / "a", "old")

    def interrupted():
        with new_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "message"),
    [(28, "disk is full: 2 MiB are needed"), (30, r"cannot be written \(Read-only"), (13, r"cannot be written \(Perm")],
)
def test_a_full_or_closed_disk_is_said_and_the_old_file_stays(tmp_path, monkeypatch, number, message):
    def fail(_):
        raise OSError(number, os.strerror(number))

    path = write_text(tmp_path / "a", "old")
    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(DiskError, match=message):
        write_file(path, bytes(2 * 2**20))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_byte_reaches_the_disk_before_the_name_changes_and_then_the_name(tmp_path, monkeypatch):
    path, seen = write_text(tmp_path / "a", "old"), []
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: seen.append((os.fstat(handle).st_ino, path.read_text())))
    write_text(path, "newer")
    assert seen == [(path.stat().st_ino, "old"), (tmp_path.stat().st_ino, "newer")]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from uasbench.common.atomic import new_file\n"
        "with new_file(Path(sys.argv[1])) as f: f.write_text('half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path / "a")], check=False, cwd=tmp_path)
    assert [p.name[:3] for p in tmp_path.iterdir()] == [".a."]
    assert len(remove_stale(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []
