"""What each stage may import and see."""

import itertools
import json
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from uasbench.benchmark.runs.map_store import healthy_map, read_map, restored_map, write_map
from uasbench.benchmark.stages import fit
from uasbench.benchmark.stages import map as map_stage
from uasbench.benchmark.stages.apart import Here
from uasbench.benchmark.stages.fit import FitTask, MethodSpec
from uasbench.benchmark.stages.map import MOST_WAITING, MapTask, Model, Writer
from uasbench.benchmark.stages.task import Numerics
from uasbench.benchmark.stages.worker import run_stage
from uasbench.common.source_hash import closure_files
from uasbench.common.untried import ASKED, untried
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.storing.store import Store
from uasbench.datasets.views.slice_view import View
from uasbench.methods.reconstruction.ae import AE

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""


def python(code: str, blocked: tuple[str, ...], cwd: Path) -> None:
    script = BLOCK.format(blocked=blocked) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def prepared(root: Path, cache: Path):
    """The healthy and the lesion set of the phantom, in the store."""
    store = Store(cache / "store")
    sets = []
    for adapter, truth in ((BTCV(), False), (LiTS(), True)):
        refs = adapter.discover(root)
        sets.append(store.prepare(adapter, refs, views=[View(size=32)], truth=truth))
    return sets


@pytest.fixture
def tasks(prepared, tmp_path) -> tuple[FitTask, MapTask]:
    """A training on one scan, and the maps of that and of another one."""
    healthy, test = (cases.cases[0] for cases in prepared)
    spec = MethodSpec(target="uasbench.methods.reconstruction.ae:AE", profile="smoke", anatomy="liver", settings={})
    common = {"method": spec, "seed": 0, "numerics": Numerics(device="cpu", threads=1, precision="fp32")}
    model = Model(fits=(tmp_path / "fit",), cases=(test,))
    return (
        FitTask(id="f", parts=((healthy, None),), out=tmp_path / "fit", **common),
        MapTask(id="m", models=(model,), healthy=(healthy,), out=tmp_path / "map", **common),
    )


def test_fit_and_map_work_without_mlflow_optuna_data_root_and_labels(tasks, tmp_path):
    for task in tasks:
        text = task.model_dump_json()
        assert "truth" not in text
        assert type(task).model_validate_json(text) == task
        (tmp_path / f"{task.stage}.json").write_text(text)
    code = """
    import os
    from pathlib import Path
    os.environ.pop("UASBENCH_DATA", None)
    from uasbench.benchmark.stages.apart import Here
    from uasbench.benchmark.stages.worker import run_stage
    for stage in ("fit", "map"):
        run_stage(Path(f"{stage}.json").read_text(), Here(print))
    """
    python(code, ("mlflow", "optuna", "matplotlib", "typer", "ray"), tmp_path)
    assert json.loads((tmp_path / "fit" / "fit.json").read_text())["updates"]["phase 1"] > 0
    of_task = tasks[1]
    assert (tmp_path / "map" / f"{of_task.models[0].cases[0].id}.map").exists()
    assert (tmp_path / "map" / "healthy" / f"{of_task.healthy[0].id}.map").exists()


def test_a_killed_fit_goes_on_where_it_stood_and_leaves_nothing_behind(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0)
    case = prepared[0].cases[0]
    spec = MethodSpec(target="uasbench.methods.reconstruction.ae:AE", profile="smoke", anatomy="liver", settings={})
    numerics = Numerics(device="cpu", threads=1, precision="fp32")

    def train(name: str, killed_at: int = 0) -> list[int]:
        done = []

        def progress(i: int, _: int) -> None:
            done.append(i)
            if i == killed_at:
                raise KeyboardInterrupt

        task = FitTask(id=name, method=spec, seed=0, numerics=numerics, parts=((case, None),), out=tmp_path / name)
        with suppress(KeyboardInterrupt):
            fit.run(task, Here(progress))
        return done

    train("undisturbed")
    assert train("killed", killed_at=6) == list(range(1, 7))
    assert not (tmp_path / "killed").exists()
    assert train("killed") == [1, *range(6, 11)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "undisturbed"]
    weights, others = (torch.load(tmp_path / name / "last.pt") for name in ("undisturbed", "killed"))
    assert all(torch.equal(value, others["net"][1][key]) for key, value in weights["net"][1].items())
    curves, about = zip(
        *(((p / "curves.csv").read_text(), (p / "fit.json").read_text()) for p in sorted(tmp_path.iterdir())),
        strict=True,
    )
    assert curves[0] == curves[1]
    assert [json.loads(text)["updates"] for text in about] == [{"phase 1": 10}] * 2


@pytest.mark.parametrize("planned", [False, True])
def test_what_runs_is_what_was_planned_whatever_the_environment_of_a_stage_says(planned, tasks, monkeypatch):
    seen = []

    def watched(name: str):
        inner = getattr(AE, name)

        def call(*arguments):
            seen.append((name, untried("cuda")))
            return inner(*arguments)

        return call

    for name in ("build", "fit", "load", "score_view"):
        monkeypatch.setattr(AE, name, watched(name))
    for task in tasks:
        monkeypatch.setenv(ASKED, "0" if planned else "1")
        run_stage(task.model_copy(update={"untried": planned}).model_dump_json(), Here(lambda *_: None))
    assert set(seen) == {(name, planned) for name in ("build", "fit", "load", "score_view")}


@pytest.mark.parametrize("stage", ["fit", "map"])
def test_fit_and_map_never_read_truth(stage):
    modules = closure_files(f"uasbench.benchmark.stages.{stage}")
    assert not {m for m in modules if "scoring" in m or m.endswith((".measure", ".tuning", ".adapters.lits"))}


@pytest.mark.parametrize("beside", [False, True])
def test_maps_are_written_in_order_and_what_goes_wrong_is_raised(beside):
    written: list[int] = []

    def fail() -> None:
        raise OSError("the disk is full")

    with Writer(beside=beside) as write:
        for number in range(20):
            write(written.append, number)
    assert written == list(range(20))
    with pytest.raises(OSError, match="disk is full"), Writer(beside=beside) as write:
        write(fail)

    def fail_of_itself() -> None:
        with Writer(beside=beside) as write:
            if beside:
                write(fail)
            raise ValueError("the method's own")

    with pytest.raises(ValueError, match="the method's own"):
        fail_of_itself()


def test_few_maps_wait_beside_a_slow_disk():
    begun, go = [], threading.Event()

    def slow(number: int) -> None:
        begun.append(number)
        go.wait(60)

    with Writer(beside=True) as write:
        for number in range(MOST_WAITING):
            write(slow, number)
        threading.Timer(0.2, go.set).start()
        write(slow, MOST_WAITING)  # comes back when the first one is written
        assert go.is_set()
    assert begun == list(range(MOST_WAITING + 1))


def test_maps_and_pictures_of_a_method_that_reuses_its_arrays_are_those_of_their_case(tasks, monkeypatch):
    training, maps = tasks
    fit.run(training, Here(lambda *_: None))
    longest = max(case.shape[0] for case in (*maps.models[0].cases, *maps.healthy))
    values, buffer, scored = itertools.count(1), np.zeros((longest, 32, 32), np.float32), threading.Event()

    def filled(array: np.ndarray) -> np.ndarray:
        buffer[:] = next(values)
        return buffer[: len(array)]

    def late(*arguments: object) -> None:
        scored.wait(60)
        write_map(*arguments)

    monkeypatch.setattr(AE, "score_view", lambda self, array, *_: filled(array))
    monkeypatch.setattr(AE, "restore_view", lambda self, array, *_: {"picture": filled(array)})
    monkeypatch.setattr(map_stage, "untried", lambda device: True)
    monkeypatch.setattr(map_stage, "MOST_WAITING", 3)
    monkeypatch.setattr(map_stage, "write_map", late)
    map_stage.run(
        maps.model_copy(update={"restorations": True}),
        Here(lambda done, total: scored.set() if done == total else None),
    )
    (tested,), (healthy,) = maps.models[0].cases, maps.healthy
    paths = (maps.out / f"{tested.id}.map", restored_map(maps.out, tested.id, 0), healthy_map(maps.out, healthy.id))
    assert [set(read_map(path).values.tolist()) for path in paths] == [{1}, {2}, {3}]


def test_command_line_help_imports_nothing_heavy(tmp_path):
    code = """
    import sys
    sys.argv = ["bench", "--help"]
    from uasbench.cli import app
    try:
        app()
    except SystemExit:
        pass
    heavy = {"torch", "mlflow", "optuna", "monai", "matplotlib", "pandas", "numpy", "scipy"} & set(sys.modules)
    assert not heavy, heavy
    """
    python(code, (), tmp_path)
