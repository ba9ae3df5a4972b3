"""Which server a run talks to, and a client of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.errors import UasbenchError
from ..runs.folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL, EXPERIMENTS = "local", "uasbench: "
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a busy server may name any time, which would be slept
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # a file kept open would be written where it was moved to
    "GIT_PYTHON_REFRESH": "quiet",
}


class TrackingError(UasbenchError):
    """The tracking server cannot be used."""


def tracking_uri(folder: RunFolder, uri: str | None = None) -> str:
    """Return the server of a run: the one named, the one the run used, or SQLite in the run folder."""
    chosen = uri or folder.info().get("options", {}).get("tracking_uri")
    return chosen or sqlite_address(folder.mlflow_db.resolve())


def client(address: str) -> MlflowClient:
    """Return a client that fails fast and prints nothing.

    Raises:
        TrackingError: MLflow cannot be imported.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise TrackingError(f"mlflow cannot be imported ({error})") from error
    import logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints a traceback of what it also raises
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=address)


def lay_out(file: Path) -> None:
    """Let MLflow make the tables of a run folder's own database aside, and move the whole file into place.

    The tables come from dozens of migrations: whoever is killed among them leaves a file that no MLflow opens again.
    """
    for left in file.parent.glob(f".{file.name}.*.tmp"):
        shutil.rmtree(left)
    aside = Path(tempfile.mkdtemp(prefix=f".{file.name}.", suffix=".tmp", dir=file.parent))
    client(sqlite_address(aside / file.name)).search_experiments(max_results=1)
    (aside / file.name).replace(file)
    aside.rmdir()


def sqlite_address(file: Path) -> str:
    """Return the SQLite address of a file, whatever characters its name has.

    A name that has to be quoted goes with the driver: MLflow would make a folder of the quoted name beside it.
    """
    from sqlalchemy.engine import URL

    quoted = URL.create("sqlite", database=str(file)).render_as_string()
    plain = quoted == f"sqlite:///{file}"
    return quoted if plain else URL.create("sqlite+pysqlite", database=str(file)).render_as_string()


def database(uri: str) -> Path | None:
    """Return the file of an SQLite address; None for any other address, or one in memory."""
    from sqlalchemy.engine import make_url

    file = make_url(uri).database if uri.startswith(("sqlite:///", "sqlite+pysqlite:///")) else None
    return Path(file).resolve() if file else None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
