import os
import subprocess
import sys

import pytest
from uasbench.common import processes
from uasbench.common.errors import UasbenchError

FORK = """
import multiprocessing as mp
from uasbench.common.processes import short_socket_folder
if __name__ == "__main__":
    short_socket_folder()
    process = mp.get_context("forkserver").Process(target=print, args=("up",))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""


@pytest.mark.parametrize("length", [1, 100, 180])
def test_workers_start_however_long_the_name_of_the_temporary_folder(tmp_path, length):
    script, folder = tmp_path / "fork.py", tmp_path / ("x" * length)
    script.write_text(FORK)
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "up\n", "")


def test_without_any_short_folder_the_fix_is_said(monkeypatch):
    monkeypatch.setattr(processes, "SHORT_FOLDERS", ())
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: "/" + "x" * 120)
    with pytest.raises(UasbenchError, match=r"TMPDIR is 121 characters long .* set a folder of at most 70"):
        processes.short_socket_folder()
