"""The small commands, as a user types them."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from uasbench import cli
from uasbench.benchmark.planning.options import RunOptions

BENCH = Path(sys.executable).with_name("bench")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory):
    """Run the command in an empty folder with a cache of its own and no data root."""
    here = tmp_path_factory.mktemp("here")
    environment = {k: v for k, v in os.environ.items() if k != "UASBENCH_DATA"}
    environment["UASBENCH_CACHE"] = str(here / "cache")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BENCH), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment, check=False)

    call.here = here
    return call


def test_help_names_every_command(bench):
    shown = bench("--help").stdout
    words = "run reproduce rescore report compare list show check import new-plugin doctor ui track clean data"
    for command in words.split():
        assert f"\n  {command} " in shown


def test_every_option_of_a_run_is_a_field_of_its_options():
    assert inspect.signature(cli.run).parameters.keys() - {"ctx"} <= RunOptions.model_fields.keys()


def test_lists(bench):
    methods = bench("list", "methods").stdout
    assert all(name in methods for name in ("hu-deviation", "roi-area", "ae", "dae", "draem", "two-stage"))
    assert all(name in bench("list", "datasets").stdout for name in ("lits", "btcv"))
    assert "liver/table2" in bench("list", "experiments").stdout
    wrong = bench("list", "method")
    assert (wrong.returncode, "choose methods" in wrong.stderr) == (2, True)


def test_phantom_is_written_checked_and_recognised(bench):
    written = bench("data", "phantom", "--out", "phantom", "--size", "smoke")
    assert written.returncode == 0, written.stderr
    checked = bench("data", "check", "phantom")
    assert checked.returncode == 0, checked.stdout
    assert "ready to use" in checked.stdout
    assert bench("data", "phantom", "--out", "phantom", "--size", "huge").returncode == 2
    prepared = bench("data", "prepare", "--dataset", "lits", "--data-root", "phantom", "--profile", "smoke")
    assert prepared.returncode == 0, prepared.stderr
    assert "lits: 2 cases; btcv: 2 cases" in prepared.stdout


def test_a_bad_file_is_named_with_its_fix(bench):
    bench("data", "phantom", "--out", "broken", "--size", "smoke")
    volume = next((bench.here / "broken").rglob("volume-1.nii"))
    volume.write_bytes(volume.read_bytes()[:5000])
    checked = bench("data", "check", "broken")
    assert checked.returncode == 2
    assert "volume-1.nii" in checked.stdout
    run = bench("run", "--methods", "hu-deviation", "--dataset", "lits", "--data-root", "broken", "--profile", "smoke")
    assert run.returncode == 2
    assert "volume-1.nii" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "command", [["report", "nowhere"], ["ui", "nowhere"], ["clean", "nowhere"], ["track", "nowhere"]]
)
def test_a_folder_that_is_no_run_is_refused(bench, command):
    done = bench(*command)
    assert (done.returncode, "run.json" in done.stderr) == (2, True)


def test_without_data_the_error_shows_the_ways_out(bench):
    done = bench("run", "--dataset", "lits", "--profile", "smoke")
    assert done.returncode == 2
    for word in ("--data-root", "UASBENCH_DATA", "--phantom", "get it:", "layout:"):
        assert word in done.stderr


def test_doctor_reports_and_never_fails(bench):
    done = bench("doctor")
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout
