"""What is asked of Slurm and what its answers mean, with its commands played by a test."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from uasbench.benchmark.conformance.executors import Bench
from uasbench.benchmark.executors.contract import Resources, SettingsError, checked_settings
from uasbench.benchmark.executors.queued import Key, QueueError
from uasbench.benchmark.executors.slurm import SlurmExecutor, SlurmSettings

SETTINGS = {
    "partition": "gpu",
    "account": "ct",
    "qos": "long",
    "constraint": "a100",
    "modules": "cuda,python/3.11",
    "setup": "ulimit -n 4096\nexport A='b c'",
    "sbatch": "--exclude=node1 --comment='a b'",
    "mem": "8G",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder of commands of Slurm that note how they were called, and answer from files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        script = folder / name
        text = f'#!/bin/sh\necho "$0 $@" >> {folder}/calls\nenv > {folder}/env\ncat > {folder}/stdin\n'
        script.write_text(
            f"{text}cat {folder}/{name}.out 2>/dev/null\nexit $(cat {folder}/{name}.rc 2>/dev/null || echo 0)\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def bench(tmp_path) -> Bench:
    run = tmp_path / "run"
    run.mkdir()
    return Bench("", run, SETTINGS)


def test_an_array_asks_for_what_its_groups_take(slurm, bench, monkeypatch):
    monkeypatch.setenv("UASBENCH_DATA", "/labels")
    takes = Resources(cpus=4, memory_mib=2000.5, gpus=0.25, seconds=900.0)
    jobs = [replace(bench.job(name), resources=takes) for name in "abc"]
    SlurmExecutor(bench.place).send("bench-x", [jobs[:2], jobs[2:]], ["python", "run it"], tries=1)
    call, script = (slurm / "calls").read_text(), (slurm / "stdin").read_text()
    for words in (
        "--job-name=bench-x --array=0-1 --requeue",
        "--partition=gpu --account=ct --qos=long --constraint=a100 --cpus-per-task=4 --mem=8G --gres=gpu:1",
        "--time=18 --exclude=node1 --comment=a b",  # twice what the stage limit of two stages and the start take
    ):
        assert words in call
    assert script.splitlines() == [
        "#!/bin/bash",
        "module load cuda",
        "module load python/3.11",
        "ulimit -n 4096",
        "export A='b c'",
        "exec python 'run it' \"$SLURM_ARRAY_TASK_ID\"",
    ]
    assert "UASBENCH_DATA" not in (slurm / "env").read_text()


def test_memory_is_what_was_said_or_what_such_stages_have_taken():
    known, unknown = Resources(memory_mib=2000.5), Resources()
    asked = {
        mem: [SlurmSettings(mem=mem).header(takes, 5) for takes in (known, unknown)] for mem in (None, "8G", "auto")
    }
    assert all("--mem=8G" in header for header in asked["8G"])
    assert ["--mem=2001M" in header for header in asked["auto"]] == [True, False]
    assert not [word for mem in (None, "auto") for word in asked[mem][1] if word.startswith("--mem")]


def test_the_limit_of_a_job_follows_what_is_predicted_known_or_wanted(bench):
    settings = SlurmSettings()
    (job,) = jobs = [bench.job("a")]
    assert settings.minutes(jobs, limit_s=7200) == 125
    short = replace(job, resources=Resources(seconds=60.0))
    assert settings.minutes([short, short], limit_s=7200) == 13
    assert settings.minutes([short], limit_s=30) == 6
    assert SlurmSettings(time=90).minutes(jobs, limit_s=7200) == 90
    assert "--gres" not in " ".join(settings.header(short.resources, 1))


def test_what_slurm_says_of_groups(slurm, bench):
    executor, keys = SlurmExecutor(bench.place), [Key("bench-x", n) for n in range(6)]
    states = ("PENDING", "RUNNING", "COMPLETING", "TIMEOUT", "CANCELLED")
    lines = [f"bench-x|7|{number}|{state}" for number, state in enumerate(states)]
    (slurm / "squeue.out").write_text("\n".join([*lines, "bench-y|8|0|RUNNING", "other|9|N/A|RUNNING"]))
    answer = executor.ask(keys) or {}
    assert [answer[key].state for key in keys[:5]] == ["waiting", "there", "there", "ended", "ended"]
    assert [answer[key].again for key in keys[3:5]] == ["all", "none"]
    assert keys[5] not in answer
    executor.cancel(keys)
    assert (slurm / "calls").read_text().endswith("scancel --quiet 7_0 7_1 7_2\n")
    (slurm / "squeue.rc").write_text("1")
    assert executor.ask(keys) is None
    executor.cancel(keys)


def test_what_sbatch_refuses_is_told(slurm, bench, monkeypatch):
    (slurm / "sbatch.rc").write_text("1")
    executor = SlurmExecutor(bench.place)
    executor.submit(bench.job("a"))
    with pytest.raises(QueueError, match="exit status 1"):
        executor.reports(0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(QueueError, match="sbatch cannot be used"):
        executor.send("bench-x", [[bench.job("a")]], ["run"], tries=0)


def test_a_wrong_setting_is_named():
    with pytest.raises(SettingsError, match="did you mean 'partition'"):
        checked_settings(SlurmSettings, {"partitoin": "gpu"})
    with pytest.raises(SettingsError, match="--queue time"):
        checked_settings(SlurmSettings, {"time": "soon"})
