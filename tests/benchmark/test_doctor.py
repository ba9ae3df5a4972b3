"""The doctor reports what is wrong and never falls ill itself."""

import re
import sys

from typer.testing import CliRunner
from uasbench import cli
from uasbench.benchmark.commands import doctor
from uasbench.benchmark.commands.doctor import diagnose


def found(topic: str) -> list[tuple[str, str]]:
    return [(status, detail) for t, status, detail in diagnose() if t == topic]


def test_every_topic_is_looked_at_and_printed():
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 0
    findings = [re.fullmatch(r"(ok|note|problem) *([\w-]+): (.*)", line) for line in done.output.splitlines()]
    told = {(found[2], found[1]): found[3] for found in findings if found}
    assert {topic for topic, _ in told} == set(doctor._TOPICS)
    assert "torch" in told["packages", "ok"]
    assert "hu-deviation" in done.output


def test_a_plugin_shows_its_package_and_a_broken_one_is_a_problem(install):
    text = "from uasbench import Method, MethodCard\nclass P(Method):\n    card = MethodCard(name='well', title='W')\n"
    install("pkg-well", {"well_plugin.py": text}, methods={"well": "well_plugin:P"})
    install("pkg-ill", {"ill_plugin.py": "1 / 0"}, methods={"ill": "ill_plugin:P"})
    findings = found("plug-ins")
    assert [d for s, d in findings if s == "ok" and "well (pkg-well 1.0)" in d]
    assert [d for s, d in findings if s == "problem" and "ZeroDivisionError" in d and "pkg-ill" in d]


def test_the_data_root_and_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.delenv("UASBENCH_DATA", raising=False)
    assert found("data")[0][0] == "note"
    monkeypatch.setenv("UASBENCH_DATA", str(tmp_path / "missing"))
    assert found("data")[0][0] == "problem"
    monkeypatch.setenv("UASBENCH_DATA", str(tmp_path))
    assert found("data") == [("ok", f"UASBENCH_DATA={tmp_path}")]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "file" / "cache"))
    ((status, detail),) = found("cache")
    assert status == "problem"
    assert "set UASBENCH_CACHE" in detail


def test_an_old_installation_is_noticed(monkeypatch):
    from uasbench.benchmark.catalogue.registry import Registry

    monkeypatch.setattr(Registry, "names", lambda self: [])
    ((status, detail),) = found("installation")
    assert status == "problem"
    assert "pip install -e ." in detail


def test_a_topic_that_raises_is_a_finding(monkeypatch):
    def ill():
        raise RuntimeError("cannot look")

    monkeypatch.setattr(doctor, "_TOPICS", dict.fromkeys(doctor._TOPICS, ill))
    why = "cannot be determined: RuntimeError: cannot look"
    assert diagnose() == [(topic, "problem", why) for topic in doctor._TOPICS]


def test_a_missing_package_is_a_problem_and_torch_may_be_unusable(monkeypatch):
    monkeypatch.setattr(doctor, "versions", lambda: {"torch": "not installed", "numpy": "2.0"})
    assert [s for s, _ in found("packages")] == ["ok", "problem"]
    monkeypatch.setitem(sys.modules, "torch", None)
    assert found("devices")[0][0] == "problem"
