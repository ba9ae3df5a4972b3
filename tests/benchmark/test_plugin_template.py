"""The package that ``bench new-plugin`` writes installs, keeps the contract and passes its own test."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.commands.plugin_template import PluginError, new_plugin
from uasbench.benchmark.conformance.run import run_checks
from uasbench.datasets.anatomy import find_anatomy


def test_the_package_is_found_and_passes_its_own_test(tmp_path, install):
    root = tmp_path / "3d-idea"
    files = new_plugin("3d-idea", tmp_path)
    assert all(f.is_file() and f.is_relative_to(root) for f in files)
    project = tomllib.loads((root / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["uasbench.methods"]
    assert points == {"3d-idea": "uasbench_3d_idea.method:Method3dIdea"}
    sources = {str(p.relative_to(root)): p.read_text() for p in root.glob("uasbench_3d_idea/*.py")}
    install("uasbench-3d-idea", sources, methods=points)
    assert registry.methods().card("3d-idea").title == "3d idea"
    runpy.run_path(str(root / "tests" / "test_uasbench_3d_idea.py"))["test_the_method_keeps_the_contract"]()


@pytest.mark.slow
def test_pip_installs_it(tmp_path):
    pytest.importorskip("setuptools", reason="builds a plug-in; Python 3.12 and later bring no setuptools")
    new_plugin("my-idea", tmp_path)
    target = tmp_path / "target"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(tmp_path / "my-idea")]
    subprocess.run(command, check=True, timeout=300)
    assert (target / "uasbench_my_idea" / "method.py").is_file()
    (info,) = target.glob("uasbench_my_idea-*.dist-info")
    assert "my-idea = uasbench_my_idea.method:MyIdea" in (info / "entry_points.txt").read_text()


def test_bad_and_taken_names_and_folders_are_refused(tmp_path):
    for hint, *names in (
        ("'my-idea'", "My_Idea", "my idea"),
        ("use lower-case", "", "é"),
        ("'up'", "../up"),
        ("'x'", "-x"),
        ("'a-b'", "a--b"),
        ("is taken", "random", "all"),
    ):
        for name in names:
            with pytest.raises(PluginError, match=hint):
                new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "my-idea").mkdir()
    with pytest.raises(PluginError, match="exists already"):
        new_plugin("my-idea", tmp_path)
    assert list((tmp_path / "my-idea").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginError, match="cannot be written"):
        new_plugin("my-idea", tmp_path / "file")


def documented(repository: Path, language: str) -> list[str]:
    text = (repository / "docs" / "plugins.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.slow
def test_the_documented_methods_keep_the_contract(repository, install, monkeypatch):
    from uasbench.benchmark.conformance import learning

    monkeypatch.setattr(learning, "_affordable", lambda subject, config: 150)
    median, network, *_ = documented(repository, "python")
    points = {"median-residual": "doc_plugin.median:MedianResidual", "mean-net": "doc_plugin.network:MeanNet"}
    files = {"doc_plugin/__init__.py": "", "doc_plugin/median.py": median, "doc_plugin/network.py": network}
    install("doc-plugin", files, methods=points)
    assert tomllib.loads(documented(repository, "toml")[0])["project"]["entry-points"]["uasbench.methods"]
    for name in points:
        assert not [r for r in run_checks(name) if r.failed]


def test_the_documented_organ_is_found_by_its_name(repository, install):
    points = tomllib.loads(documented(repository, "toml")[2])["project"]["entry-points"]["uasbench.anatomies"]
    (text,) = (block for block in documented(repository, "python") if "SPLEEN =" in block)
    install("my-package", {"my_package.py": text}, anatomies=points)
    assert find_anatomy("spleen").median_hu == (-20.0, 250.0)
