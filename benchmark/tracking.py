"""The one owner of MLflow: mirrors a run folder to a tracking server, from the parent process alone.

The records stay the source of truth. What the server has is kept in ``run.json`` under ``mlflow``, so that a rerun goes
on in the same parent run and never doubles a nested one, and ``bench track`` sends whatever is missing.
"""

from __future__ import annotations

import csv
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..datasets.errors import UasbenchError
from .records import Record
from .run_folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.console import Console

LOCAL = "local"
BATCH = 500
TASK_TAG, CELL_TAG, RUN_TAG = "uasbench.task", "uasbench.cell", "uasbench.run"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingError(UasbenchError):
    """The tracking server cannot be used."""


class Tracker:
    """Sends cells to MLflow from a thread of the parent while the run goes on.

    A server that fails is reported once and left alone: no cell waits for it, and nothing is lost.
    """

    def __init__(self, uri: str | None, console: Console | None) -> None:
        self.uri = uri
        self.console = console
        self._events: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._folder: RunFolder | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.problem: str | None = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._events.put(False)
            self._thread.join(timeout=None if kind is None else 2)

    def start(self, folder: RunFolder) -> None:
        """Begin to mirror a run."""
        self._folder = folder
        self._thread.start()
        self._events.put(True)

    def cell(self, record: Record) -> None:
        """A record has landed."""
        del record
        self._events.put(True)

    def finish(self) -> None:
        """Wait until everything, tables and figures included, is sent or the server has failed."""
        self._events.put(False)
        self._thread.join()
        if self.problem is None and self._folder is not None:
            self._attempt(lambda folder: publish(folder, self.uri, files=True))
        if self.problem and self.console is not None and self._folder is not None:
            self.console.print(
                f"MLflow: {self.problem}; no number is lost, 'bench track {self._folder.path}' sends them later",
                markup=False,
                highlight=False,
            )

    def _work(self) -> None:
        while self._events.get():
            while not self._events.empty():
                if not self._events.get():
                    return
            self._attempt(lambda folder: publish(folder, self.uri, files=False))
            if self.problem:
                return

    def _attempt(self, send: Callable[[RunFolder], Any]) -> None:
        assert self._folder is not None
        try:
            send(self._folder)
        except TrackingError as error:
            self.problem = str(error)


def sync(folder: RunFolder, uri: str | None = None) -> str:
    """Send whatever the server lacks and say what was sent.

    Raises:
        TrackingError: the server cannot be reached or refuses.
    """
    sent = publish(folder, uri, files=True)
    return f"{sent} cells sent to {tracking_uri(folder, uri)}, {len(folder.records())} are there now"


def tracking_uri(folder: RunFolder, uri: str | None = None) -> str:
    """Return the server of a run: the one named, the one the run used, or SQLite in the run folder."""
    chosen = uri or folder.info().get("options", {}).get("tracking_uri")
    return chosen or f"sqlite:///{folder.mlflow_db.resolve()}"


def serve(folder: RunFolder, port: int) -> int:
    """Run the MLflow dashboard of a run on localhost until it is stopped; return its exit status.

    Raises:
        TrackingError: the run was never tracked here.
    """
    uri = tracking_uri(folder)
    if uri.startswith("sqlite") and not folder.mlflow_db.exists():
        raise TrackingError(f"{folder.mlflow_db} does not exist yet; 'bench track {folder.path}' makes it")
    script = Path(sys.executable).with_name("mlflow")
    command = [str(script), "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    print(f"MLflow dashboard: http://127.0.0.1:{port} (Ctrl-C ends it)")
    try:
        return subprocess.run(command, cwd=folder.path, env={**os.environ, **QUIET}, check=False).returncode  # noqa: S603
    except KeyboardInterrupt:
        return 0


def publish(folder: RunFolder, uri: str | None, *, files: bool) -> int:
    """Bring the server up to date with the run folder and return how many cells were sent.

    Args:
        folder: the run.
        uri: server, or None for the run's own.
        files: also send tables, report and figures, which are made at the end of a run.

    Raises:
        TrackingError: the server cannot be reached or refuses.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise TrackingError(f"mlflow cannot be imported ({error})") from error
    import logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    address = tracking_uri(folder, uri)
    try:
        return _Mirror(MlflowClient(tracking_uri=address), folder, address).send(files=files)
    except (MlflowException, OSError) as error:
        line = str(error).strip().splitlines()[0]
        raise TrackingError(f"{address} does not take the run: {line}") from error


class _Mirror:
    """One pass over a run folder against one server."""

    def __init__(self, client: MlflowClient, folder: RunFolder, address: str) -> None:
        self.client = client
        self.folder = folder
        self.info = folder.info()
        self.key = LOCAL if address == f"sqlite:///{folder.mlflow_db.resolve()}" else address
        self.state: dict[str, Any] = self.info.get("mlflow", {}).get(self.key) or {"parents": {}, "cells": {}}

    def send(self, *, files: bool) -> int:
        records = self.folder.records()
        sent = 0
        for task in self.info["tasks"]:
            name = f"{task['dataset']} after {task['train']}"
            parent = self._parent(name, task)
            mine = [r for r in records if (r.cell.dataset, r.cell.train) == (task["dataset"], task["train"])]
            for record in mine:
                sent += self._cell(record, parent["experiment"], parent["run"])
            if files:
                self._finish(parent["run"], mine)
        return sent

    def _parent(self, name: str, task: dict[str, Any]) -> dict[str, str]:
        known = self.state["parents"].get(name)
        if known and self._alive(known["run"]):
            return known
        experiment = self._experiment(f"uasbench: {name}")
        phantom = self.info.get("phantom")
        tags = {
            TASK_TAG: name,
            RUN_TAG: str(self.folder.path.resolve()),
            "uasbench.phantom": json.dumps(phantom) if phantom else "no",
            "uasbench.command": self.info["command"],
            "uasbench.profile": self.info["profile"],
            "mlflow.runName": self.folder.path.name,
        }
        found = self._find(
            experiment, f"tags.`{RUN_TAG}` = '{_quoted(tags[RUN_TAG])}' and tags.`{TASK_TAG}` = '{name}'"
        )
        run = found or self.client.create_run(experiment, tags=tags).info.run_id
        self.state["parents"][name] = {"experiment": experiment, "run": run}
        self._save()
        del task
        return self.state["parents"][name]

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id
        artifacts = (self.folder.path.resolve() / "mlruns").as_uri() if self.key == LOCAL else None
        return self.client.create_experiment(name, artifact_location=artifacts)

    def _cell(self, record: Record, experiment: str, parent: str) -> int:
        slug = record.cell.slug
        known = self.state["cells"].get(slug)
        if known and known["measure"] == record.ids.measure and known.get("complete"):
            return 0
        old = (
            known["run"]
            if known
            else self._find(experiment, f"tags.`{CELL_TAG}` = '{slug}' and tags.`mlflow.parentRunId` = '{parent}'")
        )
        if old and self._alive(old):
            self.client.delete_run(old)
        run = self.client.create_run(experiment, tags=_tags(record, parent)).info.run_id
        self.state["cells"][slug] = {"run": run, "measure": record.ids.measure}
        self._save()
        self._log(run, record)
        self.client.set_terminated(run, "FINISHED")
        self.state["cells"][slug]["complete"] = True
        self._save()
        return 1

    def _log(self, run: str, record: Record) -> None:
        from mlflow.entities import Metric, Param

        now = int(1000 * self.folder.record_path(record.cell).stat().st_mtime)
        values = {**metrics(record), **costs(record)}
        points = [Metric(name, value, now, 0) for name, value in values.items()]
        points += [Metric(f"training/{n}", v, now, s) for s, n, v in curves(self.folder.fit_dir(record.ids.fit))]
        params = [Param(name, value[:6000]) for name, value in parameters(record).items()]
        self.client.log_batch(run, params=params)
        for chunk in _chunks(points, BATCH):
            self.client.log_batch(run, metrics=chunk)
        self.client.log_artifact(run, str(self.folder.record_path(record.cell)))

    def _finish(self, parent: str, records: list[Record]) -> None:
        for path in (self.folder.tables_dir, self.folder.figures_dir):
            if path.is_dir():
                self.client.log_artifacts(parent, str(path), path.name)
        for path in (self.folder.report_html, self.folder.run_json):
            if path.exists():
                self.client.log_artifact(parent, str(path))
        for record in records:
            run = self.state["cells"][record.cell.slug]["run"]
            for path in sorted(self.folder.figures_dir.rglob(f"{record.cell.slug}*")):
                self.client.log_artifact(run, str(path), "overlays")
        self.client.set_tag(parent, "uasbench.cells", f"{len(records)} done, {len(self.folder.failures())} failed")
        self.client.set_terminated(parent, "FAILED" if self.folder.failures() else "FINISHED")

    def _find(self, experiment: str, query: str) -> str | None:
        found = self.client.search_runs([experiment], filter_string=query, max_results=1)
        return found[0].info.run_id if found else None

    def _alive(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _save(self) -> None:
        servers = {**self.folder.info().get("mlflow", {}), self.key: self.state}
        self.folder.update_info(mlflow=servers)


def metrics(record: Record) -> dict[str, float]:
    """Return a record's numbers under MLflow names: ``patient/val/dice`` is the mean over patients."""
    sums: dict[str, dict[str, list[float]]] = {}
    for row in record.per_case:
        if row.value is not None:
            sums.setdefault(f"patient/{row.protocol}/{row.metric}", {}).setdefault(row.patient, []).append(row.value)
    values = {n: _mean(_mean(v) for v in patients.values()) for n, patients in sums.items()}
    values |= {f"{r.unit}/{r.protocol}/{r.metric}": r.value for r in record.pooled if r.value is not None}
    folds: dict[str, list[float]] = {}
    for row in record.thresholds:
        if row.threshold is not None:
            folds.setdefault(f"threshold/{row.protocol}", []).append(row.threshold)
    return {**values, **{name: _mean(found) for name, found in folds.items()}}


def costs(record: Record) -> dict[str, float]:
    """Return seconds and memory under MLflow names."""
    cost = record.cost.model_dump(include={"fit_s", "score_s", "measure_s", "s_per_slice", "peak_ram_mib", "params"})
    gpu = {} if record.cost.peak_gpu_mib is None else {"peak_gpu_mib": record.cost.peak_gpu_mib}
    return {f"cost/{name}": float(value) for name, value in {**cost, **gpu}.items()}


def parameters(record: Record) -> dict[str, str]:
    """Return what a cell was run with, as texts."""
    fixed = {**record.cell.model_dump(), "profile": record.profile, "device": record.cost.device}
    fixed |= {"precision": record.cost.precision, "threads": record.cost.threads}
    return {k: str(v) for k, v in {**fixed, **{f"config.{k}": v for k, v in record.config.items()}}.items()}


def curves(fit: Path) -> Iterator[tuple[int, str, float]]:
    """Yield the training curves of a fit as (step, name, value)."""
    path = fit / "curves.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield int(row["step"]), row["name"], float(row["value"])


def _tags(record: Record, parent: str) -> dict[str, str]:
    data = record.data
    return {
        "mlflow.parentRunId": parent,
        "mlflow.runName": f"{record.cell.method} · seed {record.cell.seed}",
        CELL_TAG: record.cell.slug,
        "uasbench.method": record.cell.method,
        "uasbench.family": record.method.family,
        "uasbench.uses": record.method.uses,
        "uasbench.phantom": json.dumps(data.phantom) if data.phantom else "no",
        "uasbench.ids": record.ids.model_dump_json(),
        "uasbench.data.test": json.dumps(data.cases)[:5000],
        "uasbench.data.train": json.dumps(data.train_cases)[:5000],
        "uasbench.data.split": str(data.split.get("hash", "")),
    }


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
