"""The one answer to "which source made this": a module's static import closure, hashed without its docstrings.

Fits, maps, records, decoded scans, views and phantoms take their addresses from :func:`closure_hash`.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path

from .errors import UasbenchError
from .package import NAME

_Stamp = tuple[str, int, int]


class SourceError(UasbenchError):
    """The source of a module cannot be found or parsed."""


@dataclass(frozen=True)
class _Closure:
    files: dict[str, Path]
    stamps: tuple[_Stamp, ...]
    digest: str


_closures: dict[tuple[str, ...], _Closure] = {}
_steady = False


def closure_hash(module: str) -> str:
    """Return a short hash over the sources of :func:`closure_files`, independent of where the package lies.

    Hashed are the syntax trees: comments, docstrings and layout do not count, everything else does. A file is read
    again when its size or modification time changes.

    Raises:
        SourceError: the module is not found or a source does not parse.
    """
    return _closure(module).digest


@contextmanager
def steady() -> Iterator[None]:
    """Look at no source file twice within the block: one plan of many cells has one state of the sources."""
    global _steady
    before, _steady = _steady, True
    _closures.clear()
    try:
        yield
    finally:
        _steady = before


def closure_files(module: str) -> dict[str, Path]:
    """Return the file of ``module`` and of every module of its package that it imports, at module or function level.

    Imports under ``if TYPE_CHECKING`` do not run and are left out; the packages that hold a module run first and belong
    to it. A plug-in's closure goes on in this package; others are not followed: their versions are recorded with every
    result.

    >>> "uasbench.common.errors" in closure_files("uasbench.common.source_hash")
    True
    """
    return dict(_closure(module).files)


def _closure(module: str) -> _Closure:
    key = (module, *sys.path)
    known = _closures.get(key)
    if known is not None and (_steady or known.stamps == tuple(_stamp(path) for path in known.files.values())):
        return known
    if locate(module) is None:
        fix = "install the package that holds it, or correct its name"
        if module == "__main__":
            fix = "what a notebook or a console defines has no source file; move it to a module and import it"
        raise SourceError(f"module {module!r} not found: {fix}")
    files: dict[str, Path] = {}
    stamps: list[_Stamp] = []
    digests: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = locate(name) if name not in files else None
        stamp = None if path is None else _stamp(path)
        if path is None or stamp is None:
            continue
        digests[name], names = _source(name, path, stamp)
        files[name] = path
        stamps.append(stamp)
        queue.extend(names)
        if "." in name:
            queue.append(name.rpartition(".")[0])
    text = "".join(f"{name}\x1f{digests[name]}\x1e" for name in sorted(digests))
    _closures[key] = _Closure(files, tuple(stamps), hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
    return _closures[key]


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size


def locate(module: str) -> Path | None:
    """Return the file of a module without running any code, or None where there is no such file.

    ``importlib.util.find_spec`` imports the parents of a dotted name, which may be what fails; this does not.
    """
    if module == "__main__":
        script = getattr(sys.modules[module], "__file__", None)
        return Path(script) if script else None
    name, *rest = module.split(".")
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return Path(spec.origin) if spec is not None and spec.origin is not None and spec.has_location else None


def source_file_digest(path: Path) -> str:
    """Return the digest of a source file; line ends count as on Unix, so that a checkout's setting is no change."""
    return hashlib.blake2b(path.read_bytes().replace(b"\r\n", b"\n"), digest_size=16).hexdigest()


@cache
def _source(module: str, path: Path, stamp: _Stamp) -> tuple[str, frozenset[str]]:
    """Return the digest of what a file does, and the names that it may import; read again for another stamp."""
    del stamp
    tree = _parsed(path)
    digest = source_file_digest(path) if tree is None else _tree_digest(tree)
    return digest, frozenset(_imports(tree, module, path, False))


def _parsed(path: Path) -> ast.Module | None:
    if path.suffix != ".py":
        return None
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise SourceError(f"{path}, line {error.lineno}: {error.msg}; correct the file") from error


def _tree_digest(tree: ast.Module) -> str:
    parts: list[str] = []
    _write(tree, parts)
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def _write(value: object, parts: list[str]) -> None:
    # Not ast.dump: empty fields are left out here, so that a Python with a new kind of field changes no hash.
    if isinstance(value, ast.AST):
        parts.append(f"{type(value).__name__}(")
        for name in value._fields:
            field = getattr(value, name, None)
            if field is not None and field != []:
                parts.append(f"{name}=")
                _write(field, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for item in value:
            if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
                _write(item, parts)
        parts.append("]")
    else:
        parts.append(f"{value!r},")


def imported(module: str, path: Path, *, typing_too: bool = False) -> Iterator[str]:
    """Yield the dotted names, in the top-level package of ``module`` or in this one, that a file may import.

    ``from .a import b`` yields both ``….a`` and ``….a.b``: which of them is a module only the file system knows.

    Raises:
        SourceError: the file is not valid Python.
    """
    return _imports(_parsed(path), module, path, typing_too)


def _imports(tree: ast.Module | None, module: str, path: Path, typing_too: bool) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tops = {module.partition(".")[0], NAME}
    for node in _nodes(tree, typing_too) if tree is not None else ():
        yield from (name for name in _names(node, package) if name.partition(".")[0] in tops)


def _nodes(node: ast.AST, typing_too: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        test = child.test if isinstance(child, ast.If) and not typing_too else None
        if getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING" and isinstance(child, ast.If):
            for branch in child.orelse:
                yield from _nodes(branch, typing_too)
        else:
            yield from _nodes(child, typing_too)


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
    try:
        return resolve_name(name, package)
    except ImportError:  # more dots than packages: Python would not import it either
        return ""
