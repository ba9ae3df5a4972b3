"""Runs cells one after the other as a notebook does: in ``__main__``, each with a text of its own."""

import ast
import linecache
from types import ModuleType
from typing import Any


class Notebook:
    """A ``__main__`` in which cells run; ``values`` are those of cells that end in an expression."""

    def __init__(self, monkeypatch: Any) -> None:
        self.module = ModuleType("__main__")
        self.names: dict[str, Any] = vars(self.module)
        self.names["In"] = [""]
        self.values: list[Any] = []
        monkeypatch.setitem(__import__("sys").modules, "__main__", self.module)

    def cell(self, text: str, *, known: bool = True) -> None:
        """Run a cell; where it is not ``known``, its text can only be found among the cells."""
        self.names["In"].append(text)
        name = f"<cell {id(self)}-{len(self.names['In'])}>"
        if known:
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        tree = ast.parse(text, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), self.names)
        if isinstance(last, ast.Expr):
            self.values.append(eval(compile(ast.Expression(last.value), name, "eval"), self.names))
