"""``bench new-plugin``: an installable package with one method and one test, to be changed into somebody's own."""

import re
from pathlib import Path
from string import Template

from ...common.errors import UasbenchError
from ..catalogue import registry

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class PluginError(UasbenchError):
    """The package cannot be written: a bad name, or the folder is taken."""


_PYPROJECT = Template("""\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "$package_dashed"
version = "0.1.0"
description = "The method $name for uasbench"
requires-python = ">=3.11"
dependencies = ["uasbench"]

[project.entry-points."uasbench.methods"]
$name = "$package.method:$cls"

[tool.setuptools]
packages = ["$package"]
""")

_METHOD = Template('''\
"""$title: say here, in a line, what makes a voxel anomalous."""

import numpy as np
from scipy.ndimage import median_filter
from uasbench import Case, FitContext, HealthySet, Method, MethodCard


class $cls(Method):
    """Distance of every voxel from its in-plane local median."""

    card = MethodCard(name="$name", title="$title", deterministic=True)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Nothing to learn."""

    def score(self, case: Case) -> np.ndarray:
        """Anomaly map, float32 (z, y, x), larger = more anomalous; only values inside case.roi count."""
        return np.abs(case.image - median_filter(case.image, size=(1, 5, 5))).astype(np.float32)
''')

_TEST = Template("""\
from $package.method import $cls
from uasbench.benchmark.conformance.run import check_method


def test_the_method_keeps_the_contract():
    failed = [f"{result.name}: {result.detail}" for result in check_method($cls) if result.failed]
    assert not failed, failed
""")

_README = Template("""\
# $title

    pip install -e .            # makes the method known to bench
    bench check $name           # does it keep the contract?
    bench run --methods $name,hu-deviation --dataset lits --phantom --profile quick

The method is `$package/method.py`. docs/plugins.md of uasbench explains settings, views, networks and training.
""")


def new_plugin(name: str, folder: Path | str = ".") -> list[Path]:
    """Write the package ``folder/NAME`` for a method of that name and return its files.

    Raises:
        PluginError: bad or taken name, or the folder exists.
    """
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        hint = f", for example {better!r}" if better else ""
        raise PluginError(f"method name {name!r}: use lower-case letters, digits and single dashes{hint}")
    if name == "all" or name in registry.methods().names():
        raise PluginError(f"method name {name!r} is taken; 'bench list methods' shows the names in use")
    root = Path(folder) / name
    if root.exists():
        raise PluginError(f"{root} exists already; choose another name or folder, or remove it")
    package = f"uasbench_{name.replace('-', '_')}"
    joined = "".join(part.capitalize() for part in name.split("-"))
    words = {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "package": package,
        "package_dashed": package.replace("_", "-"),
        "cls": joined if joined[0].isalpha() else f"Method{joined}",
    }
    texts = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"{package}/__init__.py": Template('"""The method $name for uasbench."""\n'),
        f"{package}/method.py": _METHOD,
        f"tests/test_{package}.py": _TEST,
    }
    written = []
    for relative, text in texts.items():
        path = root / relative
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.substitute(words), encoding="utf-8")
        except OSError as error:
            raise PluginError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
        written.append(path)
    return written
