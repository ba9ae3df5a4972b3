from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common import fingerprint
from uasbench.common.fingerprint import array_digest, file_digest


def _age(path, seconds=60):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_digest_follows_the_bytes_not_the_name(tmp_path):
    (tmp_path / "a").write_bytes(b"scan")
    (tmp_path / "b").write_bytes(b"scan")
    (tmp_path / "c").write_bytes(b"scam")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")


def test_cache_is_used_and_noticed_changes_are_not_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    path, cache = tmp_path / "scan", tmp_path / "cache"
    path.write_bytes(b"one")
    _age(path)
    first = file_digest(path, cache)
    entry = next(cache.rglob("*.json"))
    entry.write_text(entry.read_text().replace(first, "0" * 20))
    assert file_digest(path, cache) == "0" * 20
    path.write_bytes(b"two")
    _age(path)
    assert file_digest(path, cache) == file_digest(path)


def test_fresh_files_are_not_cached(tmp_path):
    path, cache = tmp_path / "scan", tmp_path / "cache"
    path.write_bytes(b"one")
    file_digest(path, cache)
    assert not list(cache.rglob("*.json"))


def test_a_broken_or_unwritable_cache_costs_only_speed(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", 0)
    path, cache = tmp_path / "scan", tmp_path / "cache"
    path.write_bytes(b"one")
    expected = file_digest(path, cache)
    next(cache.rglob("*.json")).write_text("{")
    assert file_digest(path, cache) == expected
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert file_digest(path, blocked / "cache") == expected


def test_several_processes_share_the_cache(tmp_path):
    path, cache = tmp_path / "scan", tmp_path / "cache"
    path.write_bytes(b"x" * 100_000)
    code = (
        "import sys; from pathlib import Path; from uasbench.datasets import fingerprint as f; f._SETTLED_NS = 0\n"
        "for _ in range(50): digest = f.file_digest(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(digest)"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, path, cache], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(3)
    ]
    assert {w.communicate()[0].strip() for w in workers} == {file_digest(path)}
    assert not list(cache.rglob("*.tmp"))


@given(st.lists(st.integers(-1024, 3071), min_size=1, max_size=20))
def test_array_digest_sees_values_dtype_and_shape(values):
    array = np.array(values, dtype=np.int16)
    assert array_digest(array) == array_digest(np.array(values, dtype=">i2"))
    assert array_digest(array) == array_digest(np.repeat(array, 2)[::2])
    assert array_digest(array) != array_digest(array.astype(np.float32))
    assert array_digest(array) != array_digest(array[None])
    changed = array.copy()
    changed[-1] += 1
    assert array_digest(array) != array_digest(changed)
    assert array_digest(array, array) != array_digest(array)


def test_array_digest_of_empty_and_bool_arrays():
    assert array_digest(np.zeros((0, 3), bool)) != array_digest(np.zeros((3, 0), bool))
