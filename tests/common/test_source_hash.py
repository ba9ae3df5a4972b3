"""The hash follows every source that a module can reach in its own package, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.source_hash import (
    SourceError,
    closure_files,
    closure_hash,
    closure_modules,
    file_digest,
    imported,
    locate,
)

PACKAGE = {
    "__init__.py": "raise RuntimeError('hashing must not import')\n",
    "a.py": "from . import b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import hints\n",
    "b.py": "import importlib\ndef late():\n    from .deep.c import value\n    importlib.import_module('.by_name')\n",
    "deep/__init__.py": "",
    "deep/c.py": "from .. import d\nimport numpy\nvalue = 1\n",
    "d.py": "import hashed.e as e\n",
    "e.py": "from .a import something\n",
    "by_name.py": "",
    "hints.py": "",
    "apart.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PACKAGE.items():
        path = tmp_path / "hashed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "hashed"


def test_closure_follows_relative_absolute_late_and_named_imports_and_cycles(package):
    expected = {"", ".a", ".b", ".deep", ".deep.c", ".d", ".e", ".by_name"}
    assert closure_modules("hashed.a") == {f"hashed{name}" for name in expected}
    assert "hashed" not in sys.modules


@pytest.mark.parametrize("name", ["a.py", "deep/c.py", "by_name.py", "deep/__init__.py"])
def test_a_change_within_reach_changes_the_hash(package, name):
    before = closure_hash("hashed.a")
    path = package / name
    path.write_text(path.read_text() + "# changed\n")
    assert closure_hash("hashed.a") != before


@pytest.mark.parametrize("name", ["apart.py", "hints.py"])
def test_a_change_out_of_reach_does_not(package, name):
    before = closure_hash("hashed.a")
    (package / name).write_text("changed = True\n")
    assert closure_hash("hashed.a") == before


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
    before = closure_hash("hashed.deep.c")
    (package / "deep/c.py").write_text("from .. import d\nimport numpy\nvalue = 2\n")
    assert closure_hash("hashed.deep.c") != before


def test_errors_name_the_module_or_the_line(package):
    with pytest.raises(SourceError, match=r"hashed\.nothing"):
        closure_hash("hashed.nothing")
    (package / "b.py").write_text("x = (\n")
    with pytest.raises(SourceError, match=r"b\.py, line 1"):
        closure_hash("hashed.a")


def test_a_module_of_its_own_and_a_missing_package(tmp_path, monkeypatch):
    (tmp_path / "lonely_module.py").write_text("import json\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert closure_files("lonely_module") == {"lonely_module": tmp_path / "lonely_module.py"}
    assert locate("there_is_no_such_package.x") is None


def test_a_method_closes_over_its_nets_and_not_over_the_engine():
    modules = closure_modules("uasbench.methods.trivial.random_map")
    assert {"uasbench.methods.method", "uasbench.common.seeds"} <= modules
    assert not [m for m in modules if m.startswith(("uasbench.benchmark", "uasbench.reports", "uasbench.api"))]


@given(dots=st.integers(1, 3), name=st.sampled_from(["x", "x.y"]))
def test_relative_names_resolve_as_python_resolves_them(tmp_path_factory, dots, name):
    from importlib.util import resolve_name

    path = tmp_path_factory.mktemp("relative") / "m.py"
    path.write_text(f"from {'.' * dots}{name} import z\n")
    expected = resolve_name("." * dots + name, "top.mid.low")
    assert list(imported("top.mid.low.m", path)) == [expected, f"{expected}.z"]


def test_digest_reads_bytes(tmp_path):
    (tmp_path / "x.so").write_bytes(b"\x00\xff")
    assert len(file_digest(tmp_path / "x.so")) == 32
    assert list(imported("top.x", tmp_path / "x.so")) == []
