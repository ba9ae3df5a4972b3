"""The source that can change a result: a module's static import closure inside its own package."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from .errors import UasbenchError


class SourceError(UasbenchError):
    """The source of a module cannot be found or parsed."""


@dataclass(frozen=True)
class _Source:
    """What one file contributes: the digest of its text and the names it may import (absolute, inside its package)."""

    digest: str
    imports: frozenset[str]


_cache: dict[tuple[str, Path, int, int], _Source] = {}


def closure_hash(module: str) -> str:
    """Return a short hash over the sources of :func:`closure_modules`, independent of where the package lies.

    Raises:
        SourceError: the module is not found or a source does not parse.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, path in sorted(closure_files(module).items()):
        digest.update(f"{name}\x1f{_source(name, path).digest}\x1e".encode())
    return digest.hexdigest()


def closure_modules(module: str) -> set[str]:
    """Return ``module`` and every module of the same top-level package that it imports, at module or function level.

    Imports under ``if TYPE_CHECKING`` do not run and are left out; the packages that hold a module run first and belong
    to it. Other packages are not followed: their versions are recorded with every result.

    >>> "uasbench.common.errors" in closure_modules("uasbench.common.source_hash")
    True
    """
    return set(closure_files(module))


def closure_files(module: str) -> dict[str, Path]:
    """Return the closure with the file of each module."""
    first = locate(module)
    if first is None:
        raise SourceError(f"module {module!r} not found: install the package that holds it, or correct its name")
    found: dict[str, Path] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = locate(name) if name not in found else None
        if path is None:
            continue
        found[name] = path
        queue.extend(_source(name, path).imports)
        if "." in name:
            queue.append(name.rpartition(".")[0])
    return found


def locate(module: str) -> Path | None:
    """Return the file of a module without running any code, or None where there is no such file.

    ``importlib.util.find_spec`` imports the parents of a dotted name, which may be what fails; this does not.
    """
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    return Path(spec.origin)


def file_digest(path: Path) -> str:
    """Return the digest of a source file; line ends count as on Unix, so that a checkout's setting is no change."""
    return hashlib.blake2b(path.read_bytes().replace(b"\r\n", b"\n"), digest_size=16).hexdigest()


def _spec(module: str) -> ModuleSpec | None:
    head, *rest = module.split(".")
    try:
        spec = find_spec(head)
    except (ImportError, ValueError):
        return None
    name = head
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec


def _source(module: str, path: Path) -> _Source:
    stat = path.stat()
    key = (module, path, stat.st_mtime_ns, stat.st_size)
    if key not in _cache:
        _cache[key] = _Source(file_digest(path), frozenset(imported(module, path)))
    return _cache[key]


def imported(module: str, path: Path, *, typing_too: bool = False) -> Iterator[str]:
    """Yield the dotted names, inside the top-level package of ``module``, that a file may import.

    ``from .a import b`` yields both ``….a`` and ``….a.b``: which of them is a module only the file system knows.

    Raises:
        SourceError: the file is not valid Python.
    """
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise SourceError(f"{path}, line {error.lineno}: {error.msg}; correct the file") from error
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    top = module.partition(".")[0]
    for node in _nodes(tree, typing_too):
        for name in _names(node, package):
            if name == top or name.startswith(f"{top}."):
                yield name


def _nodes(node: ast.AST, typing_too: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test) and not typing_too:
            for branch in child.orelse:
                yield from _nodes(branch, typing_too)
        else:
            yield from _nodes(child, typing_too)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _resolve("." * node.level + (node.module or ""), package)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "import_module" and isinstance(node.args[0].value, str):
            yield _resolve(node.args[0].value, package)


def _resolve(name: str, package: str) -> str:
    dots = len(name) - len(name.lstrip("."))
    if dots == 0:
        return name
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - dots + 1])
    return ".".join(p for p in (base, name[dots:]) if p)
