"""The dashboard opens on one row per method: what is sent for it, and what leads to it."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from uasbench.benchmark.tracking import comparison, dashboard, landing
from uasbench.benchmark.tracking.server import TrackingError
from werkzeug.test import Client
from werkzeug.wrappers import Response

COLUMNS = "method,dataset,train,protocol,metric,unit,mean,ci_low,ci_high,n_cases,n_seeds,n_patients,profile,flags"
SUMMARY = f"""{COLUMNS},p_best_trivial
ae,lits,btcv,val,dice,patient,0.5,0.25,0.75,3,2,3,quick,phantom,0.03
ae,lits,btcv,none,auroc,patient,0.9,n/a,n/a,3,2,3,quick,phantom,n/a
ae,other,btcv,val,dice,patient,0.1,n/a,n/a,3,2,3,quick,phantom,n/a
"""
PAIRED = """dataset,train,protocol,metric,unit,method,reference,p_holm_crossed
lits,btcv,val,dice,patient,ae,hu-threshold,0.02
lits,btcv,val,dice,patient,gone,hu-threshold,0.5
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def tabled(here, build):
    """A run of two cells with its tables."""
    here.write(build(0), build(1))
    here.folder.update_info(references={"lits": "hu-threshold"}, created="2025-12-31T23:00:00+00:00")
    here.folder.update_info(environment={"commit": "c0ffee"})
    tables = {
        "summary.csv": SUMMARY,
        "paired_tests.csv": PAIRED,
        "headline-lits-btcv.md": "| Method |\n| --- |\n| ae |\n",
    }
    here.folder.tables_dir.mkdir()
    for name, text in tables.items():
        (here.folder.tables_dir / name).write_text(text)
    here.publish(files=True)
    return here


def rows(here):
    return [run for run in here.below() if run.data.tags.get("uasbench.row")]


def tags(here):
    return here.client.get_experiment(here.state["parents"]["lits after btcv"]["experiment"]).tags


def test_a_method_has_a_row_with_its_mean_interval_and_p(tabled):
    (row,) = rows(tabled)
    assert row.info.run_name == "ae"
    assert row.data.metrics == {
        "patient/val/dice": 0.5, "patient/val/dice/ci_low": 0.25, "patient/val/dice/ci_high": 0.75,
        "patient/val/dice/p_best_trivial": 0.03, "patient/val/dice/p_hu-threshold": 0.02, "patient/none/auroc": 0.9,
    }  # fmt: skip
    assert row.data.params["n_patients"] == "3"
    assert len(tabled.nested()) == 2


def test_rows_are_sent_once_and_anew_where_a_table_changed(tabled):
    (before,) = rows(tabled)
    tabled.publish(files=True)
    assert [row.info.run_id for row in rows(tabled)] == [before.info.run_id]
    (tabled.folder.tables_dir / "summary.csv").write_text(SUMMARY.replace("0.5,", "0.6,"))
    tabled.publish(files=True)
    (after,) = rows(tabled)
    assert after.data.metrics["patient/val/dice"] == 0.6
    (tabled.folder.tables_dir / "summary.csv").write_text(SUMMARY.partition("\n")[0] + "\n")
    tabled.publish(files=True)
    assert rows(tabled) == []


def test_the_view_shows_the_rows_of_this_run_alone_the_best_one_first(tabled):
    parent = tabled.state["parents"]["lits after btcv"]
    shared = json.loads(tags(tabled)[f"mlflow.sharedViewState.{parent['view']}"])
    state = json.loads(shared["state"])
    found = tabled.client.search_runs([parent["experiment"]], state["searchFilter"])
    assert [run.info.run_id for run in found] == [row.info.run_id for row in rows(tabled)]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`patient/val/dice`", False)
    shown = {name.split("`")[1] for name in state["selectedColumns"]}
    assert {"patient/val/dice", "patient/val/dice/p_hu-threshold", "n_seeds"} <= shown
    assert shown <= {*rows(tabled)[0].data.metrics, *rows(tabled)[0].data.params}


def test_the_note_is_the_headline_and_that_of_somebody_else_stays(tabled):
    assert "| ae |" in tags(tabled)["mlflow.note.content"]
    (tabled.folder.tables_dir / "headline-lits-btcv.md").write_text("line\n" * 5000)
    experiment = tabled.state["parents"]["lits after btcv"]["experiment"]
    tabled.publish(files=True)
    long = tags(tabled)["mlflow.note.content"]
    assert len(long) <= comparison.NOTE_LENGTH
    assert long.endswith("line\n")
    tabled.client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    tabled.publish(files=True)
    assert tags(tabled)["mlflow.note.content"] == "mine"


def test_runs_last_as_long_as_their_cells_computed_and_name_data_and_source(tabled, build):
    end = 1000 * int(datetime.fromisoformat(build(0).created).timestamp())
    for run, seconds in [*((cell, 3) for cell in tabled.nested()), (rows(tabled)[0], 6)]:
        assert (run.info.start_time, run.info.end_time) == (end - 1000 * seconds, end)
        named = {i.dataset.name: (i.tags[0].value, json.loads(i.dataset.profile)) for i in run.inputs.dataset_inputs}
        assert named == {"lits": ("test", {"cases": 400}), "btcv": ("train", {"cases": 1})}
        assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
        assert run.data.tags["mlflow.source.name"] == "bench"
    parent = tabled.parent().info
    assert parent.end_time - parent.start_time == 3600_000


def test_the_address_leads_to_the_view_and_without_one_to_a_sorted_list(monkeypatch):
    parent = {"experiment": "7", "run": "a" * 32, "view": "uasbench-aaaa"}
    assert comparison.page(parent) == (
        "/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=uasbench-aaaa"
    )  # and not on a page for language models
    del parent["view"]
    sorted_list = "&orderByKey=metrics.%60patient%2Fval%2Fdice%60&orderByAsc=false"
    assert comparison.page(parent).endswith(sorted_list)
    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    assert comparison.page({**parent, "view": "x"}).endswith(sorted_list)


def test_a_dashboard_without_views_or_with_nothing_to_compare_is_said_so(begin, tmp_path, monkeypatch):
    folder = begin(tmp_path / "run").folder
    pages = {"a": "/#/experiments/1/runs?orderByKey=x"}
    assert "bench track" in "".join(dashboard._lacking(folder, pages))
    assert not [*dashboard._lacking(folder, {"a": "?viewStateShareKey=x"})]
    monkeypatch.setattr(dashboard, "has_views", lambda: False)
    assert "no shared views" in "".join(dashboard._lacking(folder, pages))


def test_the_installed_mlflow_knows_views_and_its_first_page_takes_the_script():
    assert comparison.has_views()
    (place,) = find_spec("mlflow").submodule_search_locations
    index = Path(place, "server", "js", "build", "index.html").read_bytes()

    def inner(environ, start_response):
        response = Response(index if environ["PATH_INFO"] == "/" else b"<head>", mimetype="text/html")
        response.set_etag("page")
        return response.make_conditional(environ)(environ, start_response)

    client = Client(landing.Landing(inner, "/a?b=</script>"))
    first = client.get("/", headers={"If-None-Match": '"page"'})
    assert first.status_code == 200  # and not what the browser kept of another server
    assert first.headers["Cache-Control"] == "no-store"
    text = first.get_data(as_text=True)
    assert text.index("<script>") < text.index("main.")
    assert 'location.replace("#/a?b=\\u003c/script>")' in text
    assert client.get("/static-files/x").get_data() == b"<head>"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_bare_address_shows_the_methods_in_chromium(begin, build, servers, until, mlflow_tables, tmp_path):
    here = begin(tmp_path / "run", build(0))
    shutil.copyfile(mlflow_tables, here.folder.mlflow_db)
    here.folder.tables_dir.mkdir()
    better = SUMMARY.splitlines()[1].replace("ae,", "zz-best,").replace("0.5,", "0.9,")
    (here.folder.tables_dir / "summary.csv").write_text(f"{SUMMARY}{better}\n")
    records = [build(0), build(0).model_copy(update={"cell": build(0).cell.model_copy(update={"method": "zz-best"})})]
    here.write(*records)
    here.publish(files=True)
    port = servers.free_port()
    command = [
        sys.executable,
        "-c",
        "from uasbench.cli import main; main()",
        "ui",
        here.folder.path,
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/health"), 120)
            browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
            profile = f"--user-data-dir={tmp_path / 'profile'}"
            page = subprocess.run(
                [*browser, profile, "--window-size=1500,900", "--dump-dom", f"http://127.0.0.1:{port}/"],
                capture_output=True, text=True, timeout=300, check=True,
            ).stdout  # fmt: skip
        finally:
            running.terminate()
    assert "Methods by patient/val/dice" in page
    assert 0 < page.index(">zz-best<") < page.index(">ae<")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        time.sleep(0.5)
        return False


def test_a_refused_row_is_an_error_of_the_server(tabled, monkeypatch):
    monkeypatch.setattr(comparison, "method_rows", lambda *_: 1 / 0)
    with pytest.raises(TrackingError, match="does not take the run"):
        tabled.publish(files=True)
