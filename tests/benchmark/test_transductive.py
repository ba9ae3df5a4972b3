"""Methods that may see the unlabelled test scans: images alone, one fit per test set, a mark in every table."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

METHODS = """
import os
import numpy as np
from uasbench import Method, MethodCard

class Plain(Method):
    card = MethodCard(name="plain", title="Plain", deterministic=True)

    def fit(self, healthy, ctx):
        assert ctx.unlabelled is None

    def score(self, case):
        return np.abs(case.image)

class Peeks(Plain):
    card = MethodCard(name="peeks", title="Peeks", deterministic=True, uses="unlabelled-test")

    def fit(self, healthy, ctx):
        self.seen = [case.id for case in ctx.unlabelled]
        assert not any(hasattr(case, "lesion") for case in ctx.unlabelled)
        assert not any("truth" in str(part.case) for part in ctx.unlabelled.parts)

    def provenance(self):
        return {"weights": "local file 1234", "seen": ", ".join(self.seen)}

    def extra_identity(self):
        return os.environ.get("PEEKS_WEIGHTS", "")
"""


@pytest.fixture(autouse=True)
def _plugins(install: Callable[..., Path]) -> None:
    points = {"plain": "peeking_plugin:Plain", "peeks": "peeking_plugin:Peeks"}
    install("pkg-peeks", {"peeking_plugin.py": METHODS}, methods=points)


@pytest.fixture
def fits(plan):
    """Return ``fits(**options)``: the address of each method's fit, without training."""
    return lambda **options: {name: cell.ids.fit for name, cell in plan("plain,peeks", **options)[1].items()}


def test_a_transductive_method_sees_the_test_scans_and_is_marked(run):
    done = run("plain,peeks")
    assert not done.failures
    records = {r.cell.method: r for r in done.records}
    assert records["peeks"].provenance == {"weights": "local file 1234", "seen": "volume-0, volume-1"}
    assert records["plain"].provenance == {}
    stored = json.loads((done.folder.fit_dir(records["peeks"].ids.fit) / "fit.json").read_text())
    assert stored["provenance"] == records["peeks"].provenance
    for table in ("summary", "per_case", "cost"):
        flags = done.table(table).groupby("method")["flags"].first()
        assert "transductive" in flags["peeks"]
        assert "transductive" not in flags["plain"]
    report = (done.path / "report.html").read_text()
    assert "<dt>Weights</dt><dd>local file 1234</dd>" in report
    assert "unlabelled test scans" in report


def test_such_a_fit_belongs_to_its_test_set(fits):
    whole, part = fits(), fits(exclude=["lits:volume-1"])
    assert whole["plain"] == part["plain"]
    assert whole["peeks"] != part["peeks"]


def test_what_a_method_adds_to_its_identity_makes_another_fit(fits, monkeypatch):
    before = fits()
    monkeypatch.setenv("PEEKS_WEIGHTS", "5678")
    after = fits()
    assert before["plain"] == after["plain"]
    assert before["peeks"] != after["peeks"]
