"""One pass over a run folder against one MLflow server, and what records are called there."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.atomic import write_file
from ..long_form import collect
from ..runs.folder import RunFolder, RunFolderError
from ..runs.records import Record
from ..shelves.part import Shared
from . import comparison
from .comparison import ROW_TAG, Row
from .moving import artifacts, copied, settle
from .progress import Progress, Watched
from .server import EXPERIMENTS, LOCAL, TrackingError, client, database, first_line, lay_out, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run

METRICS_PER_CALL, PARAMS_PER_CALL, RUNS_PER_PAGE = 500, 100, 500
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the dashboard opens on training runs
TASK_TAG, RUN_TAG, FOLDER_TAG = "uasbench.task", "uasbench.run", "uasbench.folder"
CELL_TAG, IDS_TAG, PARENT_TAG = "uasbench.cell", "uasbench.ids", "mlflow.parentRunId"


@dataclass
class _Task:
    """A parent run and, by cell, the active runs under it: run id → content addresses, empty until it is finished."""

    experiment: str
    run: str
    nested: dict[str, dict[str, str]]


class Mirror:
    """Makes one server say what the run folder says, and no more."""

    def __init__(self, folder: RunFolder, uri: str | None, progress: Progress) -> None:
        self.address = tracking_uri(folder, uri)
        file = folder.mlflow_db.resolve()
        self.own = database(self.address) == file
        progress.step()
        if self.own and not file.exists():
            lay_out(file)
        if self.own:
            settle(folder)
        self.client: Any = Watched(client(self.address), progress)
        self.folder = folder
        self.progress = progress
        self.info = folder.info()
        self.key = LOCAL if self.own else self.address
        self.state: dict[str, Any] = self.info.get("mlflow", {}).get(self.key) or {"parents": {}}
        if not self.own and copied(folder, self.key, self.state):
            self.state = {"parents": {}}
        self.moved = self.state.get("folder") != str(folder.path.resolve())
        self.state["folder"] = str(folder.path.resolve())
        self.tasks: dict[tuple[str, str], _Task] = {}
        self.refused: dict[str, str] = {}

    def begin(self) -> None:
        for pair in self._announced():
            self.client.update_run(self._task(*pair).run, status="RUNNING")

    def end(self, status: str) -> None:
        for task in self.tasks.values():
            self.client.set_terminated(task.run, status)

    def send(self, *, files: bool) -> int:
        """Send every cell that the server lacks, from this command or an earlier one; return how many."""
        there: dict[tuple[str, str], list[Record]] = {pair: [] for pair in self._announced()}
        sent, shared = Counter[tuple[str, str]](), Shared()
        for record in self._records():
            if self.progress.stopped.is_set():
                return sent.total()
            pair = (record.cell.dataset, record.cell.train)
            sent[pair] += self.cell(record)
            there.setdefault(pair, []).append(shared.brief(record))
        for pair, mine in there.items():
            task = self._task(*pair)
            if sent[pair] or self.refused:
                self._settle(task, mine)
            if files:
                self._finish(pair, task, mine)
        self.progress.files = files
        if self.refused:
            some = "; ".join(f"{name}: {why}" for name, why in islice(self.refused.items(), 3))
            raise TrackingError(f"{self.address} lacks {len(self.refused)} of the cells ({some})")
        return sent.total()

    def cell(self, record: Record) -> bool:
        """Send one cell unless the server has it; a cell that cannot be sent is noted and stops no other."""
        task = self._task(record.cell.dataset, record.cell.train)
        try:
            sent = self._cell(record, task)
            self.progress.cells.add(record.cell.slug)
            return sent
        except Exception as error:
            if not self._alive(task.run):
                raise
            self.refused[record.cell.slug] = first_line(error)
            return False

    def _announced(self) -> list[tuple[str, str]]:
        return [(task["dataset"], task["train"]) for task in self.info.get("tasks", [])]

    def _records(self) -> Iterator[Record]:
        """Yield every record, of which none is kept: a run may have more than the memory holds."""
        for path in sorted(self.folder.records_dir.glob("*.json")):
            try:
                yield self.folder.record(path)
            except RunFolderError as error:
                self.refused[path.stem] = first_line(error)

    def _task(self, dataset: str, train: str) -> _Task:
        pair = (dataset, train)
        if pair not in self.tasks:
            experiment, run = self._parent(f"{dataset} after {train}")
            self.tasks[pair] = _Task(experiment, run, self._nested(experiment, run))
        return self.tasks[pair]

    def _parent(self, name: str) -> tuple[str, str]:
        known = self.state["parents"].get(name)
        if known and self._alive(known["run"]):
            if self.moved:
                self.client.set_tag(known["run"], FOLDER_TAG, self.state["folder"])
                self._save()
            return known["experiment"], known["run"]
        if "token" not in self.state:
            self.state["token"] = uuid.uuid4().hex
            self._save()
        experiment = self._experiment(f"{EXPERIMENTS}{name}")
        found = [r.info.run_id for r in self._active(experiment, f"tags.`{RUN_TAG}` = '{self.state['token']}'")]
        for double in found[1:]:
            self.client.delete_run(double)
        phantom = self.info.get("phantom")
        tags = {
            TASK_TAG: name,
            RUN_TAG: self.state["token"],
            FOLDER_TAG: self.state["folder"],
            "uasbench.phantom": json.dumps(phantom) if phantom else "no",
            "uasbench.command": self.info["command"][:5000],
            "uasbench.profile": self.info["profile"],
            "mlflow.runName": self.folder.path.resolve().name,
            **comparison.source_tags(self.info),
        }
        run = found[0] if found else self.client.create_run(experiment, self._created_ms(), tags).info.run_id
        if known:  # its cells are sent anew
            for orphan in self._active(experiment, f"tags.`{PARENT_TAG}` = '{known['run']}'"):
                self.client.delete_run(orphan.info.run_id)
        self.state["parents"][name] = {"experiment": experiment, "run": run}
        self._save()
        return experiment, run

    def _created_ms(self) -> int | None:
        created = self.info.get("created")
        return None if created is None else int(1000 * datetime.fromisoformat(created).timestamp())

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id
        file = database(self.address)
        beside = (file.parent / "mlruns").as_uri() if file else None
        return self.client.create_experiment(name, artifact_location=beside, tags=EXPERIMENT_TAGS)

    def _nested(self, experiment: str, parent: str) -> dict[str, dict[str, str]]:
        nested: dict[str, dict[str, str]] = {}
        for run in self._active(experiment, f"tags.`{PARENT_TAG}` = '{parent}' AND tags.`{CELL_TAG}` != ''"):
            ids = run.data.tags.get(IDS_TAG, "") if run.info.status == "FINISHED" else ""
            nested.setdefault(run.data.tags.get(CELL_TAG, ""), {})[run.info.run_id] = ids
        return nested

    def _cell(self, record: Record, task: _Task) -> bool:
        slug, ids = record.cell.slug, record.ids.model_dump_json()
        found = task.nested.setdefault(slug, {})
        kept = next((run for run, its in found.items() if its == ids), None)
        for run in [run for run in found if run != kept]:
            self.client.delete_run(run)
            del found[run]
        if kept is not None:
            return False
        start, end = comparison.span_ms([record])
        tags = cell_tags(record, task.run) | comparison.source_tags(self.info)
        run = self.client.create_run(task.experiment, start, tags).info.run_id
        found[run] = ""
        self.client.log_inputs(run, comparison.data_inputs(record))
        self._log(run, record)
        self.client.set_terminated(run, "FINISHED", end)
        found[run] = ids
        return True

    def _settle(self, task: _Task, records: list[Record]) -> None:
        """Delete what a request that was repeated, or refused half-way, has left beside the cells."""
        fresh = self._nested(task.experiment, task.run)
        for record in records:
            kept = {run for run, ids in task.nested[record.cell.slug].items() if ids}
            for run in fresh.get(record.cell.slug, {}).keys() - kept:
                self.client.delete_run(run)

    def _log(self, run: str, record: Record) -> None:
        from mlflow.entities import Metric, Param

        now = int(1000 * self.folder.record_path(record.cell).stat().st_mtime)
        values = {**metrics(record), **costs(record)}
        points = [Metric(clean_name(name), value, now, 0) for name, value in values.items()]
        fit = self.folder.fit_dir(record.ids.fits[0])
        points += [Metric(clean_name(f"training/{n}"), v, now, s) for s, n, v in curves(fit)]
        params = [Param(clean_name(name), value[:6000]) for name, value in parameters(record).items()]
        self._batch(run, params, points)
        self._upload(run, self.folder.record_path(record.cell))

    def _batch(self, run: str, params: Sequence[Param], points: Sequence[Metric]) -> None:
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.client.log_batch(run, params=params[start : start + PARAMS_PER_CALL])
        for start in range(0, len(points), METRICS_PER_CALL):
            self.client.log_batch(run, metrics=points[start : start + METRICS_PER_CALL])

    def _finish(self, pair: tuple[str, str], task: _Task, records: list[Record]) -> None:
        pictures = _files(self.folder.figures_dir)
        for path in (*_files(self.folder.tables_dir), *pictures):
            self._upload(task.run, path, path.parent.relative_to(self.folder.path).as_posix())
        for path in (self.folder.report_html, self.folder.page_html, self.folder.run_json):
            if path.exists():
                self._upload(task.run, path)
        for record in records:
            for run in (run for run, ids in task.nested[record.cell.slug].items() if ids):
                for path in (p for p in pictures if p.name.startswith(f"{record.cell.slug}.")):
                    self._upload(run, path, "overlays")
        failed = sum((f.cell.dataset, f.cell.train) == pair for f in self.folder.failures())
        self.client.set_tag(task.run, "uasbench.cells", f"{len(records)} done, {failed} failed")
        self._compare(pair, task, records)
        end = comparison.span_ms(records)[1] if records and self._created_ms() is not None else None
        self.client.set_terminated(task.run, "FAILED" if failed else "FINISHED", end)

    def _compare(self, pair: tuple[str, str], task: _Task, records: list[Record]) -> None:
        """Have a row per method, the view that shows them and the note above it; who wrote another note keeps it."""
        rows = comparison.method_rows(self.folder, *pair)
        there: dict[str, str] = {}
        for run in self._active(task.experiment, f"tags.`{PARENT_TAG}` = '{task.run}' AND tags.`{ROW_TAG}` = 'method'"):
            method, ids = (run.data.tags.get(tag, "") for tag in ("uasbench.method", IDS_TAG))
            if method in there or method not in rows or ids != rows[method].digest or run.info.status != "FINISHED":
                self.client.delete_run(run.info.run_id)
            else:
                there[method] = run.info.run_id
        for method, cells in comparison.by_method(records).items():
            if method in rows and method not in there:
                self._row(task, rows[method], cells)
        if not rows:
            return
        dataset, key = pair[0], comparison.view_key(task.run)
        reference = self.info.get("references", {}).get(dataset)
        known = self.client.get_experiment(task.experiment).tags
        tags = {f"{comparison.SHARED_VIEW}{key}": comparison.view(task.run, rows, reference, int(1000 * time.time()))}
        if known.get(comparison.NOTE, comparison.NOTE_START).startswith(comparison.NOTE_START):
            tags[comparison.NOTE] = comparison.note(self.folder, *pair)
        for name, text in tags.items():
            self.client.set_experiment_tag(task.experiment, name, text)
        self.state["parents"][f"{pair[0]} after {pair[1]}"]["view"] = key
        self._save()

    def _row(self, task: _Task, row: Row, cells: list[Record]) -> None:
        from mlflow.entities import Metric, Param

        start, end = comparison.span_ms(cells)
        method = cells[0].cell.method
        tags = {
            PARENT_TAG: task.run,
            "mlflow.runName": method,
            ROW_TAG: "method",
            IDS_TAG: row.digest,
            "uasbench.method": method,
            "uasbench.family": cells[0].method.family,
            **comparison.source_tags(self.info),
        }
        run = self.client.create_run(task.experiment, start, tags).info.run_id
        self.client.log_inputs(run, comparison.data_inputs(cells[0]))
        params = [Param(clean_name(name), value[:6000]) for name, value in row.params.items()]
        self._batch(run, params, [Metric(clean_name(name), value, end, 0) for name, value in row.metrics.items()])
        self.client.set_terminated(run, "FINISHED", end)

    def _upload(self, run: str, path: Path, below: str | None = None) -> None:
        if not self.own:
            self.client.log_artifact(run, str(path), below)
            return
        # Not through MLflow, which remembers by run alone where files go: a run and its copy have runs of one name.
        self.progress.step()
        write_file(artifacts(self.folder) / run / "artifacts" / (below or "") / path.name, path.read_bytes())

    def _active(self, experiment: str, query: str) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs([experiment], query, max_results=RUNS_PER_PAGE, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _alive(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _save(self) -> None:
        servers = self.folder.info().get("mlflow", {})
        if servers.get(self.key) != self.state:
            self.folder.update_info(mlflow={**servers, self.key: self.state})


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder without those that a killed process left half-written."""
    inside = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return [p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts)]


def metrics(record: Record) -> dict[str, float]:
    """Return a record's numbers under MLflow names: ``patient/val/dice`` is the mean over patients."""
    scores = collect([record])
    values = {f"{one.unit}/{one.key.protocol}/{one.key.metric}": one.mean for one in scores if one.by_patient}
    folds = defaultdict[str, list[float]](list)
    for row in record.thresholds:
        if row.threshold is not None:
            folds[f"threshold/{row.protocol}"].append(row.threshold)
    return {**values, **{name: sum(found) / len(found) for name, found in folds.items()}}


def costs(record: Record) -> dict[str, float]:
    """Return seconds and memory under MLflow names."""
    names = {"fit_s", "score_s", "measure_s", "s_per_slice", "peak_ram_mib", "peak_gpu_mib", "params"}
    found = record.cost.model_dump(include=names, exclude_none=True)
    return {f"cost/{name}": float(value) for name, value in found.items()}


def parameters(record: Record) -> dict[str, str]:
    """Return what a cell was run with, as texts."""
    found = {**record.cell.model_dump(), "profile": record.profile}
    found |= record.cost.model_dump(include={"device", "precision", "threads", "compiled"})
    found |= {f"config.{name}": value for name, value in record.config.items()}
    return {name: str(value) for name, value in found.items()}


def curves(fit: Path) -> Iterator[tuple[int, str, float]]:
    """Yield the training curves of a fit as (step, name, value)."""
    path = fit / "curves.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield int(row["step"]), row["name"], float(row["value"])


def cell_tags(record: Record, parent: str) -> dict[str, str]:
    """Return the tags of a cell's nested run."""
    data = record.data
    return {
        PARENT_TAG: parent,
        "mlflow.runName": f"{record.cell.method} · seed {record.cell.seed}",
        CELL_TAG: record.cell.slug,
        "uasbench.method": record.cell.method,
        "uasbench.family": record.method.family,
        "uasbench.uses": record.method.uses,
        "uasbench.phantom": json.dumps(data.phantom) if data.phantom else "no",
        IDS_TAG: record.ids.model_dump_json(),
        "uasbench.data.test": _cases(data.cases),
        "uasbench.data.train": _cases(data.train_cases),
        "uasbench.data.split": data.split["hash"],
    }


def _cases(fingerprints: dict[str, str]) -> str:
    """Return the number of cases and a digest of their fingerprints; the record, an artifact, has the full list."""
    return f"{len(fingerprints)} cases, {_digest(json.dumps(fingerprints, sort_keys=True))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def clean_name(text: str) -> str:
    """Return a name that MLflow takes for a metric or parameter; a changed one ends in a digest, so none collide."""
    parts = re.sub(r"[^/\w.\- ]", "_", text).split("/")
    name = "/".join(part for part in parts if part not in ("", ".", ".."))[:200]
    return name if name == text else f"{name}-{_digest(text)}"
