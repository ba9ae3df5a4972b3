"""What ``bench list methods`` and ``bench show`` say about methods, usable or not."""

import re
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console
from uasbench.benchmark.catalogue import registry, showing
from uasbench.benchmark.catalogue.outline import Outline, outline_of, status_of
from uasbench.benchmark.catalogue.registry import RegistryError
from uasbench.benchmark.catalogue.sizes import parameters
from uasbench.benchmark.commands import listing
from uasbench.methods.context import network_allowed

METHODS = """
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uasbench import Config, Method, MethodCard, View, VolumeView
from uasbench.methods.method import SupervisedMethod

@dataclass(frozen=True)
class Settings(Config):
    width: int = 16
    rate: float = 1e-3
    vote: bool = field(default=True, metadata={"stage": "score"})
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"width": 4}, "smoke": {"rate": 0.5}}
    anatomies: ClassVar[Mapping[str, Mapping[str, Any]]] = {"lung": {"rate": 0.25}}

class Slices(Method):
    card = MethodCard(name="slices", title="[b]Slices[/b]", year=2020, family="reconstruction", citation="Somebody",
                      published=(("A paper", "lits", "dice", "12.3", "its own way"),), notes="A note.")
    Config = Settings
    native_threshold = 0.25

    @property
    def view(self):
        return View(size=self.config.width)

    def build(self):
        import torch
        self.net = torch.nn.Linear(self.config.width, 10)

class Volumes(SupervisedMethod):
    card = MethodCard(name="volumes", title="Volumes", supervision="full", uses="labels")

    @property
    def view(self):
        return VolumeView(size=8)

class Needy(Method):
    card = MethodCard(name="needy", title="Needy", uses="unlabelled-test")
    requires = ("package_that_nobody_has",)

class Weighty(Method):
    card = MethodCard(name="weighty", title="Weighty")

    def extra_identity(self):
        return "1234"

    def skip(self):
        return "no weights here; put them there"

class Faulty(Method):
    card = MethodCard(name="faulty", title="Faulty")

    def skip(self):
        raise ValueError("what now")

    def build(self):
        raise RuntimeError("no network either")
"""
CLASSES = {"slices": "Slices", "needy": "Needy", "weighty": "Weighty", "faulty": "Faulty"}


@pytest.fixture(autouse=True)
def _plugins(install) -> None:
    methods = {name: f"listed_plugin:{cls}" for name, cls in CLASSES.items()} | {"gone": "no_such_plugin:Gone"}
    install("pkg-listed", {"listed_plugin.py": METHODS}, methods=methods, toplines={"volumes": "listed_plugin:Volumes"})


def rows(table: Any) -> dict[str, dict[str, str]]:
    """The rows of a table by their first column."""
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    return {cells[0]: dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)}


def text(*parts: Any) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


def test_the_list_says_what_each_method_needs_and_whether_it_runs():
    found = rows(listing.methods())
    assert list(found["slices"]) == [
        "name",
        "family",
        "year",
        "supervision",
        "dims",
        "anatomy",
        "core-h q/s/p",
        "GPU-h q/s/p",
        "needs",
        "status",
    ]
    assert found["slices"]["dims"] == found["ae"]["dims"] == "2D"
    assert found["volumes"]["dims"] == found["normnet"]["dims"] == "3D"
    assert found["random"]["dims"] == "native"
    assert (found["slices"]["year"], found["slices"]["anatomy"]) == ("2020", "liver, lung, kidney, pancreas")
    assert found["slices"]["status"] == "ok, plug-in pkg-listed"
    assert found["random"]["status"] == "ok"
    assert (found["volumes"]["supervision"], found["volumes"]["needs"]) == ("full", "lesion labels")
    assert found["needy"]["needs"] == "package_that_nobody_has, unlabelled test scans"
    assert "pip install package_that_nobody_has" in found["needy"]["status"]
    assert found["weighty"]["needs"] == "weights"
    assert found["nnunet"]["needs"] == "nnunetv2, lesion labels"
    assert found["weighty"]["status"].startswith("no weights here; put them there")
    assert found["faulty"]["status"].startswith("fails: ValueError: what now")
    assert found["gone"]["family"].startswith("broken: ")


def test_the_second_list_imports_only_what_must_be_asked():
    listing.methods()
    registry.refresh()
    for name in [n for n in sys.modules if n.startswith("listed_plugin")]:
        del sys.modules[name]
    known = registry.runnable()
    assert known.outline("slices") == Outline("2D", (), (), False)
    assert known.outline("volumes") == Outline("3D", (), ("lesion labels",), False)
    assert "listed_plugin" not in sys.modules
    assert known.outline("weighty").declines


def test_listing_imports_no_network_library(tmp_path, monkeypatch):
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    code = (
        "import sys; from uasbench.benchmark.commands import listing; listing.methods(); "
        "heavy = {'torch', 'monai', 'timm', 'mlflow', 'optuna', 'scipy', 'uasbench.methods.trivial.baselines'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    # the first call reads every class, the second the index
    for imported in ("['scipy', 'uasbench.methods.trivial.baselines']", "[]"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.stdout.strip() == imported, done.stderr


def test_the_second_look_at_a_method_brings_no_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    code = (
        "import sys; from uasbench.benchmark.catalogue import showing; found = list(showing.show('ae')); "
        "print('torch' in sys.modules, len(found))"
    )
    for brought in ("True", "False"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.stdout.startswith(brought), done.stderr


def test_the_status_says_which_profile_or_anatomy_is_declined():
    settings = registry.runnable().get("slices").Config

    def status(declines) -> str:
        def skip(self):
            return "no. Really." if declines(self.config) else None

        return status_of(type("Declining", (registry.runnable().get("slices"),), {"skip": skip, "Config": settings}))

    assert status(lambda config: False) == "ok"
    assert status(lambda config: True) == "no. Really."
    assert status(lambda config: config.width == 16) == "paper: no. Really."
    assert status(lambda config: config.rate == 0.25) == "lung: no. Really."
    both = status(lambda config: config.rate == 0.25 and config.width == 4)  # it declares no standard, which is quick
    assert both == "standard on the lung, quick on the lung: no. Really."
    broken = type("Broken", (registry.runnable().get("slices"),), {"view": property(lambda self: 1 / 0)})
    assert outline_of(broken).dims == "?"  # listed all the same


def test_show_tells_card_settings_size_and_published_numbers():
    shown = text(*showing.show("slices"))
    for word in ("[b]Slices[/b]", "2020", "Somebody", "A note.", "own threshold  0.25", "2D, 16² pixels", "pkg-listed",
                 "A paper", "12.3", "parameters, paper     170", "parameters, standard  50"):  # fmt: skip
        assert word in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.split()}
    assert lines["width"] == ["width", "16", "4", "4", "fit"]
    assert lines["rate"] == ["rate", "0.001", "0.5", "fit"]
    assert lines["vote"] == ["vote", "on", "score"]
    assert lines["lung"] == ["lung", "rate", "0.25"]


def test_show_says_what_is_in_the_way_or_missing_and_asks_no_network(monkeypatch):
    for name, said in (
        ("weighty", "parameters, paper     none before training"),
        ("volumes", "cross-fitted over the patients of the test set"),
        ("needy", "sees the unlabelled test scans (transductive)"),
        ("faulty", "unknown (RuntimeError: no network either)"),
        ("hu-threshold", "parameters, paper     none\n"),
        ("hu-threshold", "published numbers  none on these data sets"),
        ("lits", "CC BY-NC-SA 4.0"),
        ("lits", "Bilic et al."),
    ):
        assert said in re.sub(r" +\n", "\n", text(*showing.show(name)))
    with pytest.raises(RegistryError, match="did you mean 'slices'"):
        list(showing.show("slice"))
    monkeypatch.setattr(registry.runnable().get("weighty"), "skip", lambda self: f"asked: {network_allowed()}")
    assert "asked: False" in text(*showing.show("weighty"))


def test_networks_that_read_values_while_they_are_made_are_counted_too():
    import torch

    class Reads(registry.runnable().get("slices")):
        def build(self):
            self.net = torch.nn.Linear(2, 3)
            assert float(self.net.weight.detach().abs().sum()) >= 0

    assert parameters(Reads, "paper") == "9"
