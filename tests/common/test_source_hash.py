"""The hash follows every source that a module can reach in its own package, and nothing else."""

import ast
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common import source_hash
from uasbench.common.source_hash import SourceError, closure_files, closure_hash, imported, locate, source_file_digest

PACKAGE = {
    "__init__.py": "raise RuntimeError('hashing must not import')\n",
    "a.py": "from . import b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import hints\n",
    "b.py": "import importlib\ndef late():\n    from .deep.c import value\n    importlib.import_module('.by_name')\n",
    "deep/c.py": "from .. import d\nimport numpy\nvalue = 1\n",
    "d.py": "import hashed.e as e\n",
    "e.py": "from .a import something\n",
    **dict.fromkeys(("deep/__init__.py", "by_name.py", "hints.py", "apart.py"), ""),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        path = tmp_path / "hashed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "hashed"


def test_closure_follows_relative_absolute_late_and_named_imports_and_cycles(package):
    expected = {"", ".a", ".b", ".deep", ".deep.c", ".d", ".e", ".by_name"}
    assert closure_files("hashed.a").keys() == {f"hashed{name}" for name in expected}
    assert "hashed" not in sys.modules


def changed(package, name, text, module="hashed.a"):
    """Whether a file's new text changes the hash of a module."""
    before = closure_hash(module)
    (package / name).write_text(text)
    return closure_hash(module) != before


@pytest.mark.parametrize("name", ["a.py", "deep/c.py", "by_name.py", "deep/__init__.py", "apart.py", "hints.py"])
def test_a_change_within_reach_changes_the_hash_and_no_other_does(package, name):
    reached = name not in ("apart.py", "hints.py")
    assert changed(package, name, (package / name).read_text() + "changed = True\n") == reached


BODY = """
'Old words.'
LIMIT = 2
class Kept:
    'Old words.'
    def grow(self, by: int = 1) -> int:
        'Old words.'
        return self.size + by * LIMIT if by > 0 else 0
"""


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("Old words", "New words", False),
        ("LIMIT = 2", "LIMIT = 2  # HU\n'What it limits.'", False),
        ("self.size + by * LIMIT", "(self.size + (by * LIMIT))", False),
        ("def grow(self, by: int = 1)", "def grow(\n        self,\n        by: int = 1,\n    )", False),
        ("LIMIT = 2", "LIMIT = 2.0", True),
        ("LIMIT = 2", "LIMIT = None", True),
        ("LIMIT = 2", "LIMIT = '2'", True),
        ("by * LIMIT", "by - LIMIT", True),
        ("by > 0", "by >= 0", True),
        ("by: int = 1", "by: int = 2", True),
        ("by: int = 1", "*, by: int = 1", True),
        ("grow", "shrink", True),
        ("class Kept:", "class Kept(Base):", True),
        ("self.size + by * LIMIT if by > 0 else 0", "'Old words.'", True),
        ("    def grow", "    @property\n    def grow", True),
    ],
)
def test_every_edit_counts_but_docstrings_comments_and_layout(package, old, new, counts):
    (package / "d.py").write_text(BODY)
    assert old in BODY
    assert changed(package, "d.py", BODY.replace(old, new)) == counts


def test_hash_does_not_depend_on_the_version_of_python():
    """The digest of a syntax tree is fixed here; a hash that moved with the interpreter would retrain everything."""
    tree = ast.parse(BODY + "async def f(x, /, *y: int, **z): return [f'{x!r:>4}', {**z}, b'1', 1j, ...]\n")
    assert source_hash._tree_digest(tree) == "ab0e5c0f32898ce29e074ea20ee07a4c"


def test_a_script_is_its_own_source_and_a_console_has_none(tmp_path):
    code = "import uasbench.common.source_hash as s\nprint(s.closure_hash('__main__'))\n"
    (tmp_path / "script.py").write_text(code)
    script = [sys.executable, "-P", str(tmp_path / "script.py")]
    first, again = (subprocess.run(script, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert len(first.strip()) == 32
    assert first == again
    console = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "a notebook or a console defines has no source file; move it to a module" in console.stderr


def test_a_plug_in_closes_over_what_it_imports_of_this_package(tmp_path, monkeypatch):
    (tmp_path / "plug_in.py").write_text("from uasbench.datasets.reading.volume_io import read_volume\nimport numpy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = closure_files("plug_in")
    assert {"plug_in", "uasbench.datasets.reading.volume_io", "uasbench.common.errors"} <= modules.keys()
    assert "uasbench.datasets.labelled" not in modules


def test_hash_is_the_same_elsewhere_and_with_other_line_ends(package, tmp_path, monkeypatch):
    before = closure_hash("hashed.a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    package.rename(elsewhere / "hashed")
    for path in (elsewhere / "hashed").rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.syspath_prepend(str(elsewhere))
    assert locate("hashed.a") == elsewhere / "hashed" / "a.py"
    assert closure_hash("hashed.a") == before


def test_an_edit_of_equal_length_in_the_same_run_is_seen(package):
    text = PACKAGE["deep/c.py"].replace("1", "2")
    assert changed(package, "deep/c.py", text, module="hashed.deep.c")


def test_errors_name_the_module_or_the_line(package):
    with pytest.raises(SourceError, match=r"hashed\.nothing"):
        closure_hash("hashed.nothing")
    (package / "b.py").write_text("x = (\n")
    with pytest.raises(SourceError, match=r"b\.py, line 1"):
        closure_hash("hashed.a")


def test_a_module_of_its_own_a_missing_package_and_a_binary(tmp_path, monkeypatch):
    (tmp_path / "lonely_module.py").write_text("import json\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert closure_files("lonely_module") == {"lonely_module": tmp_path / "lonely_module.py"}
    assert locate("there_is_no_such_package.x") is None
    (tmp_path / "x.so").write_bytes(b"\x00\xff")
    assert len(source_file_digest(tmp_path / "x.so")) == 32
    assert list(imported("top.x", tmp_path / "x.so")) == []


def test_a_method_closes_over_its_nets_and_not_over_the_engine():
    modules = closure_files("uasbench.methods.trivial.baselines")
    assert {"uasbench.methods.method", "uasbench.common.seeds"} <= modules.keys()
    assert not [m for m in modules if m.startswith(("uasbench.benchmark", "uasbench.reports", "uasbench.api"))]


@given(dots=st.integers(1, 5), name=st.sampled_from(["x", "x.y"]))
def test_relative_names_resolve_as_python_resolves_them(tmp_path_factory, dots, name):
    from importlib.util import resolve_name

    path = tmp_path_factory.mktemp("relative") / "m.py"
    path.write_text(f"from {'.' * dots}{name} import z\n")
    found = list(imported("top.mid.low.m", path))
    if dots > 3:
        assert found == []
    else:
        expected = resolve_name("." * dots + name, "top.mid.low")
        assert found == [expected, f"{expected}.z"]
