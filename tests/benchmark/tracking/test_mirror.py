"""The mirror of a run folder on MLflow: exactly one nested run per cell, whatever dies in between."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uasbench.benchmark.runs.records import Failure, write_json
from uasbench.benchmark.tracking import mirror
from uasbench.benchmark.tracking.server import TrackingError
from uasbench.benchmark.tracking.tracker import publish, sync


def test_cells_that_the_server_has_lost_are_sent_again(build, write, client, nested, slugs, folder, uri):
    records = [build(s) for s in range(3)]
    write(folder, *records)
    assert publish(folder, uri, files=True) == 3
    assert publish(folder, uri, files=True) == 0
    lost = nested(folder, uri)[0].info.run_id
    client(uri).delete_run(lost)
    assert publish(folder, uri, files=True) == 1
    assert slugs(nested(folder, uri)) == [r.cell.slug for r in records]
    assert lost not in {r.info.run_id for r in nested(folder, uri)}


def test_a_new_parent_gets_every_cell_and_the_old_ones_go(build, write, client, parent, nested, slugs, folder, uri):
    write(folder, build(0), build(1))
    publish(folder, uri, files=True)
    before = nested(folder, uri)
    client(uri).delete_run(parent(folder, uri))
    assert publish(folder, uri, files=True) == 2
    assert len(slugs(nested(folder, uri))) == 2
    assert all(client(uri).get_run(r.info.run_id).info.lifecycle_stage == "deleted" for r in before)


def test_ids_that_the_server_does_not_know_are_no_obstacle(build, write, nested, slugs, folder, uri):
    write(folder, build(0), build(1))
    gone = {"token": "t" * 32, "parents": {"lits after btcv": {"experiment": "77", "run": "a" * 32}}}
    cells = {build(s).cell.slug: {"run": f"{s}" * 32, "measure": f"m-{s}", "complete": True} for s in range(2)}
    folder.update_info(mlflow={uri: gone | {"cells": cells}})
    assert publish(folder, uri, files=True) == 2
    assert len(slugs(nested(folder, uri))) == 2


def test_after_the_database_was_deleted_everything_is_sent_anew(build, begin, mlflow_tables, tmp_path):
    folder = begin(tmp_path / "run", build(0), build(1))
    code = (
        "import sys; from uasbench.benchmark.tracking import tracker as t; print(t.sync(t.RunFolder.open(sys.argv[1])))"
    )
    shutil.copyfile(mlflow_tables, folder.mlflow_db)
    assert publish(folder, None, files=False) == 2
    folder.mlflow_db.unlink()
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.startswith("2 cells sent"), done.stderr


def test_lost_state_doubles_neither_parent_nor_cell(build, write, state, parent, nested, folder, uri):
    write(folder, build(0))
    publish(folder, uri, files=False)
    before, ids = parent(folder, uri), [r.info.run_id for r in nested(folder, uri)]
    folder.update_info(mlflow={uri: {"token": state(folder, uri)["token"], "parents": {}, "cells": {}}})
    assert publish(folder, uri, files=False) == 0
    assert parent(folder, uri) == before
    assert [r.info.run_id for r in nested(folder, uri)] == ids


def test_a_kill_at_any_call_leaves_one_finished_run_per_cell(build, write, nested, slugs, folder, uri, monkeypatch):
    from mlflow import MlflowClient

    write(folder, build(0), build(1))
    publish(folder, uri, files=False)
    for method in ("create_run", "log_batch", "log_artifact", "set_terminated"):
        write(folder, build(0, measure=method), build(1, measure=method))
        with monkeypatch.context() as patch:
            whole = getattr(MlflowClient, method)

            def killed(*arguments, whole=whole, **options):
                whole(*arguments, **options)
                raise KeyboardInterrupt

            patch.setattr(MlflowClient, method, killed)
            with pytest.raises(KeyboardInterrupt):
                publish(folder, uri, files=False)
        publish(folder, uri, files=False)
        runs = nested(folder, uri)
        assert len(slugs(runs)) == 2
        assert all(method in r.data.tags["uasbench.ids"] for r in runs)


def test_a_request_that_was_repeated_leaves_no_double(build, write, nested, slugs, folder, uri, monkeypatch):
    from mlflow import MlflowClient

    write(folder, build(0), build(1))
    once = MlflowClient.create_run

    def twice(self, *arguments, **options):
        once(self, *arguments, **options)
        return once(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    publish(folder, uri, files=False)
    assert len(slugs(nested(folder, uri))) == 2


def test_the_listing_is_paged_and_asks_once_per_parent(build, write, folder, uri, monkeypatch):
    from mlflow import MlflowClient

    write(folder, *(build(s) for s in range(5)))
    publish(folder, uri, files=False)
    calls: list[str] = []
    for name in ("get_run", "search_runs", "create_run"):
        whole = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient, name, lambda *a, _w=whole, _n=name, **k: (calls.append(_n), _w(*a, **k))[1]
        )  # fmt: skip
    assert publish(folder, uri, files=False) == 0
    assert calls == ["get_run", "search_runs"]
    monkeypatch.setattr(mirror, "RUNS_PER_PAGE", 2)
    assert publish(folder, uri, files=False) == 0
    assert calls == ["get_run", "search_runs"] + ["get_run"] + 3 * ["search_runs"]


def test_names_that_mlflow_refuses_are_changed_and_kept_apart(build, write, nested, folder, uri):
    record = build(0, **{"rate[β]/s": 1, "rate(β)/s": 2, "a//b/..": 3, "x" * 300: 4})
    write(folder, record)
    fit = folder.fit_dir(record.ids.fit)
    fit.mkdir(parents=True)
    (fit / "curves.csv").write_text(
        "step,name,value\n0,loss,0.5\n1,loss,0.25\n0,loss[seg],1\n0,loss(seg),2\n0,50%,nan\n"
    )
    assert publish(folder, uri, files=False) == 1
    data = nested(folder, uri)[0].data
    assert data.metrics["training/loss"] == 0.25
    assert sorted(v for n, v in data.metrics.items() if n.startswith("training/loss_")) == [1, 2]
    assert {"1", "2", "3", "4", "16"} <= {v for n, v in data.params.items() if n.startswith("config")}


def test_one_cell_that_is_refused_stops_no_other(build, write, nested, slugs, folder, uri):
    records = [build(s) for s in range(3)]
    write(folder, *records)
    fit = folder.fit_dir(records[0].ids.fit)
    fit.mkdir(parents=True)
    (fit / "curves.csv").write_text("step,name,value\nhalf,loss,0.5\n")
    with pytest.raises(TrackingError, match=records[0].cell.slug) as refusal:
        publish(folder, uri, files=True)
    assert "\n" not in str(refusal.value)
    assert slugs(nested(folder, uri)) == [r.cell.slug for r in records[1:]]
    (fit / "curves.csv").unlink()
    assert publish(folder, uri, files=True) == 1
    assert len(slugs(nested(folder, uri))) == 3


def test_a_damaged_record_is_named_and_stops_no_other(build, write, nested, slugs, folder, uri):
    write(folder, build(0))
    (folder.records_dir / "broken.json").write_text("{}")
    with pytest.raises(TrackingError, match=r"broken\.json"):
        sync(folder, uri)
    assert slugs(nested(folder, uri)) == [build(0).cell.slug]


def test_overlays_go_to_their_own_seed_only(build, write, nested, artifacts, folder, uri):
    write(folder, build(1), build(10))
    overlays = folder.figures_dir / "overlays"
    overlays.mkdir(parents=True)
    for seed in (1, 10):
        (overlays / f"{build(seed).cell.slug}.png").write_bytes(b"png")
    publish(folder, uri, files=True)
    for run in nested(folder, uri):
        assert artifacts(uri, run.info.run_id, "overlays") == [f"{run.data.tags['uasbench.cell']}.png"]
        assert f"{run.data.tags['uasbench.cell']}.json" in artifacts(uri, run.info.run_id)


def test_artifacts_lie_beside_the_database_and_never_where_the_command_ran(build, write, folder, uri, tmp_path):
    write(folder, build(0))
    publish(folder, uri, files=True)
    assert not (tmp_path / "mlruns").exists()
    assert (Path(uri.removeprefix("sqlite:///")).parent / "mlruns").is_dir()


def test_data_tags_are_whole_and_tell_data_apart(build, write, nested, folder, uri):
    changed = build(1)
    changed.data.cases["case-00399"] = "other"
    write(folder, build(0), changed)
    publish(folder, uri, files=False)
    tags = [run.data.tags for run in nested(folder, uri)]
    assert all(t["uasbench.data.test"].startswith("400 cases, ") for t in tags)
    assert tags[0]["uasbench.data.test"] != tags[1]["uasbench.data.test"]
    assert tags[0]["uasbench.data.train"] == tags[1]["uasbench.data.train"]


def test_tasks_of_earlier_commands_are_mirrored_too(build, write, client, parent, nested, slugs, folder, uri):
    write(folder, build(0), build(0, dataset="other"))
    write_json(folder.failure_path(build(5).cell), Failure(cell=build(5).cell, stage="fit", error="e"))
    assert publish(folder, uri, files=True) == 2
    assert slugs(nested(folder, uri, "other after btcv")) == [build(0, dataset="other").cell.slug]
    assert client(uri).get_run(parent(folder, uri)).info.status == "FAILED"
    assert client(uri).get_run(parent(folder, uri, "other after btcv")).info.status == "FINISHED"


def test_a_kill_while_the_database_is_made_leaves_none(build, begin, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    folder = begin(tmp_path / "run", build(0))

    def killed(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "search_experiments", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(folder, None, files=False)
    assert not folder.mlflow_db.exists()
    monkeypatch.undo()
    assert publish(folder, None, files=False) == 1
    assert not list(folder.path.glob(".*.tmp"))
