"""How parts of the suite are run, and fixtures shared by every folder of tests."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

Install = Callable[..., Path]

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # tests share the cores; set before torch and NumPy start their threads

settings.register_profile("house", max_examples=25, deadline=None)  # the machine may be busy
settings.load_profile("house")
ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="every N-th of the chosen tests from the K-th on, by name")
    parser.addoption("--lines", metavar="FILE", help="file that gets a line of JSON as soon as a test is over")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("lines") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Lines(config.rootpath / config.getoption("lines")))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of ``--part``, of those that ``-m`` and ``-k`` have chosen."""
    part = config.getoption("part")
    if part is None:
        return
    number, _, of = part.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise pytest.UsageError(f"--part {part}: write K/N, such as 1/8")
    kept = set(sorted(item.nodeid for item in items)[int(number) - 1 :: int(of)])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of GPUs where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


class Lines:
    """Writes what became of each test as soon as it is over, so that a suite that is cut off has told the rest."""

    def __init__(self, path: Path) -> None:
        self.path, self.phases = path, list[pytest.TestReport]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.phases.append(report)
        if report.when != "teardown":
            return
        of_test = [phase for phase in self.phases if phase.nodeid == report.nodeid]
        self.phases = [phase for phase in self.phases if phase.nodeid != report.nodeid]
        worst = next((phase for phase in of_test if not phase.passed), report)
        why = worst.longrepr[2] if isinstance(worst.longrepr, tuple) else worst.longreprtext
        seconds = round(sum(phase.duration for phase in of_test), 2)
        line = {"test": report.nodeid, "outcome": worst.outcome, "seconds": seconds, "why": why}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository root, which is the package."""
    return ROOT


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The development pack of real CT; tests that need it skip where it is absent."""
    path = Path(os.environ.get("UASBENCH_REAL_CT", ROOT.parent / "shared" / "data" / "real-ct"))
    if not path.is_dir():
        pytest.skip(f"real CT pack not found at {path}; set UASBENCH_REAL_CT to its folder")
    return path


@pytest.fixture(scope="session")
def real_ct_2(real_ct: Path) -> Path:
    """The second development pack, which lies beside the first; tests that need it skip where it is absent."""
    path = real_ct.parent / "real-ct-2"
    if not path.is_dir():
        pytest.skip(f"second real CT pack not found at {path}")
    return path


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the smallest liver phantom; whoever changes files does so in a copy."""
    from uasbench.datasets.phantom.disk import write_phantom

    path = tmp_path_factory.mktemp("data")
    write_phantom(path, anatomy="liver", seed=0, size="smoke")
    return path


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    """Return ``make(k, patient, **parts)``: a case in memory, its map noise that is higher in a box of lesion."""
    import numpy as np
    from uasbench.benchmark.scoring.cases import ArrayCase
    from uasbench.datasets.case import Case, Truth

    def case(k: int, patient: str = "", *, lesion=True, noise=1.0, level=1.5, slices=None, **parts) -> ArrayCase:
        rng, shape = np.random.default_rng(k), (6, 20, 20)
        roi, truth = np.zeros((2, *shape), bool)
        roi[1:, 3:18, 2:19], truth[2:4, 8:12, 6:11] = True, lesion
        map_ = (noise * rng.normal(size=shape) + level * truth).astype(np.float32)
        hu = rng.choice([-900, -700, -500, -200, 40], shape).astype(np.float32)
        known = Truth(f"c{k}", truth if slices is None else None, slices if slices is None else np.array(slices, bool))
        scan = Case(f"c{k}", patient or f"p{k}", parts.pop("image", hu), (2.0, 1.0, 1.0), parts.pop("roi", roi))
        return ArrayCase(scan, **{"map": map_, "truth": known, **parts})

    return case


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that holds nothing yet; MLflow makes one by dozens of migrations."""
    from uasbench.benchmark.tracking.server import lay_out

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    lay_out(path)
    return path


@pytest.fixture(scope="session")
def servers() -> ModuleType:
    """Tracking servers that misbehave, by kind."""
    path = ROOT / "tests" / "benchmark" / "tracking" / "servers.py"
    spec = importlib.util.spec_from_file_location("tracking_servers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def quick(mlflow_tables: Path) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Yield a context without what a tiny run spends most of its time on: figures, those migrations, slow imports."""
    from uasbench.benchmark.executors import local
    from uasbench.benchmark.tracking import mirror
    from uasbench.common.zygote import Zygote
    from uasbench.reports import build
    from uasbench.reports.figures.pictures import Pictures

    kept: dict[Any, Zygote] = {}

    def zygote(modules: Sequence[str] = (), hidden: Collection[str] = ()) -> SimpleNamespace:
        """Return one that stays for the next run in the same surroundings; what else that imports, its stages do."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        key = (*sorted(hidden), Path.cwd(), *sorted(environment.items()))
        if key not in kept:
            for other in kept.values():
                other.close()
            kept.clear()
            kept[key] = Zygote(modules, hidden)
        return SimpleNamespace(start=kept[key].start, settle=kept[key].settle, close=lambda: None)

    @contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, "draw", lambda *_: Pictures())
            patch.setattr(local, "Zygote", zygote)
            patch.setattr(mirror, "lay_out", lambda file: shutil.copyfile(mlflow_tables, file))
            yield

    yield patched
    for left in kept.values():
        left.close()


@pytest.fixture(scope="session")
def quick_run(quick: Callable[[], AbstractContextManager[None]]) -> Callable[..., Any]:
    """Return ``uasbench.run`` in that context."""
    import uasbench

    def call(*arguments: Any, **options: Any) -> Any:
        with quick():
            return uasbench.run(*arguments, **options)

    return call


@pytest.fixture
def run(quick_run: Callable[..., Any], root: Path, cache: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return ``run(methods, **options)``: one seed and one threshold trial on the smallest liver phantom."""
    few = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1, "out": tmp_path / "run"}
    return lambda methods, **options: quick_run(methods, "lits", **{**few, **options})


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for prepared data, which all tests fill together."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def coarse_methods() -> str:
    """A module of two methods on a coarse view: one with a mask of its own, one thresholded and in whole slices."""
    return """from uasbench import Method, MethodCard, View

class Bright(Method):
    card = MethodCard(name="bright", title="HU through a coarse view, with a mask of its own")
    view = View(size=32)
    native_threshold = 0.5

    def fit(self, healthy, ctx): ...

    def score_view(self, array, roi, spacing):
        return array.astype("float32")

    def postprocess_view(self, array, roi, scores, spacing):
        return (scores > scores[roi].mean()) & roi

class Everywhere(Bright):
    card = MethodCard(name="everywhere", title="The same in whole slices, thresholded")
    region = "slices"
    postprocess_view = None
"""


def _package(site: Path, distribution: str, files: dict[str, str], groups: dict[str, dict[str, str]]) -> None:
    """Write modules and metadata as pip leaves them."""
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[uasbench.{group}]", *(f"{n} = {t}" for n, t in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """The module of plug-ins that misbehave: ``hostile.HOSTILE`` by name, ``files`` and ``points`` to install them."""
    spec = importlib.util.spec_from_file_location("hostile_plugins", ROOT / "tests/benchmark/hostile_plugins.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load_notebook() -> Callable[[pytest.MonkeyPatch], Any]:
    """Return the class whose objects run cells as a notebook does."""
    spec = importlib.util.spec_from_file_location("notebook_cells", ROOT / "tests/notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Notebook


@pytest.fixture(scope="session")
def package() -> Callable[..., None]:
    """Return ``package(site, distribution, files, groups)``, for fixtures that outlive a test."""
    return _package


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return ``install(distribution, files, methods={name: target})``: modules and metadata on ``sys.path``."""
    from uasbench.benchmark.catalogue import registry

    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    before = set(sys.modules)

    def make(distribution: str, files: dict[str, str], **groups: dict[str, str]) -> Path:
        site = tmp_path / "site" / distribution
        _package(site, distribution, files, groups)
        monkeypatch.syspath_prepend(str(site))
        registry.refresh()
        return site

    registry.refresh()
    yield make
    registry.refresh()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
