"""The source of a class that a notebook, a console or a script defines, as a module that other processes import.

The text holds the class and whatever it names: imports, functions and classes beside it, and plain values. What is none
of these cannot be written down, and is refused.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import linecache
import symtable
import sys
import sysconfig
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...common.errors import UasbenchError, shortened
from ...common.package import NAME
from ...common.source_hash import SourceError, closure_hash, locate

MAIN = "__main__"
_Definition = ast.ClassDef | ast.FunctionDef


class ClassSourceError(UasbenchError):
    """A class cannot be written to a module from which workers import it."""


def module_text(cls: type) -> str:
    """Return the source of a module that holds a class of ``__main__`` and all that it names there.

    Raises:
        ClassSourceError: the class is defined inside a function, its source is not known, or it names an object that is
            no module, importable object, function, class or plain value.
    """
    names = vars(sys.modules[cls.__module__])
    written = _Written(cls.__name__, names)
    written.add(cls.__name__, cls)
    return written.text()


def digest_of(text: str) -> str:
    """Return 12 hexadecimal digits over what a source does; comments and layout do not count."""
    return hashlib.blake2b(ast.unparse(ast.parse(text)).encode(), digest_size=6).hexdigest()


class _Written:
    """A module in the making: imports, values, and definitions in the order in which they need each other."""

    def __init__(self, asked: str, names: dict[str, Any]) -> None:
        self._asked, self._names = asked, names
        self._imports: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        self._doing: set[str] = set()
        self._helpers: dict[str, str] = {}
        self._future = False

    def text(self) -> str:
        # Named here, a changed helper changes the digest of this module, and with it the address of every stage.
        helpers = [f"_HELPERS = {self._helpers!r}"] if self._helpers else []
        future = ["from __future__ import annotations"] if self._future else []
        imports = sorted(self._imports.values())
        head = "\n".join([*future, *imports, *helpers, *self._values.values()])
        return "\n\n\n".join([head, *self._definitions.values()]) + "\n"

    def add(self, name: str, value: Any) -> None:
        """Write down what a name stands for, and what that names in turn."""
        if name in {*self._imports, *self._values, *self._definitions, *self._doing}:
            return
        if isinstance(value, types.ModuleType):
            self._import(name, value.__name__, f"import {value.__name__} as {name}")
            return
        module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", ""))
        if isinstance(module, str) and module != MAIN and _reaches(module, own, value):
            self._import(name, module, f"from {module} import {own} as {name}")
        elif module == MAIN and isinstance(value, type | types.FunctionType):
            self._define(name, value)
        elif _plain(value):
            self._values[name] = f"{name} = {value!r}"
        else:
            raise ClassSourceError(
                f"{self._asked} uses {name!r}, which is {shortened(repr(value), 60)}: other processes cannot be given "
                "it. Make it inside the class, or move both to a module and import that"
            )

    def _import(self, name: str, module: str, line: str) -> None:
        self._imports[name] = line
        top = module.partition(".")[0]
        if top != NAME and _is_loose(top):
            try:
                self._helpers[module] = closure_hash(module)
            except SourceError as error:
                raise ClassSourceError(f"{self._asked} imports {module}: {error}") from error

    def _define(self, name: str, value: type | types.FunctionType) -> None:
        kind = "class" if isinstance(value, type) else "function"
        if value.__name__ == "<lambda>":
            raise ClassSourceError(f"{self._asked} uses {name!r}, a lambda, which has no name to import: use def")
        if "<locals>" in value.__qualname__:
            raise ClassSourceError(
                f"{value.__qualname__.replace('.<locals>', '')} is defined inside a function, whose variables other "
                f"processes do not have; define the {kind} by itself"
            )
        if value.__qualname__ != value.__name__:
            raise ClassSourceError(f"{value.__qualname__} is defined inside a class; define the {kind} by itself")
        if value.__name__ != name:
            self.add(value.__name__, value)
            self._definitions[name] = f"{name} = {value.__name__}"
            return
        self._doing.add(name)
        source, node = _definition(value)
        self._future |= _has_future(value)
        for used in dict.fromkeys(_used(source, node)):
            if used in self._names:
                self.add(used, self._names[used])
        self._definitions[name] = source


def _definition(value: type | types.FunctionType) -> tuple[str, _Definition]:
    """Return the source of a class or function and its syntax tree; of several of that name, the one last run."""
    wanted = ast.ClassDef if isinstance(value, type) else ast.FunctionDef
    for text in _sources(value):
        try:
            tree = ast.parse(text)
        except SyntaxError:  # a cell with commands of the notebook in it
            tree = ast.parse(_without_magic(text))
            text = _without_magic(text)
        for node in reversed(tree.body):
            if isinstance(node, wanted) and node.name == value.__name__:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno]), node
    raise ClassSourceError(
        f"the source of {value.__name__} is not known; define it in a cell, a script or a module with its class "
        "statement, not by type() or exec()"
    )


def _sources(value: type | types.FunctionType) -> Iterator[str]:
    """Yield texts that may define a class or function: where its code says it lies, then cells, the last run first."""
    members = [value] if isinstance(value, types.FunctionType) else vars(value).values()
    codes = [member.__code__ for member in members if isinstance(member, types.FunctionType)]
    for code in codes:
        if text := "".join(linecache.getlines(code.co_filename)):
            yield text
    with suppress(OSError, TypeError):
        yield Path(inspect.getfile(value)).read_text(encoding="utf-8")
    yield from (str(cell) for cell in reversed(vars(sys.modules[MAIN]).get("In", ())))


def _without_magic(text: str) -> str:
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in text.splitlines())


def _has_future(value: type | types.FunctionType) -> bool:
    members = [value] if isinstance(value, types.FunctionType) else vars(value).values()
    flag = annotations.compiler_flag
    return any(isinstance(member, types.FunctionType) and member.__code__.co_flags & flag for member in members)


def _used(source: str, node: _Definition) -> Iterator[str]:
    """Yield the names that a definition takes from around it; what its functions call their own is none of them."""
    tables = [symtable.symtable(source, "<class>", "exec")]
    yield from (symbol.get_name() for symbol in tables[0].get_symbols() if symbol.is_referenced())
    while tables:
        inside = tables.pop().get_children()
        tables += inside
        yield from (symbol.get_name() for table in inside for symbol in table.get_symbols() if symbol.is_global())
    for part in ast.walk(node):  # with deferred annotations the table has none of a class of settings
        for line in part.body if isinstance(part, ast.ClassDef) else ():
            if isinstance(line, ast.AnnAssign):
                yield from (name.id for name in ast.walk(line.annotation) if isinstance(name, ast.Name))


def _reaches(module: str, own: str, value: Any) -> bool:
    """Tell whether ``from module import own`` gives the value."""
    return "." not in own and getattr(sys.modules.get(module), own, None) is value


def _plain(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _is_loose(top: str) -> bool:
    """Tell whether a module belongs to no installed package, so that no version number stands for its source."""
    path = locate(top)
    if path is None or top in sys.stdlib_module_names:
        return False
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    return not any(folder in path.resolve().parents for folder in installed)
