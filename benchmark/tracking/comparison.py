"""What the dashboard opens on: one row per method with mean, interval and p, a view that shows them, and a note."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from ..runs.folder import RunFolder
from ..runs.records import Record

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

ROW_TAG = "uasbench.row"
SHARED_VIEW, NOTE = "mlflow.sharedViewState.", "mlflow.note.content"
NOTE_START, NOTE_LENGTH = "**uasbench**", 5000
HEADLINES = ("patient/val/dice", "slice/none/slice_auroc")
FURTHER = ("patient/none/auroc", "patient/none/ap", "slice/none/slice_auroc")
OF_A_MEAN = ("ci_low", "ci_high", "diff_best_trivial", "p_best_trivial")


class Row(NamedTuple):
    """A method: what it was run with, and its numbers under MLflow names, shares as fractions."""

    params: dict[str, str]
    metrics: dict[str, float]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]


def method_rows(folder: RunFolder, dataset: str, train: str) -> dict[str, Row]:
    """Return a row for each method of a task from its tables; none where they are not written yet.

    ``patient/val/dice`` is the mean over patients, as in a cell's run; below it lie its 95 % interval, the difference
    to the best trivial baseline, and the crossed test's p after Holm against that and against each reference.
    """
    rows: dict[str, Row] = {}
    for line in _table(folder, "summary.csv", dataset, train):
        row = rows.setdefault(line["method"], Row({"method": line["method"], "profile": line["profile"]}, {}))
        name = f"{line['unit']}/{line['protocol']}/{line['metric']}"
        row.metrics.update(
            _numbers({name: line["mean"], **{f"{name}/{part}": line.get(part, "") for part in OF_A_MEAN}})
        )
        if name in HEADLINES:
            row.params.update({f"n_{what}": line[f"n_{what}"] for what in ("patients", "cases", "seeds")})
            row.params["flags"] = line["flags"]
    for line in _table(folder, "paired_tests.csv", dataset, train):
        if line["method"] in rows:
            name = f"{line['unit']}/{line['protocol']}/{line['metric']}/p_{line['reference']}"
            rows[line["method"]].metrics.update(_numbers({name: line["p_holm_crossed"]}))
    return rows


def _table(folder: RunFolder, name: str, dataset: str, train: str) -> Iterator[dict[str, str]]:
    path = folder.tables_dir / name
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            yield from (
                row for row in csv.DictReader(file) if (row.get("dataset"), row.get("train")) == (dataset, train)
            )


def _numbers(texts: Mapping[str, str]) -> dict[str, float]:
    return {name: float(text) for name, text in texts.items() if text not in ("", "n/a")}


def view_key(parent: str) -> str:
    """Return the name of a task's view, which several runs may have in one experiment."""
    return f"uasbench-{parent[:12]}"


def view(parent: str, rows: Mapping[str, Row], reference: str | None, at_ms: int) -> str:
    """Return the state of MLflow's run list that shows the methods below ``parent``, the best one first."""
    headline = headline_of(rows)
    columns = [f"{headline}{part}" for part in ("", "/ci_low", "/ci_high", "/p_best_trivial")]
    columns += [f"{headline}/p_{reference}"] if reference else []
    columns += [name for name in FURTHER if name != headline]
    known = {name for row in rows.values() for name in row.metrics}
    chosen = [f"metrics.`{name}`" for name in columns if name in known]
    state = {
        "searchFilter": f"tags.`{ROW_TAG}` = 'method' and tags.`mlflow.parentRunId` = '{parent}'",
        "orderByKey": f"metrics.`{headline}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*chosen, *(f"params.`{name}`" for name in ("n_patients", "n_seeds", "flags"))],
        "columnOrder": chosen,
        "columnWidths": {f"metrics.`{name}`": 40 + 6 * len(name) for name in columns},
    }
    about = {"name": f"Methods by {headline}", "createdAt": at_ms, "updatedAt": at_ms}
    return json.dumps({**about, "state": json.dumps(state)})


def headline_of(rows: Mapping[str, Row]) -> str:
    """Return the number that methods are ordered by: Dice under val, slice AUROC where there are slice labels only."""
    return next((name for name in HEADLINES if any(name in row.metrics for row in rows.values())), HEADLINES[0])


def note(folder: RunFolder, dataset: str, train: str) -> str:
    """Return the headline table of a task as Markdown, as much as fits, below the command that made it."""
    path = folder.tables_dir / f"headline-{dataset}-{train}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    about = "one row per method, the best first; without the shared view every cell is listed"
    made_by = f"`{folder.info()['command'][:500]}`"
    text = f"{NOTE_START}, run {folder.path.resolve().name}: {about}.\n\n{made_by}\n\n{text}"
    if len(text) <= NOTE_LENGTH:
        return text
    return text[: text.rfind("\n", 0, NOTE_LENGTH - 1)] + "\n"


def page(parent: Mapping[str, str]) -> str:
    """Return the part of the dashboard's address behind ``#`` that shows a task, from what ``run.json`` says of it.

    Without a view, which runs of earlier versions and unfinished ones lack, it is the run list in the same order.
    """
    base = f"/experiments/{parent['experiment']}/runs?workflowType=machine_learning"
    if "view" in parent and has_views():
        return f"{base}&viewStateShareKey={parent['view']}"
    return f"{base}&orderByKey={quote(f'metrics.`{HEADLINES[0]}`', safe='')}&orderByAsc=false"


def has_views() -> bool:
    """Tell whether the dashboard of the installed MLflow knows shared views."""
    found = find_spec("mlflow")
    for place in (found.submodule_search_locations or ()) if found else ():
        for script in Path(place, "server", "js", "build", "static", "js").glob("*.js"):
            if b"viewStateShareKey" in script.read_bytes():
                return True
    return False


def span_ms(records: Sequence[Record]) -> tuple[int, int]:
    """Return start and end of a row: it ends with its last record, and lasts as long as its cells have computed."""
    end = max(datetime.fromisoformat(record.created).timestamp() for record in records)
    seconds = sum(record.cost.fit_s + record.cost.score_s + record.cost.measure_s for record in records)
    return int(1000 * (end - seconds)), int(1000 * end)


def data_inputs(record: Record) -> list[DatasetInput]:
    """Return test and train set for MLflow: names, digests of the scans, and how many cases there are."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data, cell = record.data, record.cell
    found = []
    for name, cases, context in ((cell.dataset, data.cases, "test"), (cell.train, data.train_cases, "train")):
        digest = hashlib.sha256(json.dumps(cases, sort_keys=True).encode()).hexdigest()[:12]
        about = json.dumps({"anatomy": data.anatomy, "phantom": data.phantom is not None})
        profile = json.dumps({"cases": len(cases)})
        dataset = Dataset(name=name, digest=digest, source_type="local", source=about, profile=profile)
        found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    return found


def source_tags(info: Mapping[str, Any]) -> dict[str, str]:
    """Return what MLflow shows as the source of a run: the command, and the commit of the code where it is known."""
    tags = {"mlflow.source.name": "bench", "mlflow.source.type": "LOCAL"}
    commit = info.get("environment", {}).get("commit")
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the cells of each method."""
    found = defaultdict[str, list[Record]](list)
    for record in records:
        found[record.cell.method].append(record)
    return found
