"""A run without an executor: stages one by one, and plain scripts for Slurm."""

import shlex
import subprocess

import pytest
from typer.testing import CliRunner
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.commands.staging import StageUseError, run_stage, write_scripts
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.cli import app
from uasbench.common.errors import UasbenchError


def test_the_stages_of_a_plan_run_anywhere_in_any_process(smoke, tmp_path):
    options = smoke("hu-deviation", trials=1, queue={"partition": "gpu", "time": "90"})
    sender, *scripts = write_scripts(options, tmp_path / "to" / "go.sh")
    assert [path.name for path in scripts] == ["go-1-fit.sbatch", "go-2-map.sbatch", "go-3-measure.sbatch"]
    for script in (sender, *scripts):
        subprocess.run(["bash", "-n", script], check=True)
    for words in ("#SBATCH --partition=gpu", "#SBATCH --time=90", "#SBATCH --array=0-0%64", "bench stage"):
        assert words in scripts[0].read_text()
    assert sender.read_text().count("--dependency=afterany") == 2
    folder = RunFolder.open(options.folder())
    names = [next(folder.tasks_dir.glob(f"{kind}-*.json")).stem for kind in ("fit", "map", "measure")]
    fit, map_, measure = names
    for name, need in ((map_, fit), (measure, map_)):
        with pytest.raises(StageUseError, match=f"{name} needs {need}, not done yet"):
            run_stage(folder, name)
    with pytest.raises(StageUseError, match=f"has no stage '{fit}x'; did you mean '{fit}'"):
        run_stage(folder, f"{fit}x")
    for name in names:
        done = CliRunner().invoke(app, ["stage", str(folder.path), name])
        assert (done.exit_code, done.output) == (0, f"done    {name}\n")
    records = {path: path.stat().st_mtime_ns for path in folder.records_dir.glob("*")}
    assert len(records) == 1
    found, failed = run(options.model_copy(update={"queue": {}}))
    assert (failed, {path: path.stat().st_mtime_ns for path in found.records_dir.glob("*")}) == (0, records)
    with pytest.raises(StageUseError, match="nothing is left to do"):
        write_scripts(options, tmp_path / "go.sh")


def test_a_plan_prints_calls_that_run_it_one_after_the_other(smoke, tmp_path):
    options = smoke("hu-deviation", trials=1)
    folder = options.folder()
    given = [
        "--methods",
        "hu-deviation",
        "--dataset",
        "lits",
        "--data-root",
        options.data_root,
        "--cache",
        options.cache,
    ]
    given += ["--profile", "smoke", "--seeds", "1", "--trials", "1", "--out", folder]
    done = CliRunner().invoke(app, ["plan", *map(str, given), "--stages"])
    assert done.exit_code == 0, done.output
    calls = [shlex.split(line) for line in done.output.splitlines() if line.startswith("bench stage")]
    assert [call[-1].partition("-")[0] for call in calls] == ["fit", "map", "measure"]
    for _, *words in calls:
        assert CliRunner().invoke(app, words).exit_code == 0
    assert len(list(RunFolder.open(folder).records_dir.glob("*"))) == 1


def test_a_failed_stage_says_why(smoke, tmp_path):
    options = smoke("hu-deviation", trials=1)
    write_scripts(options, tmp_path / "go.sh")
    folder = RunFolder.open(options.folder())
    fit = next(folder.tasks_dir.glob("fit-*.json"))
    fit.write_text(fit.read_text().replace(str(folder.fits_dir), str(folder.fits_dir / "no\\u0000where")))
    done = CliRunner().invoke(app, ["stage", str(folder.path), fit.stem])
    assert done.exit_code == 3
    assert done.output.startswith(f"failed  {fit.stem}: ")


def test_a_run_without_a_plan_of_stages_says_how_to_write_one(small_run, smoke, tmp_path):
    with pytest.raises(StageUseError, match="has no plan of stages; 'bench plan … --stages' writes one"):
        run_stage(small_run, "fit-x")
    with pytest.raises(UasbenchError, match="did you mean 'partition'"):
        write_scripts(smoke("hu-deviation", queue={"partitoin": "x"}), tmp_path / "go.sh")
    assert not (tmp_path / "run").exists()
