"""What a shell offers for an option: names that are read without importing what they name, or an engine."""

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer

from .common import package

Complete = Callable[[str], list[str]]

PROFILES = ("smoke", "quick", "standard", "paper")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
LISTS = ("methods", "datasets", "experiments")


def choice(*names: str, help: str) -> Any:
    """Return an option whose few values its help lists and the shell completes; whoever takes it refuses others."""
    return typer.Option(metavar=f"[{'|'.join(names)}]", help=help, autocompletion=of(names))


def of(names: Iterable[str]) -> Complete:
    """Return the completion of a list of names."""
    known = list(names)
    return lambda incomplete: _listed(incomplete, known)


def methods(incomplete: str) -> list[str]:
    """Complete names of methods and top lines, the last one of a comma list."""
    return _listed(incomplete, [*_points("methods"), *_points("toplines")])


def datasets(incomplete: str) -> list[str]:
    """Complete names of data sets, the last one of a comma list."""
    return _listed(incomplete, _points("datasets"))


def executors(incomplete: str) -> list[str]:
    """Complete names of executors."""
    return _listed(incomplete, _points("executors"))


def known(incomplete: str) -> list[str]:
    """Complete names of methods, top lines and data sets."""
    return [*methods(incomplete), *datasets(incomplete)]


def experiments(incomplete: str) -> list[str]:
    """Complete names of built-in experiments and YAML files."""
    shipped = package.ROOT / "experiments"
    names = [path.relative_to(shipped).with_suffix("").as_posix() for path in sorted(shipped.rglob("*.yaml"))]
    return [*_listed(incomplete, names), *(name for name in _paths(incomplete) if name.endswith((".yaml", "/")))]


def runs(incomplete: str) -> list[str]:
    """Complete run folders, those in ``runs`` first, and the folders on the way to others."""
    usual = sorted(path.parent.as_posix() for path in Path("runs").glob("*/run.json"))
    found = [name for name in _paths(incomplete) if name.endswith("/")]
    return list(
        dict.fromkeys(name.removesuffix("/") if _is_run(name) else name for name in [*_of(incomplete, usual), *found])
    )


def cells(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the cells of the run that is named before."""
    run = Path(ctx.params.get("path") or ".")
    parts = (run / name for name in ("cells", "records", "failures"))
    return _of(incomplete, sorted({path.stem for part in parts for path in part.glob("*.json")}))


def _points(group: str) -> list[str]:
    return sorted({point.name for point in entry_points(group=f"{package.NAME}.{group}")})


def _listed(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in _of(last, names) if name not in taken]


def _of(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _paths(incomplete: str) -> list[str]:
    head, slash, tail = incomplete.rpartition("/")
    inside = sorted(Path(f"{head}{slash}" or ".").expanduser().glob(f"{tail}*")) if "*" not in tail else []
    return [f"{head}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in inside if path.name[0] != "." or tail]


def _is_run(name: str) -> bool:
    return (Path(name) / "run.json").is_file()
