"""Messages say to a caller of a function what they say to the user of the command, in the words of Python."""

import ast
import re
import sys
import warnings
from types import ModuleType

import pytest
import uasbench
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from uasbench import api
from uasbench.common.errors import DataError, UasbenchError
from uasbench.common.wording import in_python, spoken


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("give --data-root DIR or set UASBENCH_DATA", "give data_root=DIR or set UASBENCH_DATA"),
        ("--phantom and --data-root exclude each other", "phantom=True and data_root= exclude each other"),
        ("choose another --out or mend its permissions", "choose another out= or mend its permissions"),
        ("--train btcv: lits needs another", "train='btcv': lits needs another"),
        ("use --device cpu, or check 'bench doctor'", "use device='cpu', or check 'bench doctor'"),
        ("raise it with --stage-limit", "raise it with stage_limit_s="),
        ("--workers 0: give at least 1", "workers=0: give at least 1"),
        ("--exclude a:b --exclude a:c --exclude d:e", "exclude=['a:b', 'a:c', 'd:e']"),
        ("--exclude leaves no case of set 'lits'", "exclude= leaves no case of set 'lits'"),
        ("--set 'ae': write METHOD.KEY=VALUE", "set=['ae']: write METHOD.KEY=VALUE"),
        ("not whole; run the same 'bench run' again", "not whole; call uasbench.run() again"),
        ("'bench rescore' writes it again", "uasbench.rescore() writes it again"),
    ],
)  # fmt: skip
def test_options_become_arguments(command, python):
    assert in_python(command) == python


@given(st.text())
def test_what_names_no_option_stays(text):
    text = re.sub(r"--+(?=[a-z])", "-", text).replace("'bench ", "'")
    assert in_python(text) == text


@given(st.from_regex(r"[a-z]+[:/][a-z0-9-]*[a-z0-9]", fullmatch=True))
def test_a_value_is_a_literal_of_python(value):
    found = in_python(f"leave it out: --exclude {value}")
    assert ast.literal_eval(found.partition("exclude=")[2]) == [value]


def test_the_kind_of_error_and_what_it_holds_stay():
    class Told(DataError):
        def __init__(self) -> None:
            super().__init__("--out", 3)

    def fails(error: Exception) -> None:
        raise error

    with pytest.raises(DataError, match=r"^give data_root=$") as caught:
        spoken(fails)(DataError("give --data-root"))
    assert type(caught.value) is DataError
    with pytest.raises(Told) as told:
        spoken(fails)(Told())
    assert told.value.args == ("--out", 3)
    with pytest.raises(ValueError, match="--out"):
        spoken(fails)(ValueError("--out"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: uasbench.run("ae", "lits", seeds="x"), r"^seeds='x': give a number"),
        (lambda: uasbench.run("ae", "lits", profile="quik"), r"^profile='quik': "),
        (lambda: uasbench.run("ae", []), r"^dataset=\[\]: "),
        (lambda: uasbench.run("ae", "lits", trails=3), r"^there is no option 'trails'; did you mean 'trials'\?$"),
        (lambda: uasbench.run("ae", "lits", set=["ae"]), r"^set=\['ae'\]: write METHOD.KEY=VALUE"),
        (lambda: uasbench.run("ae", "lits", train="nobody"), "^unknown data set 'nobody'"),
        (lambda: uasbench.tune("ae", "btcv", out="never"), r"^dataset='btcv': btcv is a healthy set"),
        (lambda: uasbench.rescore("nowhere"), "nowhere is not a run folder: it has no run.json"),
    ],
)
def test_the_functions_of_the_package_speak_python(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UasbenchError, match=said) as caught:
        call()
    assert "--" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shell", "shown"), [("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False)])
def test_a_notebook_and_nothing_else_shows_progress_unasked(shell, shown, monkeypatch):
    console = api._shown("auto")
    assert console is None
    ipython = ModuleType("IPython")
    vars(ipython)["get_ipython"] = type(shell, (), {})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert (api._shown("auto") is not None) == shown
    assert api._shown(None) is None
    assert api._shown(mine := Console()) is mine


def test_the_bars_of_a_notebook_ask_for_no_widgets(monkeypatch):
    ipython = ModuleType("IPython")
    vars(ipython)["get_ipython"] = type("ZMQInteractiveShell", (), {})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    asked = []
    monkeypatch.setattr(api, "import_module", lambda name: asked.append(name) or warnings.warn(name, stacklevel=1))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        api._shown("auto")
    assert (asked, heard) == (["tqdm.auto"], [])
