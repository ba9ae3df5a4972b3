"""What a process can still open after it has restricted itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from uasbench.common import landlock

pytestmark = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")

CODE = """
import os, subprocess, sys
from pathlib import Path
from uasbench.common.landlock import restrict
folder = Path(sys.argv[1])
system = [Path("/usr"), Path("/lib"), Path("/lib64")]
restrict([*system, folder / "read", folder / "file.txt"], [folder / "write"], [folder])

def attempt(name, do):
    try:
        do()
        print(name, "done")
    except OSError as error:
        print(name, type(error).__name__)

attempt("read", lambda: (folder / "read" / "a.txt").read_text())
attempt("read a file that is named", lambda: (folder / "file.txt").read_text())
attempt("list", lambda: os.listdir(folder / "secret"))
attempt("write", lambda: (folder / "write" / "new.txt").write_text("x"))
attempt("read elsewhere", lambda: (folder / "secret" / "a.txt").read_text())
attempt("write what is read", lambda: (folder / "read" / "a.txt").write_text("x"))
attempt("truncate", lambda: os.truncate(folder / "read" / "a.txt", 0))
attempt("through a link", lambda: (folder / "write" / "link").read_text())
attempt("link", lambda: os.link(folder / "read" / "a.txt", folder / "write" / "hard"))
attempt("rename into", lambda: os.rename(folder / "write" / "new.txt", folder / "read" / "new.txt"))
attempt("remove", lambda: os.remove(folder / "read" / "a.txt"))
attempt("child", lambda: subprocess.run(["/usr/bin/cat", folder / "secret" / "a.txt"], stdout=2))
"""


def test_only_what_is_named_can_be_opened(tmp_path):
    for name in ("read", "write", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("content")
    (tmp_path / "file.txt").write_text("content")
    (tmp_path / "write" / "link").symlink_to(tmp_path / "secret" / "a.txt")
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True)
    said = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    allowed = {"read", "read a file that is named", "list", "write", "child"}
    assert {name for name, outcome in said.items() if outcome == "done"} == allowed
    assert len(said) == 12
    assert "Permission denied" in done.stderr
    assert "content" not in done.stderr
    assert Path(tmp_path / "read" / "a.txt").read_text() == "content"


def test_a_kernel_without_it_says_so(monkeypatch):
    monkeypatch.setattr(landlock, "_CREATE_RULESET", 100_000)
    landlock.abi.cache_clear()
    try:
        assert landlock.abi() == 0
        with pytest.raises(OSError, match="Landlock"):
            landlock.restrict([], [])
    finally:
        landlock.abi.cache_clear()
