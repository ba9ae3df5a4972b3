"""The rules of the house, read from the imports: floors, contracts, light listing, packaging."""

import ast
import doctest
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from uasbench.common.source_hash import closure_files, imported

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLOORS = ("common", "datasets", "methods", "benchmark", "reports", "api", "cli")
ROOMS = ("common", "datasets", "methods", "benchmark", "reports", "experiments")
HEAVY = {"torch", "torchvision", "monai", "mlflow", "optuna", "ray", "timm", "matplotlib", "skimage", "cc3d"}
LABEL_READERS = ("load_truth", "Truth", "TruthRef", "UASBENCH_DATA")
ENTRY_POINTS = {
    target.partition(":")[0]
    for group in ("uasbench.methods", "uasbench.toplines", "uasbench.datasets")
    for target in PROJECT["project"]["entry-points"][group].values()
}


def package_files() -> dict[str, Path]:
    """Every module of the package with its file."""
    paths = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")] + sorted(ROOT.glob("*.py"))
    names = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(("uasbench", *(p for p in parts if p != "__init__")))] = path
    return names


FILES = package_files()


@cache
def tree(path: Path) -> list[ast.AST]:
    """The nodes of a file, read once for all rules."""
    return [*ast.walk(ast.parse(path.read_bytes()))]


@cache
def named(module: str, *, typing_too: bool = True) -> frozenset[str]:
    """The modules of the package that one imports, also inside functions."""
    return frozenset(imported(module, FILES[module], typing_too=typing_too))


def floor(module: str) -> int | None:
    part = module.split(".")[1] if "." in module else ""
    return FLOORS.index(part) if part in FLOORS else None


def external(path: Path) -> Iterator[tuple[str, int]]:
    """Names of absolute imports with their lines."""
    for node in tree(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def test_the_tree_is_read():
    assert {"uasbench", "uasbench.methods.method", "uasbench.benchmark.catalogue.registry"} <= FILES.keys()
    assert [floor(f"uasbench.{name}.x") for name in FLOORS] == list(range(len(FLOORS)))
    assert floor("uasbench") is None


def test_arrows_only_point_down():
    floors = {module: floor(module) for module in FILES}
    wrong = [
        f"{module} imports {other}"
        for module, own in floors.items()
        for other in sorted(named(module))
        if own is not None and (floor(other) or 0) > own
    ]
    assert not wrong, "\n".join(wrong)


def arrows(modules: Iterable[str]) -> dict[str, frozenset[str]]:
    """Imports between files, also those inside functions, without those for type checkers alone."""
    inside = {*modules}
    return {module: (named(module, typing_too=False) & inside) - {module} for module in inside}


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        found, queue = set[str](), [*graph[start]]
        while queue:
            node = queue.pop()
            if node not in found:
                found.add(node)
                queue += graph[node]
        return found

    reach = {node: reached(node) for node in graph}
    groups = {tuple(sorted(m for m in reach[n] if n in reach[m])) for n in graph if n in reach[n]}
    return [list(group) for group in sorted(groups)]


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}) == [["b", "c"], ["d"]]


def test_no_circle_of_files():
    assert circles(arrows(FILES)) == []


def test_no_circle_of_the_rooms_of_the_engine():
    """The folders of benchmark/ and the files beside them form a graph without circles."""
    graph: dict[str, set[str]] = {}
    inside = (module for module in FILES if module.startswith("uasbench.benchmark."))
    for module, others in arrows(inside).items():
        room = module.split(".")[2]
        graph.setdefault(room, set()).update({o.split(".")[2] for o in others} - {room})
    assert circles(graph) == []


def test_no_engine_file_imports_a_concrete_method_or_data_set():
    families = (p.name for p in (ROOT / "methods").iterdir() if (p / "__init__.py").is_file())
    concrete = ("uasbench.datasets.adapters.", *(f"uasbench.methods.{name}." for name in families))
    wrong = [
        f"{module} imports {other}"
        for module in FILES
        if (floor(module) or 0) >= FLOORS.index("benchmark")
        for other in named(module)
        if other in ENTRY_POINTS or other.startswith(concrete)
    ]
    assert not wrong, "\n".join(wrong)


def test_methods_see_no_metric_no_tracker_and_no_truth():
    forbidden = ("mlflow", "optuna", "sklearn.metrics", "torchmetrics", "monai.metrics")
    wrong = []
    for module, path in FILES.items():
        if floor(module) != FLOORS.index("methods"):
            continue
        wrong += [f"{path}:{line} imports {name}" for name, line in external(path) if name.startswith(forbidden)]
        for node in (n for n in tree(path) if isinstance(n, ast.ImportFrom | ast.Attribute | ast.Constant)):
            names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            names += [node.value] if isinstance(node, ast.Constant) else []
            wrong += [f"{path}:{node.lineno} uses {n}" for n in names if n in LABEL_READERS]
    assert not wrong, "\n".join(wrong)


def test_inside_the_package_imports_are_relative_and_rooms_are_never_top_level():
    rooms = {*FLOORS, "experiments", "tests"}
    wrong = [
        f"{path}:{line} imports {name}"
        for path in FILES.values()
        for name, line in external(path)
        if name.partition(".")[0] in {*rooms, "uasbench"}
    ]
    wrong += [
        f"{path}:{line} imports {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name, line in external(path)
        if name.partition(".")[0] in rooms
    ]
    assert not wrong, "\n".join(wrong)


def test_json_of_files_is_read_where_all_damage_is_one_kind_of_error():
    """A method's own files apart, which it has just written."""
    readers = {"read_text", "read_bytes"}
    found = [
        f"{module}, line {node.lineno}"
        for module, path in FILES.items()
        if not module.startswith("uasbench.methods.")
        for node in tree(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "json.loads"
        if any(isinstance(inner, ast.Attribute) and inner.attr in readers for inner in ast.walk(node))
    ]
    assert not found, f"use common.json_files.read_json: {', '.join(found)}"


def test_measuring_needs_no_method():
    modules = closure_files("uasbench.benchmark.stages.measure")
    descriptions = {"uasbench.methods", "uasbench.methods.card", "uasbench.methods.pretraining"}
    assert {m for m in modules if floor(m) == FLOORS.index("methods")} <= descriptions
    heavy = {"torch", "monai", "mlflow", "timm"}
    code = f"import sys, uasbench.benchmark.stages.measure; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_importing_every_built_in_class_imports_nothing_heavy():
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(ENTRY_POINTS)!r}:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        f"    heavy = {HEAVY!r} & (set(sys.modules) - before)\n"
        "    if heavy: print(name, 'imports', ', '.join(sorted(heavy)))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0, done.stderr


def test_packages_listed_for_installation_equal_the_tree():
    packages = {m for m, path in FILES.items() if path.name == "__init__.py"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages
    folders = {p.parent for room in ROOMS for p in (ROOT / room).rglob("*.py")}
    assert not [f for f in folders if not (f / "__init__.py").is_file()]


def test_every_entry_point_names_a_class_that_exists():
    for module in sorted(ENTRY_POINTS):
        assert module in FILES, f"pyproject.toml names {module}, which has no file"


@pytest.mark.parametrize("module", [module for module, path in FILES.items() if ">>>" in path.read_text("utf-8")])
def test_doctests(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert result.failed == 0
