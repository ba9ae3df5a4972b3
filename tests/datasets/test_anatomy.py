"""The registry of organs: five built in, more from packages, and a name that nobody knows."""

import pytest
from pydantic import TypeAdapter, ValidationError
from uasbench.common.errors import DataError
from uasbench.datasets import anatomy
from uasbench.datasets.anatomy import Anatomy, Tissue, anatomy_names, find_anatomy


def test_the_built_in_organs_are_read_with_their_types():
    assert anatomy_names() == ["colon", "kidney", "liver", "lung", "pancreas"]
    lung = find_anatomy("lung")
    assert (lung.name, lung.window, lung.median_hu) == ("lung", (-1000.0, 400.0), None)
    assert isinstance(lung.tissue, Tissue)
    assert lung.tissue.lesions == (-110.0, 400.0)
    assert find_anatomy("liver").median_hu == (-50.0, 250.0)


def test_an_unknown_one_and_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(
        DataError,
        match=r"unknown anatomy 'lungs'; did you mean 'lung'.*known: colon, kidney, liver, lung, pancreas.*anatomies",
    ):
        find_anatomy("lungs")
    with pytest.raises(DataError, match=r"'kidney': window .*the lower first"):
        Anatomy(name="kidney", title="kidney", window=(300.0, -100.0))
    for kind in (Anatomy, Tissue):
        with pytest.raises(ValidationError, match=r"windwo\n +Unexpected"):
            TypeAdapter(kind).validate_python({"windwo": 1})


@pytest.fixture
def plugged(monkeypatch):
    """Return ``plugged(name=target)``: entry points of a package that is not there."""
    from importlib.metadata import EntryPoint

    def make(**targets):
        points = [EntryPoint(name, value, anatomy.GROUP) for name, text in targets.items() for value in text.split()]
        monkeypatch.setattr(anatomy, "entry_points", lambda group: points)
        anatomy.refresh()

    yield make
    monkeypatch.undo()
    anatomy.refresh()


def test_an_anatomy_whose_import_ends_the_interpreter_is_refused(plugged, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in {"aborting": "import os; os.abort()", "leaving": "import sys; sys.exit(0)"}.items():
        (tmp_path / f"{name}.py").write_text(code)
    plugged(spleen="aborting:SPLEEN", brain="leaving:BRAIN")
    with pytest.raises(DataError, match=r"'spleen' .* cannot be imported: it ends the interpreter \(SIGABRT\)"):
        find_anatomy("spleen")
    with pytest.raises(DataError, match=r"'brain' .* cannot be imported: it raised SystemExit\(0\)"):
        find_anatomy("brain")


@pytest.mark.parametrize(
    ("name", "targets", "message"),
    [
        ("spleen", "no_such_module:SPLEEN", r"'spleen' \(no_such_module:SPLEEN\) cannot be imported"),
        ("spleen", "math:pi", r"math:pi is 3.14.*not an Anatomy of that name"),
        ("spleen", "one:SPLEEN two:SPLEEN", r"'spleen' is registered twice: one:SPLEEN and two:SPLEEN"),
        ("liver", "mine:LIVER", r"'liver' is registered twice: the benchmark and mine:LIVER"),
    ],
)
def test_names_of_packages_are_known_before_they_are_imported_and_bad_ones_refused(plugged, name, targets, message):
    plugged(**{name: targets})
    assert anatomy_names() == sorted({name, "colon", "kidney", "liver", "lung", "pancreas"})
    with pytest.raises(DataError, match=message):
        find_anatomy(name)
