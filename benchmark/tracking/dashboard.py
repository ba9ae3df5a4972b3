"""The dashboard of a run: MLflow's own server on localhost, for as long as the command runs."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

from ..runs.folder import RunFolder
from .moving import artifacts, settle
from .server import LOCAL, QUIET, TrackingError, database, sqlite_address, tracking_uri

GUARD = Path(__file__).with_name("guard.py")
SURROUNDINGS = {
    **QUIET,
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # no queue of background jobs for a dashboard on localhost
    "PYTHONSAFEPATH": "1",
}


def serve(folder: RunFolder, port: int) -> int:
    """Run the MLflow dashboard of a run on localhost until it is stopped; return its exit status.

    It ends with this process, however that ends. Of a run that used a server only the server's address is printed.

    Raises:
        TrackingError: the run was never tracked here, or the port cannot be used.
    """
    uri = tracking_uri(folder)
    if uri.startswith(("http://", "https://")):
        print(f"MLflow dashboard: {uri}", *run_lists(folder, uri, uri), sep="\n")
        return 0
    lists = run_lists(folder, uri, f"http://127.0.0.1:{port}")
    if file := database(uri):
        if not file.exists():
            raise TrackingError(f"{file} does not exist yet; 'bench track {folder.path}' makes it")
        if file == folder.mlflow_db.resolve():
            settle(folder)
        uri = sqlite_address(file)
    elif "://" not in uri:
        uri = str(Path(uri).absolute())
    _refuse_unusable(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", artifacts(folder).as_uri()]
    print(f"MLflow dashboard: http://127.0.0.1:{port} (Ctrl-C ends it)", *lists, sep="\n", flush=True)
    # Not in the run folder: the server imports modules from where it is started, and a run may come from anywhere.
    with subprocess.Popen(  # noqa: S603
        [sys.executable, str(GUARD), *command],
        stdin=subprocess.PIPE,
        cwd="/",
        env={**os.environ, **SURROUNDINGS},
        start_new_session=True,
    ) as running:
        try:
            return running.wait()
        except KeyboardInterrupt:
            if running.stdin is not None:
                running.stdin.close()
            running.wait()
            return 0


def run_lists(folder: RunFolder, uri: str, address: str) -> list[str]:
    """Return for each task of a run the page of its training runs, where a fresh browser would open another one."""
    own = database(uri) == folder.mlflow_db.resolve()
    parents = folder.info().get("mlflow", {}).get(LOCAL if own else uri, {}).get("parents", {})
    return [
        f"  {task}: {address.rstrip('/')}/#/experiments/{parent['experiment']}/runs?workflowType=machine_learning"
        for task, parent in parents.items()
    ]


def _refuse_unusable(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: one that has ended is no bar
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            busy = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
            raise TrackingError(
                f"port {port} of localhost cannot be used: {busy}; choose another one with --port"
            ) from error
