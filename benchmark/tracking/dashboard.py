"""The dashboard of a run: MLflow's own server on localhost, for as long as the command runs."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points, version
from pathlib import Path

from ..runs.folder import RunFolder
from . import landing
from .comparison import has_views, page
from .moving import artifacts, settle
from .server import LOCAL, QUIET, TrackingError, database, sqlite_address, tracking_uri

GUARD = Path(__file__).with_name("guard.py")
SURROUNDINGS = {
    **QUIET,
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # no queue of background jobs for a dashboard on localhost
    "PYTHONSAFEPATH": "1",
}


def serve(folder: RunFolder, port: int, *, browse: bool = False) -> int:
    """Run the MLflow dashboard of a run on localhost until it is stopped; return its exit status.

    It ends with this process, however that ends. Of a run that used a server only the server's address is printed.
    ``browse`` opens the comparison in the browser, which the bare address leads to as well.

    Raises:
        TrackingError: the run was never tracked here, or the port cannot be used.
    """
    uri = tracking_uri(folder)
    if uri.startswith(("http://", "https://")):
        pages = run_lists(folder, uri, uri)
        print(f"MLflow dashboard: {uri}", *map(_line, pages.items()), sep="\n")
        if browse:
            webbrowser.open(next(iter(pages.values()), uri))
        return 0
    address = f"http://127.0.0.1:{port}"
    pages = run_lists(folder, uri, address)
    if file := database(uri):
        if not file.exists():
            raise TrackingError(f"{file} does not exist yet; 'bench track {folder.path}' makes it")
        if file == folder.mlflow_db.resolve():
            settle(folder)
        uri = sqlite_address(file)
    elif "://" not in uri:
        uri = str(Path(uri).absolute())
    _refuse_unusable(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", artifacts(folder).as_uri()]
    surroundings = {**os.environ, **SURROUNDINGS}
    if pages and entry_points(
        group="mlflow.app", name=landing.NAME
    ):  # missing where the package was not installed anew
        command += ["--app-name", landing.NAME]
        surroundings[landing.PLACE] = next(iter(pages.values())).partition("#")[2]
    print(f"MLflow dashboard: {address} (Ctrl-C ends it)", *map(_line, pages.items()), sep="\n", flush=True)
    for line in _lacking(folder, pages):
        print(line, flush=True)
    # Not in the run folder: the server imports modules from where it is started, and a run may come from anywhere.
    with subprocess.Popen(  # noqa: S603
        [sys.executable, str(GUARD), *command],
        stdin=subprocess.PIPE,
        cwd="/",
        env=surroundings,
        start_new_session=True,
    ) as running:
        if browse:
            threading.Thread(target=_browse, args=(running, port, address), daemon=True).start()
        try:
            return running.wait()
        except KeyboardInterrupt:
            if running.stdin is not None:
                running.stdin.close()
            running.wait()
            return 0


def run_lists(folder: RunFolder, uri: str, address: str) -> dict[str, str]:
    """Return for each task of a run the page that compares its methods."""
    own = database(uri) == folder.mlflow_db.resolve()
    parents = folder.info().get("mlflow", {}).get(LOCAL if own else uri, {}).get("parents", {})
    return {task: f"{address.rstrip('/')}/#{page(parent)}" for task, parent in parents.items()}


def _line(found: tuple[str, str]) -> str:
    return f"  {': '.join(found)}"


def _lacking(folder: RunFolder, pages: Mapping[str, str]) -> Iterator[str]:
    """Yield why some page is a plain list of runs and no comparison."""
    if not has_views():
        yield f"  MLflow {version('mlflow')} has no shared views: choose the columns of its list of runs yourself"
    elif any("viewStateShareKey" not in page for page in pages.values()):
        yield f"  no comparison of methods was sent yet: the end of a run does it, or 'bench track {folder.path}'"


def _browse(server: subprocess.Popen[bytes], port: int, address: str) -> None:
    """Open the browser once the server answers."""
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                webbrowser.open(address)
                return
        time.sleep(0.2)


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
