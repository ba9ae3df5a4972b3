"""The small commands, as a user types them."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from uasbench import cli
from uasbench.benchmark.experiments import load
from uasbench.benchmark.planning.options import RunOptions


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command in this process, in an empty folder with a cache of its own and no data root."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UASBENCH_DATA", raising=False)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return call


def test_help_names_every_command(bench):
    shown = bench("--help").stdout
    words = "run plan reproduce tune rescore verify report compare list show check import export new-plugin doctor ui"
    for command in f"{words} track clean data".split():
        assert f"\n  {command} " in shown


def test_every_option_of_a_run_is_a_field_of_its_options():
    assert inspect.signature(cli.run).parameters.keys() - {"ctx"} <= RunOptions.model_fields.keys()


def test_a_plan_takes_the_options_of_a_run_or_an_experiment(bench, tmp_path):
    words = ("--phantom", "--profile", "smoke", "--seeds", "2", "--no-calibrate", "--json")
    done = bench("plan", "--methods", "hu-deviation,ae", "--dataset", "lits", "--set", "ae.lr=1e-3", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["cells"] == 3
    assert not (tmp_path / "runs").exists()
    experiment = json.loads(bench("plan", "--experiment", "liver/erosion", *words).stdout)
    asked = load("liver/erosion")
    rows = {*asked.methods.split(","), *(f"{row.method}@{row.label}" for row in asked.variants)} - {""}
    assert {row["method"] for row in experiment["rows"]} == rows
    for neither in ((), ("--dataset", "lits", "--experiment", "liver/erosion")):
        refused = bench("plan", *neither)
        assert (refused.returncode, "either --dataset or --experiment" in refused.stderr) == (2, True)


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
    prepared = bench("data", "prepare", "--dataset", "lits", "--data-root", "phantom", "--methods", "hu-opened")
    assert prepared.returncode == 0, prepared.stderr
    assert "lits: 2 cases; btcv: 2 cases" in prepared.stdout


def test_a_bad_file_is_named_with_its_fix(bench, root):
    shutil.copytree(root, "broken")
    volume = next(Path("broken").rglob("volume-1.nii"))
    volume.write_bytes(volume.read_bytes()[:5000])
    checked = bench("data", "check", "broken")
    assert (checked.returncode, "volume-1.nii" in checked.stdout) == (2, True)
    command = [Path(sys.executable).with_name("bench"), "run", "--methods", "hu-deviation", "--dataset", "lits"]
    command += ["--data-root", "broken", "--profile", "smoke"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, "volume-1.nii" in run.stderr, "Traceback" in run.stderr) == (2, True, False)


@pytest.mark.parametrize("command", ["report", "ui", "clean", "track"])
def test_a_folder_that_is_no_run_is_refused(bench, command):
    done = bench(command, "nowhere")
    assert (done.returncode, "run.json" in done.stderr) == (2, True)


TYPOS = {
    "a data set": "run --dataset litss --phantom",
    "a method": "run --dataset lits --methods draemm --phantom",
    "a setting": "run --dataset lits --methods ae --set ae.lrr=1 --phantom",
    "a profile": "run --dataset lits --profile tiny --phantom",
    "no data": "run --dataset lits --out deep/run",
    "no preview": "preview draemm --dataset lits --phantom",
    "no maps to import": "import nowhere --method mine --dataset lits --out deep/run",
}


@pytest.mark.parametrize("what", TYPOS)
def test_a_typo_leaves_nothing_behind(bench, tmp_path, what):
    done = bench(*TYPOS[what].split())
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert list(tmp_path.iterdir()) == []


def test_clean_lists_what_would_go(bench, tmp_path):
    from uasbench.benchmark.runs.folder import RunFolder

    with RunFolder.working(tmp_path / "run") as folder:
        folder.update_info(schema=1)
        log, mine = folder.logs_dir / "fit-old.log", folder.logs_dir / "m\x1b[31mine.log"
        folder.ledger.add(log)
        for path in (log, mine):
            path.parent.mkdir(exist_ok=True)
            path.write_text("x" * 2**20)
    dry = bench("clean", "run", "--dry-run").stdout
    assert log.exists()
    assert dry.splitlines() == [
        "       1.0 MiB  logs/fit-old.log",
        r"left alone, because the ledger of this run does not name it: logs/m\x1b[31mine.log",
        "would free 1.0 MiB",
    ]
    assert bench("clean", "run").stdout == dry.replace("would free", "freed")
    assert (log.exists(), mine.exists()) == (False, True)


def test_without_data_the_error_shows_the_ways_out(bench):
    done = bench("run", "--dataset", "lits", "--profile", "smoke")
    assert done.returncode == 2
    for word in ("--data-root", "UASBENCH_DATA", "--phantom", "get it:", "layout:"):
        assert word in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_with_few_characters_gets_question_marks(encoding, tmp_path):
    command = [str(Path(sys.executable).with_name("bench")), "show", "draem"]
    surroundings = {**os.environ, "PYTHONIOENCODING": encoding, "UASBENCH_CACHE": str(tmp_path)}
    ended = subprocess.run(command, env=surroundings, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"DRAEM" in ended.stdout
    ended.stdout.decode(encoding)
