"""The tutorial runs from its first cell to its last, and says what it promises."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest
import uasbench
from uasbench.benchmark.catalogue import registry

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"


def test_the_notebook_is_kept_without_outputs():
    """They would grow old, and name folders of whoever ran it."""
    book = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert book["nbformat"] == 4
    assert len(code) > 8
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])


@pytest.mark.slow
def test_the_cells_run(tmp_path, monkeypatch, load_notebook, quick):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UASBENCH_DATA", raising=False)
    mpl.use("Agg")
    notebook = load_notebook(monkeypatch)
    with quick():
        for cell in json.loads(TUTORIAL.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                notebook.cell("".join(cell["source"]))
    run, summary, thresholds, compared, by_hand, of_table, figure, _ = notebook.values
    assert "smooth-deviation" in run._repr_html_()
    assert {"smooth-deviation", "hu-deviation", "ae"} == {*summary.index}
    assert len(thresholds) > 0
    assert {*compared.method} == {"smooth-deviation", "ae"}
    assert by_hand == of_table
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "tutorial-run" / "scores.svg").stat().st_size > 1000
    (kept,) = (tmp_path / "tutorial-run" / "sources" / "smooth-deviation").iterdir()
    assert "class SmoothDeviation" in kept.read_text()
    assert "smooth-deviation" not in registry.runnable().names()
    again = uasbench.open_run("tutorial-run")
    assert len(again.records) == 3
    assert (again.map("ae", again.records[0].data.patients.popitem()[0]) >= 0).all()
