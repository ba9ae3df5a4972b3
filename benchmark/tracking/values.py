"""A record's numbers, settings and provenance under the names that MLflow takes."""

import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ..runs.records import Record
from ..scores import collect

CELL_TAG, IDS_TAG = "uasbench.cell", "uasbench.ids"
PARENT_TAG = "mlflow.parentRunId"


def metrics(record: Record) -> dict[str, float]:
    """Return a record's numbers under MLflow names: ``patient/val/dice`` is the mean over patients."""
    values = {
        f"{one.unit}/{one.key.protocol}/{one.key.metric}": one.mean for one in collect([record]) if one.by_patient
    }  # fmt: skip
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
    found |= record.cost.model_dump(include={"device", "precision", "threads"})
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
