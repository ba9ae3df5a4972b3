"""What a run that was moved or copied must not share with the place that it came from."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ..runs.folder import RunFolder, RunFolderError
from .server import EXPERIMENTS, TrackingError


def settle(folder: RunFolder) -> None:
    """Have the artifacts of a run's own database lie in the run folder, where MLflow keeps absolute addresses of them.

    Raises:
        TrackingError: the database cannot be read or, after a move, written.
    """
    file, there = folder.mlflow_db.resolve(), artifacts(folder).as_uri()
    try:
        with closing(sqlite3.connect(file)) as db, db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
                return
            moved = db.execute(
                "SELECT experiment_id FROM experiments WHERE artifact_location != ? AND substr(name, 1, ?) = ?",
                (there, len(EXPERIMENTS), EXPERIMENTS),
            ).fetchall()
            for (experiment,) in moved:
                db.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (there, experiment))
                db.execute(
                    "UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts' WHERE experiment_id = ?",
                    (there, experiment),
                )
    except sqlite3.Error as error:
        raise TrackingError(
            f"{file} cannot be used: {error}; mend its permissions, or delete it: 'bench track' makes it anew"
        ) from error


def artifacts(folder: RunFolder) -> Path:
    """Return the folder of the artifacts of a run's own database."""
    return folder.mlflow_db.resolve().with_name("mlruns")


def copied(folder: RunFolder, server: str, state: dict[str, Any]) -> bool:
    """Say whether the folder that a run was last sent from still is that run, so that this one is a copy of it."""
    before = state.get("folder")
    if before is None or Path(before) == folder.path.resolve():
        return False
    try:
        original = RunFolder(before).info().get("mlflow", {}).get(server, {})
    except RunFolderError:
        return False
    return original.get("token") == state.get("token")
