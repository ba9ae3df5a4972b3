"""Classes that no package brings: what is written of them does the same, and what cannot be written is refused."""

import importlib
import os
import subprocess
import sys
from types import ModuleType
from typing import ClassVar

import pytest
from uasbench import Method, MethodCard
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.class_source import ClassSourceError, digest_of, module_text
from uasbench.benchmark.catalogue.session import given_methods
from uasbench.benchmark.planning.options import validated
from uasbench.methods.trivial.baselines import HuDeviation

IMPORTS = """
import numpy as np
from collections import Counter as Counts
from dataclasses import dataclass
from typing import Literal
from uasbench import Method, MethodCard, View
"""
PARTS = '''
LEVEL = 40.0
TABLE = {"a": (1, 2), "b": None}
image = object()
unused = open

def helper(values):
    """A word."""
    return np.abs(values - LEVEL) + len(TABLE)

class Base(Method):
    def fit(self, healthy, ctx): ...

    @property
    def counts(self):
        return Counts("aab")
'''
CLASS = """
class Mine(Base):
    # A comment.
    card = MethodCard(name="mine", title="mine")

    def score(self, case):
        image = case.image
        return helper(image).astype(np.float32)
"""


@pytest.fixture
def notebook(load_notebook, monkeypatch):
    book = load_notebook(monkeypatch)
    book.cell(IMPORTS)
    book.cell(PARTS)
    return book


def imported(text: str, name: str = "Mine"):
    module = ModuleType("written")
    exec(compile(text, "written", "exec"), vars(module))
    return getattr(module, name)


def test_what_is_written_does_the_same_and_holds_nothing_else(notebook):
    notebook.cell(CLASS)
    text = module_text(notebook.names["Mine"])
    mine = imported(text)
    values = importlib.import_module("numpy").array([[30.0, 45.0]])

    class Case:
        image = values

    assert (mine().score(Case) == notebook.names["Mine"]().score(Case)).all()
    assert mine().counts == {"a": 2, "b": 1}
    for absent in ("unused", "dataclass", "image = object", "View"):
        assert absent not in text
    assert "# A comment." in text


@pytest.mark.parametrize("known", [True, False], ids=["text at hand", "among the cells"])
def test_of_several_classes_of_a_name_the_one_run_last_is_written(notebook, known):
    notebook.cell(CLASS, known=known)
    notebook.cell(CLASS.replace('title="mine"', 'title="second"'), known=known)
    assert imported(module_text(notebook.names["Mine"])).card.title == "second"


def test_cells_with_commands_of_the_notebook_are_read(notebook):
    notebook.cell(CLASS, known=False)
    notebook.names["In"][-1] = "%matplotlib inline\n!ls\n" + CLASS
    assert imported(module_text(notebook.names["Mine"])).card.name == "mine"


def test_settings_with_deferred_annotations_keep_the_names_of_their_types(notebook):
    notebook.cell(
        "from __future__ import annotations\nfrom uasbench import Config\n\n@dataclass(frozen=True)\n"
        "class Own(Config):\n    kind: Literal['a', 'b'] = 'a'\n\n    def twice(self): return 2 * self.kind\n\n"
        "class Mine(Base):\n    card = MethodCard(name='mine', title='mine')\n    Config = Own\n"
        "    def score(self, case): return case.image\n"
    )
    from uasbench.methods.config import resolve

    text = module_text(notebook.names["Mine"])
    sys.modules["written"] = module = ModuleType("written")
    try:
        exec(compile(text, "written", "exec"), vars(module))
        assert resolve(module.Mine.Config, "smoke", None, {"kind": "b"}).twice() == "bb"
    finally:
        del sys.modules["written"]


def test_comments_and_layout_leave_the_digest_and_code_changes_it(notebook):
    notebook.cell(CLASS)
    first = digest_of(module_text(notebook.names["Mine"]))
    notebook.cell(CLASS.replace("# A comment.", "# Another.\n"))
    assert digest_of(module_text(notebook.names["Mine"])) == first
    notebook.cell("LEVEL = 41.0")
    assert digest_of(module_text(notebook.names["Mine"])) != first


def test_a_changed_helper_module_changes_the_digest(notebook, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    helper = tmp_path / "own_helper.py"
    digests = []
    for level in (1, 22):
        helper.write_text(f"def level(): return {level}\n")
        importlib.invalidate_caches()
        notebook.cell("import own_helper\n" + CLASS.replace("helper(image)", "helper(image - own_helper.level())"))
        digests.append(digest_of(module_text(notebook.names["Mine"])))
    del sys.modules["own_helper"]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("helper = lambda values: values\n" + CLASS, "uses 'helper', a lambda, .*use def"),
        ("helper = image.__class__()\n" + CLASS, "uses 'helper', which is <object .*inside the class"),
        ("def make():\n    level = 3\n    class Mine(Base):\n        card = MethodCard(name='mine', title='m')\n"
         "        def score(self, case): return level\n    return Mine\nMine = make()",
         "make.Mine is defined inside a function, whose variables"),
        ("Mine = type('Mine', (Base,), {'card': MethodCard(name='mine', title='m')})", "source of Mine is not known"),
        ("class Outer:\n    class Mine(Base):\n        card = MethodCard(name='mine', title='m')\nMine = Outer.Mine",
         "Outer.Mine is defined inside a class"),
    ],
    ids=["lambda", "object", "closure", "type()", "nested"],
)  # fmt: skip
def test_what_workers_cannot_import_is_refused(notebook, tmp_path, cell, said):
    notebook.cell(cell)
    with (
        pytest.raises(ClassSourceError, match=said),
        given_methods([notebook.names["Mine"]], tmp_path),
    ):
        pass
    assert "mine" not in registry.runnable().names()
    assert not list(tmp_path.rglob("*.py"))


def test_a_class_is_registered_while_the_call_lasts_and_other_processes_import_it(notebook, tmp_path):
    notebook.cell(CLASS)
    with given_methods([notebook.names["Mine"], "hu-*"], tmp_path) as given:
        assert given.names == "mine,hu-*"
        entry = registry.runnable().entry("mine")
        assert entry.module.startswith("uasbench_class_mine_")
        assert "mine" in registry.runnable().select("all")
        assert registry.methods().get("mine") is registry.runnable().get("mine") is given.classes["mine"]
        code = f"from {entry.module} import Mine; print(Mine.card.title)"
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "mine\n"
        module = entry.module
    assert "mine" not in registry.runnable().names()
    assert not [name for name in sys.path if str(tmp_path) in name]
    assert str(tmp_path) not in os.environ.get("PYTHONPATH", "")
    with given_methods([notebook.names["Mine"]], tmp_path):
        assert registry.runnable().entry("mine").module == module


def test_names_pass_as_they_are_and_a_class_of_the_package_is_its_name(tmp_path):
    with given_methods("ae,draem", tmp_path) as given:
        assert (given.names, given.classes) == ("ae,draem", {})
    with given_methods(HuDeviation, tmp_path) as given:
        assert (given.names, given.classes) == ("hu-deviation", {})


class OfAModule(Method):
    card: ClassVar[MethodCard] = MethodCard(name="hu-deviation", title="takes the name of another")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([OfAModule], "card named 'hu-deviation', which is the method .*give the card another name"),
        ([3], "3 is neither the name of a method nor a class"),
        ([HuDeviation()], "neither the name of a method nor a class"),
        ([dict], "is not a subclass of uasbench.Method"),
    ],
)
def test_what_is_no_method_or_has_a_taken_name_is_refused(given, said):
    with pytest.raises(registry.UasbenchError, match=said), given_methods(given):
        pass


def test_an_unknown_option_is_named_with_the_one_that_was_meant():
    with pytest.raises(registry.UasbenchError, match=r"^there is no option 'data_rot'; did you mean 'data_root'\?$"):
        validated(datasets="lits", data_rot="x")
    with pytest.raises(registry.UasbenchError, match=r"^--dataset \[\]: "):
        validated(datasets=[])
