"""What stands between a method and the labels, and what a method's process may do to the run."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from uasbench.benchmark.conformance import walls
from uasbench.benchmark.conformance.thieves import PAST_PYTHON, ROUTES
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.benchmark.stages import wall
from uasbench.benchmark.stages.apart import LOG_LIMIT
from uasbench.benchmark.stages.wall import WALL, WallError, available, weakest
from uasbench.common import landlock
from uasbench.common.errors import DataError

STEALABLE = set(ROUTES) - {"working folder"}
"""What works without a wall; the folder that a stage works in is its own, wall or not."""


@pytest.mark.parametrize("kind", ["landlock", "audit", "none"])
def test_thieves(kind):
    if kind == "landlock" and not landlock.abi():
        pytest.skip("this kernel has no Landlock")
    expected = {"landlock": set(), "audit": set(PAST_PYTHON), "none": STEALABLE}
    assert set(walls.stolen("liver", kind)) == expected[kind]


def test_a_method_that_looks_for_labels_is_seen():
    honest, thief = "uasbench.methods.trivial.baselines:HuDeviation", "uasbench.benchmark.conformance.thieves:Thief"
    assert walls.attempts("liver", honest, None) == []
    assert "cache/store" in walls.attempts("liver", thief, None)


def test_the_working_folder_is_a_way_where_it_is_a_run(tmp_path, monkeypatch):
    (tmp_path / "cache" / "store" / "truth" / "label").mkdir(parents=True)
    (tmp_path / "cache" / "store" / "truth" / "label" / "lesion.npy").write_bytes(b"mask")
    (tmp_path / "run" / "logs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    assert b"mask" in list(ROUTES["working folder"](""))


def test_the_wall_that_is_asked_for(monkeypatch):
    monkeypatch.setenv(WALL, "fence")
    with pytest.raises(WallError, match="UASBENCH_WALL=fence: choose none, audit, landlock"):
        available()
    monkeypatch.setenv(WALL, "landlock")
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(WallError, match="no Landlock"):
        available()
    monkeypatch.delenv(WALL)
    assert available() == "audit"


def test_a_cell_is_as_open_as_its_most_open_stage():
    assert weakest(["landlock", "audit"]) == "audit"
    assert weakest(["landlock", "none", "audit"]) == "none"
    assert weakest(["landlock"]) == "landlock"
    assert weakest([]) == "none"


def test_a_run_records_its_wall(run):
    (record,) = run("hu-deviation").records
    assert record.isolation == available()


def test_the_hook_takes_no_path_that_starts_elsewhere_and_no_database_outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hook = wall._hook([], [tmp_path], [])
    hook("open", ("scratch", "w", os.O_WRONLY))
    hook("sqlite3.connect", (":memory:",))
    for event, path in (("open", "../x/y"), ("sqlite3.connect", "/etc/x.db"), ("sqlite3.connect", "file:/etc/x.db")):
        with pytest.raises(PermissionError):
            hook(event, (path, "r", 0))


@pytest.mark.parametrize("kind", ["data", "cache", "out"])
def test_labels_in_a_place_that_every_method_may_read_are_refused(tmp_path, monkeypatch, root, smoke, kind):
    shared = tmp_path / "weights"
    shutil.copytree(root, shared / "data")
    places = {"data": root, "cache": tmp_path / "cache", "out": tmp_path / "run"} | {kind: shared / kind}
    options = smoke("hu-deviation", data_root=places["data"], cache=places["cache"], out=places["out"])
    monkeypatch.setenv("UASBENCH_WEIGHTS", str(shared))
    with pytest.raises(DataError, match=f"{shared / kind} lies in {shared}, which every method may read"):
        planned_tasks(options, 1)
    monkeypatch.setenv(WALL, "none")
    assert planned_tasks(options, 1)


def test_data_beside_a_checkout_are_not_part_of_it(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    below = [place for place in wall._interpreter() if tmp_path in (place, *place.parents)]
    assert sorted(below) == [tmp_path / "module.py", tmp_path / "package"]
    (tmp_path / "installed-1.0.dist-info").mkdir()
    assert [place for place in wall._interpreter() if tmp_path in (place, *place.parents)] == [tmp_path]


def test_the_pipes_of_mps_are_open_where_cuda_looks_for_them(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    usual, named = tmp_path / "nvidia-mps", tmp_path / "named"
    monkeypatch.setattr(wall, "MPS", usual)

    def found():
        return [place for place in wall._devices() if tmp_path in place.parents]

    assert found() == []
    usual.mkdir()
    assert found() == [usual]
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(named))
    assert found() == [named]
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY")
    usual.rmdir()
    (tmp_path / "labels").mkdir()
    usual.symlink_to(tmp_path / "labels")
    assert found() == []


APART = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from uasbench.benchmark.stages.apart import Apart
from uasbench.benchmark.stages.wall import Places

def inside(progress):
    {body}

Apart(lambda *done: print("progress", done, flush=True))(inside, {places})
"""


def apart(body: str, places: str = "None", **options) -> subprocess.CompletedProcess:
    code = APART.format(body=body, places=places)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **options)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('first line\\nsecond line')", "StageError: ValueError: first line"),
        ("sys.exit(4)", "StageError: SystemExit: 4"),
        ("os._exit(3)", "exit status 3 and no result"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL; the kernel may have run out of memory"),
        ("os.write(3, b'no json\\n[1]\\n{\"error\": 5}\\n'); os._exit(0)", "exit status 0 and no result"),
        ("os.write(3, b'x' * 2**21); os._exit(0)", "exit status 0 and no result"),
    ],
)  # fmt: skip
def test_every_way_in_which_a_method_ends_is_told(body, message):
    done = apart(body)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_progress_and_output_are_relayed_and_a_log_has_a_limit():
    done = apart("progress(1, 2); print('hello'); [print('y' * 2**20) for _ in range(8)]; print('the end')")
    assert done.returncode == 0
    assert "progress (1, 2)" in done.stdout
    assert "hello" in done.stdout
    assert done.stdout.rstrip().endswith("the end")
    assert "bytes left out" in done.stdout
    assert len(done.stdout) < LOG_LIMIT + 2**17


@pytest.mark.parametrize(
    "body",
    [
        "threading.Thread(target=time.sleep, args=(600,)).start()",
        "print(subprocess.Popen(['sleep', '600']).pid)",
        "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)",
        "print(os.getpid()) if os.fork() else (os.setsid(), time.sleep(600))",
    ],
)
def test_what_a_method_starts_ends_with_it(body):
    start = time.monotonic()
    done = apart(body)
    assert done.returncode == 0
    assert time.monotonic() - start < 300, "it waited for what the method had left"
    for pid in map(int, done.stdout.split()):
        assert not Path(f"/proc/{pid}").exists()


def test_a_method_has_nothing_open_but_its_output_and_its_reports(tmp_path):
    (tmp_path / "label").write_text("x")
    done = apart("print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:5])", stdin=(tmp_path / "label").open())
    assert done.stdout.strip() == "[0, 1, 2, 3, 4]"  # 4 is the folder that is being listed
    done = apart("print([os.readlink(f'/proc/self/fd/{n}').partition(':')[0] for n in range(4)], os.getcwd())")
    assert "['/dev/null', 'pipe', 'pipe', 'pipe'] /tmp/uasbench-" in done.stdout


@pytest.mark.skipif(landlock.abi() < 6, reason="signals are walled off from version 6 of Landlock on")
def test_a_method_kills_nobody_else():
    done = apart("os.kill(os.getppid(), signal.SIGKILL)", "Places()")
    assert "PermissionError" in done.stderr.splitlines()[-1]


def test_a_link_in_what_a_stage_leaves_is_refused(tmp_path):
    from uasbench.benchmark.stages.inputs import LeftBehindError, check_whole

    with pytest.raises(LeftBehindError, match=r"ended without map\.json"):
        check_whole(tmp_path, "map.json")
    (tmp_path / "map.json").touch()
    check_whole(tmp_path, "map.json")
    (tmp_path / "healthy").mkdir()
    (tmp_path / "healthy" / "a.map").symlink_to("/etc/passwd")
    with pytest.raises(LeftBehindError, match=r"left a\.map"):
        check_whole(tmp_path, "map.json")


def test_the_end_of_a_submitter_ends_a_stage_and_what_it_started(tmp_path):
    started = tmp_path / "pid"
    body = f"Path({str(started)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    code = APART.format(body=body, places="None").replace("flush=True))(", "flush=True), 0)(")
    ours, theirs = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=ours)
    os.close(ours)
    deadline = time.monotonic() + 60
    while not started.exists() or not started.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.close(theirs)
    assert process.wait(60) == 1
    assert not Path("/proc", started.read_text()).exists()
