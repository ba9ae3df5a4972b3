"""The mirror of a run folder on MLflow: exactly one nested run per cell, whatever dies in between."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from uasbench.benchmark.runs.records import Failure, write_json
from uasbench.benchmark.tracking import mirror, server
from uasbench.benchmark.tracking.server import TrackingError


def test_lost_cells_are_sent_again_and_a_new_parent_gets_every_cell_and_the_old_ones_go(build, here):
    records = [build(s) for s in range(2)]
    here.write(*records)
    assert [here.publish(files=True) for _ in range(2)] == [2, 0]
    lost = here.nested()[0].info.run_id
    here.client.delete_run(lost)
    assert here.publish(files=True) == 1
    assert here.slugs() == [r.cell.slug for r in records]
    assert lost not in {r.info.run_id for r in here.nested()}
    before = here.nested()
    here.client.delete_run(here.parent().info.run_id)
    assert here.publish(files=True) == 2
    assert len(here.slugs()) == 2
    assert all(here.client.get_run(r.info.run_id).info.lifecycle_stage == "deleted" for r in before)
    gone = {"token": "t" * 32, "parents": {"lits after btcv": {"experiment": "77", "run": "a" * 32}}}
    here.folder.update_info(mlflow={here.uri: gone})
    assert here.publish(files=True) == 2
    assert len(here.slugs()) == 2


def test_what_the_environment_says_of_another_run_is_ignored(build, here, monkeypatch):
    for name, value in (("RUN_ID", "a" * 32), ("TRACKING_URI", "http://127.0.0.1:9"), ("EXPERIMENT_ID", "77")):
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    here.write(build(0))
    assert here.publish(files=True) == 1
    assert here.slugs() == [build(0).cell.slug]


def test_after_the_database_was_deleted_everything_is_sent_anew(build, begin, mlflow_tables, tmp_path, monkeypatch):
    here = begin(tmp_path / "run", build(0), build(1))
    monkeypatch.setattr(mirror, "lay_out", lambda file: shutil.copyfile(mlflow_tables, file))
    assert here.publish() == 2
    here.folder.mlflow_db.unlink()
    assert here.publish() == 2


def test_a_kill_at_any_call_leaves_one_finished_run_per_cell(build, here, monkeypatch):
    here.write(build(0), build(1))
    here.publish()
    for method in ("create_run", "log_batch", "log_artifact", "set_terminated"):
        here.write(build(0, measure=method), build(1, measure=method))
        with monkeypatch.context() as patch:
            whole = getattr(MlflowClient, method)

            def killed(*arguments, whole=whole, **options):
                whole(*arguments, **options)
                raise KeyboardInterrupt

            patch.setattr(MlflowClient, method, killed)
            with pytest.raises(KeyboardInterrupt):
                here.publish()
        here.publish()
        runs = here.nested()
        assert len(here.slugs()) == 2
        assert all(method in r.data.tags["uasbench.ids"] for r in runs)


def test_neither_a_repeated_request_nor_lost_state_leaves_a_double(build, here, monkeypatch):
    here.write(build(0), build(1))
    once = MlflowClient.create_run

    def twice(self, *arguments, **options):
        once(self, *arguments, **options)
        return once(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    here.publish()
    assert len(here.slugs()) == 2
    before, ids = here.parent().info.run_id, [r.info.run_id for r in here.nested()]
    here.folder.update_info(mlflow={here.uri: {"token": here.state["token"], "parents": {}}})
    assert here.publish() == 0
    assert here.parent().info.run_id == before
    assert [r.info.run_id for r in here.nested()] == ids


def test_the_listing_is_paged_and_asks_once_per_parent(build, here, monkeypatch):
    here.write(*(build(s) for s in range(5)))
    here.publish()
    calls: list[str] = []
    for name in ("get_run", "search_runs", "create_run"):
        whole = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient, name, lambda *a, _w=whole, _n=name, **k: (calls.append(_n), _w(*a, **k))[1]
        )  # fmt: skip
    assert here.publish() == 0
    assert calls == ["get_run", "search_runs"]
    monkeypatch.setattr(mirror, "RUNS_PER_PAGE", 2)
    assert here.publish() == 0
    assert calls == ["get_run", "search_runs"] + ["get_run"] + 3 * ["search_runs"]


def test_names_that_mlflow_refuses_are_changed_and_kept_apart(build, here):
    record = build(0, **{"rate[β]/s": 1, "rate(β)/s": 2, "a//b/..": 3, "x" * 300: 4})
    here.write(record)
    fit = here.folder.fit_dir(record.ids.fit)
    fit.mkdir(parents=True)
    (fit / "curves.csv").write_text(
        "step,name,value\n0,loss,0.5\n1,loss,0.25\n0,loss[seg],1\n0,loss(seg),2\n0,50%,nan\n"
    )
    assert here.publish() == 1
    data = here.nested()[0].data
    assert data.metrics["training/loss"] == 0.25
    assert sorted(v for n, v in data.metrics.items() if n.startswith("training/loss_")) == [1, 2]
    assert {"1", "2", "3", "4", "16"} <= {v for n, v in data.params.items() if n.startswith("config")}


def test_a_cell_that_is_refused_and_a_damaged_record_are_named_and_stop_no_other(build, here):
    records = [build(s) for s in range(3)]
    here.write(*records)
    fit = here.folder.fit_dir(records[0].ids.fit)
    fit.mkdir(parents=True)
    (fit / "curves.csv").write_text("step,name,value\nhalf,loss,0.5\n")
    with pytest.raises(TrackingError, match=records[0].cell.slug) as refusal:
        here.publish(files=True)
    assert "\n" not in str(refusal.value)
    assert here.slugs() == [r.cell.slug for r in records[1:]]
    (fit / "curves.csv").unlink()
    (here.folder.records_dir / "broken.json").write_text("{}")
    with pytest.raises(TrackingError, match=r"broken\.json"):
        here.publish(files=True)
    assert len(here.slugs()) == 3


def test_overlays_go_to_their_own_seed_only_and_lie_beside_the_database(build, here, tmp_path):
    here.write(build(1), build(10))
    overlays = here.folder.figures_dir / "overlays"
    overlays.mkdir(parents=True)
    for seed in (1, 10):
        (overlays / f"{build(seed).cell.slug}.png").write_bytes(b"png")
    here.publish(files=True)
    for run in here.nested():
        assert here.artifacts(run.info.run_id, "overlays") == [f"{run.data.tags['uasbench.cell']}.png"]
        assert f"{run.data.tags['uasbench.cell']}.json" in here.artifacts(run.info.run_id)
    assert not (tmp_path / "mlruns").exists()
    assert (Path(here.uri.removeprefix("sqlite:///")).parent / "mlruns").is_dir()


def test_data_tags_are_whole_and_tell_data_apart(build, here):
    changed = build(1)
    changed.data.cases["case-00399"] = "other"
    here.write(build(0), changed)
    here.publish()
    tags = [run.data.tags for run in here.nested()]
    assert all(t["uasbench.data.test"].startswith("400 cases, ") for t in tags)
    assert tags[0]["uasbench.data.test"] != tags[1]["uasbench.data.test"]
    assert tags[0]["uasbench.data.train"] == tags[1]["uasbench.data.train"]


def test_tasks_of_earlier_commands_are_mirrored_too(build, here):
    here.write(build(0), build(0, dataset="other"))
    write_json(here.folder.failure_path(build(5).cell), Failure(cell=build(5).cell, stage="fit", error="e"))
    assert here.publish(files=True) == 2
    assert here.slugs("other after btcv") == [build(0, dataset="other").cell.slug]
    assert here.parent().info.status == "FAILED"
    assert here.parent("other after btcv").info.status == "FINISHED"


def test_a_kill_while_the_database_is_made_leaves_none(build, begin, mlflow_tables, tmp_path, monkeypatch):
    here = begin(tmp_path / "run", build(0))
    client = server.client

    def killed(address):
        Path(address.removeprefix("sqlite:///")).write_text("half of the tables")
        raise KeyboardInterrupt

    def made(address):
        shutil.copyfile(mlflow_tables, address.removeprefix("sqlite:///"))
        return client(address)

    monkeypatch.setattr(server, "client", killed)
    with pytest.raises(KeyboardInterrupt):
        here.publish()
    assert not here.folder.mlflow_db.exists()
    monkeypatch.setattr(server, "client", made)
    assert here.publish() == 1
    assert not list(here.folder.path.glob(".*.tmp"))
