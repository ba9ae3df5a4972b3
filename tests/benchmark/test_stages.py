"""What each stage may import and see."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from uasbench.common.source_hash import closure_modules
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.phantom.disk import write_phantom
from uasbench.datasets.storing.store import Store
from uasbench.datasets.views.view import View

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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("data")
    write_phantom(root, anatomy="liver", seed=0, size="smoke")
    store = Store(tmp_path_factory.mktemp("store"))
    sets = []
    for adapter, truth in ((BTCV(), False), (LiTS(), True)):
        refs = adapter.discover(root)
        sets.append(store.prepare(adapter, refs, views=[View(size=32)], truth=truth))
    return sets


def test_fit_and_map_work_without_mlflow_optuna_data_root_and_labels(prepared, tmp_path):
    healthy, test = prepared
    case = healthy.cases[0].to_json()
    assert "truth" not in json.dumps([case, test.cases[0].to_json()])
    code = f"""
    import os
    from pathlib import Path
    os.environ.pop("UASBENCH_DATA", None)
    from uasbench.benchmark.stages import fit, map
    from uasbench.benchmark.stages.fit import FitTask, MethodSpec
    from uasbench.benchmark.stages.map import MapTask
    spec = MethodSpec("uasbench.methods.reconstruction.ae:AE", "smoke", "liver", {{}})
    common = dict(method=spec, device="cpu", precision="fp32", threads=1)
    out = Path({str(tmp_path)!r})
    fit.run(FitTask(id="f", parts=[({case!r}, None)], seed=0, out=str(out / "fit"), **common), print)
    map.run(
        MapTask(id="m", seed=0, fit_dirs=[str(out / "fit")], cases=[{test.cases[0].to_json()!r}], healthy=[{case!r}],
                out=str(out / "map"), **common), print)
    """
    python(code, ("mlflow", "optuna", "matplotlib", "typer", "ray"), tmp_path)
    assert json.loads((tmp_path / "fit" / "fit.json").read_text())["updates"]["phase 1"] > 0
    assert (tmp_path / "map" / f"{test.cases[0].id}.map").exists()
    assert (tmp_path / "map" / "healthy" / f"{healthy.cases[0].id}.map").exists()


def test_measuring_imports_no_torch_and_no_method(tmp_path):
    python("import uasbench.benchmark.stages.measure", ("torch", "monai", "mlflow", "timm"), tmp_path)
    modules = closure_modules("uasbench.benchmark.stages.measure")
    methods = {m for m in modules if m.startswith("uasbench.methods.") and m.count(".") > 2}
    assert not methods


@pytest.mark.parametrize("stage", ["fit", "map"])
def test_fit_and_map_never_read_truth(stage):
    modules = closure_modules(f"uasbench.benchmark.stages.{stage}")
    assert not {m for m in modules if "scoring" in m or m.endswith((".measure", ".tuning", ".adapters.lits"))}


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
