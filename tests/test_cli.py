"""The small commands, as a user types them."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from uasbench import cli
from uasbench import cli_values as values
from uasbench.benchmark.experiments import load, names
from uasbench.benchmark.planning.options import RunOptions
from uasbench.methods.config import PROFILES


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
    for command in f"{words} track clean data status logs".split():
        assert f"\n  {command} " in shown


def test_version_and_short_help(bench):
    assert bench("--version").stdout == f"uasbench {version('uasbench')}\n"
    assert bench("-h").stdout == bench("--help").stdout
    assert bench("run", "-h").stdout == bench("run", "--help").stdout


def test_help_shows_the_choices_that_are_taken(bench):
    shown = " ".join(bench("run", "--help").stdout.split())
    for choices in (PROFILES, values.DEVICES, values.PRECISIONS):
        assert f"[{'|'.join(choices)}]" in shown
    assert values.PROFILES == PROFILES
    assert get_args(RunOptions.model_fields["precision"].annotation) == values.PRECISIONS


def completed(line: str, folder: Path) -> list[str]:
    """What a shell offers behind a line."""
    asked = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    command = [str(Path(sys.executable).with_name("bench"))]
    done = subprocess.run(command, env={**os.environ, **asked}, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_a_shell_completes_values(tmp_path):
    (tmp_path / "runs/first/cells").mkdir(parents=True)
    (tmp_path / "runs/first/cells/ae__lits__btcv__s0.json").touch()
    assert completed("bench run --methods ae,dr", tmp_path) == ["ae,draem"]
    assert completed("bench logs runs/first a", tmp_path) == ["ae__lits__btcv__s0"]
    assert "ae,ae" not in values.methods("ae,a")
    assert {"supervised-unet", "draem"} <= {*values.methods("")}
    assert {"lits", "lits-eroded"} <= {*values.datasets("li")} <= {*values.known("li")}


def test_runs_and_experiments_are_completed_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/first", "other/second"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").touch()
    (tmp_path / "mine.yaml").touch()
    assert values.runs("") == ["runs/first", "other/", "runs/"]
    assert values.runs("other/") == ["other/second"]
    assert values.runs("[") == values.runs("nowhere/") == []
    assert values.experiments("mi") == ["mine.yaml"]
    assert "liver/table2" in values.experiments("liver/t")
    assert {*names()} <= {*values.experiments("")}


def test_completion_imports_no_engine(tmp_path):
    code = (
        "import sys; from uasbench import cli, cli_values as v; v.methods('a'); v.experiments(''); v.runs('');"
        "print(sorted({'torch', 'numpy', 'pandas', 'mlflow', 'yaml', 'uasbench.benchmark'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_lists_and_cards_as_json(bench):
    methods = {row["name"]: row for row in json.loads(bench("list", "methods", "--json").stdout)}
    assert methods["ae"]["family"] == "reconstruction"
    assert json.loads(bench("list", "experiments", "--json").stdout)[0].keys() >= {"name", "title", "rows"}
    card = json.loads(bench("show", "ae", "--json").stdout)
    assert (card["name"], card["parameters"].keys() >= {"paper"}) == ("ae", True)
    assert {"lr"} <= {row["setting"] for row in card["settings"]}
    assert json.loads(bench("show", "lits", "--json").stdout)["name"] == "lits"
    assert "did you mean 'datasets'" in bench("list", "dataset").stderr


def test_status_and_logs_of_a_run(bench, tmp_path):
    from uasbench.benchmark.runs.folder import RunFolder

    folder = RunFolder(tmp_path / "run")
    folder.update_info(cells=["ae__lits__btcv__s0"])
    folder.logs_dir.mkdir()
    (folder.logs_dir / "map-ae__lits__btcv__s0.log").write_text("a \x1b[31mword\n")
    assert json.loads(bench("status", "run", "--json").stdout)["cells"] == {"done": 0, "failed": 0, "open": 1}
    assert "1 open" in bench("status", "run").stdout
    assert bench("logs", "run").stdout == "ae__lits__btcv__s0\n"
    assert r"a \x1b[31mword" in bench("logs", "run", "ae").stdout
    refused = bench("logs", "run", "ea")
    assert (refused.returncode, "lists them" in refused.stderr) == (2, True)


def test_a_misspelt_setting_is_answered_with_the_right_one(bench):
    words = ("--dataset", "lits", "--methods", "ae", "--phantom", "--profile", "smoke")
    for typed, meant in (("learning_rate", "lr"), ("updtes", "updates")):
        refused = bench("run", *words, "--set", f"ae.{typed}=1")
        assert (refused.returncode, f"did you mean {meant!r}?" in refused.stderr) == (2, True)


def test_every_option_of_a_run_is_a_field_of_its_options():
    another_name = {"ray_address"}  # of a setting of the queue
    assert inspect.signature(cli.run).parameters.keys() - {"ctx"} - another_name <= RunOptions.model_fields.keys()


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


@pytest.mark.parametrize("command", ["report", "ui", "clean", "track", "status", "logs"])
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


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_with_few_characters_gets_question_marks(encoding, tmp_path):
    command = [str(Path(sys.executable).with_name("bench")), "show", "draem"]
    surroundings = {**os.environ, "PYTHONIOENCODING": encoding, "UASBENCH_CACHE": str(tmp_path)}
    ended = subprocess.run(command, env=surroundings, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"DRAEM" in ended.stdout
    ended.stdout.decode(encoding)
