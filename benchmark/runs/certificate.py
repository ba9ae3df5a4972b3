"""The certificate of a run, in its ``run.json``: what all its records rest on, beside versions, commit and commands."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...common.fingerprint import file_digest
from ...common.sealed import seal
from ...datasets.storing.entries import digest
from ..environment import source_digest
from .folder import RunFolder
from .records import MAP_SEAL, Record

FIELD = "certificate"
REVOKED = {FIELD: None}
"""What :meth:`RunFolder.update_info` gets before records are replaced."""
STATED = (
    "schema", "commands", "options", "created", "source", "profile", "phantom", "tasks", "references", "seeds",
    "numerics", "cells", "skipped", "taken", "environment",
)  # fmt: skip
"""Fields of ``run.json`` that a certificate vouches for; the others are books of the harness and may go on."""


def issue(folder: RunFolder, records: Sequence[Record]) -> None:
    """Write the certificate of the ``records`` of a run; who has just measured or imported them calls it.

    Raises:
        RunFolderError: a record cannot be read.
    """
    folder.update_info(**{FIELD: seal({"code": source_digest(), **described(folder, records)})})


def described(folder: RunFolder, records: Sequence[Record]) -> dict[str, Any]:
    """Return what a certificate says of records: data and splits by digest, protocols, isolation, files by digest.

    The digest of a cell's seal stands for all its maps, whose digests the seal lists.
    """
    tasks, info = {digest(task): task for task in map(_task, records)}, folder.info()
    return {
        "run": {name: digest(info[name]) for name in STATED if name in info},
        "data": sorted(tasks.values(), key=lambda task: sorted(task.items(), key=str)),
        "protocols": sorted({threshold.protocol for record in records for threshold in record.thresholds}),
        "isolation": dict(sorted(Counter(record.isolation for record in records).items())),
        "cells": {record.cell.slug: _files(folder, record) for record in records},
    }


def _task(record: Record) -> dict[str, Any]:
    data, cell = record.data, record.cell
    parts = {"scans": data.cases, "patients": data.patients, "truth": data.truth, "healthy": data.train_cases}
    counted = {"dataset": cell.dataset, "train": cell.train, "cases": len(data.cases)}
    return counted | {name: digest(part) for name, part in parts.items()} | {"split": data.split.get("hash")}


def _files(folder: RunFolder, record: Record) -> dict[str, str | None]:
    files = {"record": folder.record_path(record.cell), "maps": folder.map_dir(record.cell) / MAP_SEAL}
    return {name: file_digest(path) if path.is_file() else None for name, path in files.items()}
