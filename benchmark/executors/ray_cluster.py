"""A connection to Ray: to a cluster that is there, or to one of this machine that is made and taken down again."""

import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, Field

from ...common.atomic import open_no_link
from ...common.errors import UasbenchError, brief
from .. import device as devices
from ..stages.wall import SECRETS
from .contract import Place, Resources

STORE_BYTES = 80 * 2**20
"""Nearly the least that Ray takes for objects: stages pass files."""
ANSWER_S = 10.0
ENDING_S = 10.0
_PREFIX = "uasbench-ray-"
_EVERYWHERE: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "configure_logging": False,
    # A worker of Ray that ends kills what it has started: the stage, before that can end what it has started itself.
    "runtime_env": {"env_vars": {"RAY_kill_child_processes_on_worker_exit": "false"}},
}


class RayError(UasbenchError):
    """Ray is not there, or cannot be used as it was asked for."""


class RaySettings(BaseModel, extra="forbid"):
    """What ``--queue`` says of Ray: the ``address`` of a cluster, for which ``--ray-address`` is another name.

    It is ``HOST:PORT``, ``auto`` or ``ray://HOST:PORT``; without one, a cluster of its own is made. ``gpu_share`` is
    what a stage on a GPU takes of one; without it the whole, or in a cluster of its own what each worker has.
    """

    address: str | None = None
    gpu_share: float | None = Field(default=None, gt=0, le=1)


class RayCluster:
    """Connected from its construction to :meth:`close`.

    A cluster of its own has one CPU per worker of ``place`` and listens to who has its token, which is new. One that
    this process was connected to before stays connected.

    Raises:
        RayError: Ray is not installed, nothing answers at the address, or another version does.
    """

    def __init__(self, place: Place) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError as error:
            raise RayError("--executor ray: Ray is not installed; pip install 'uasbench[ray]'") from error
        self.ray: Any = ray
        self._given = ray.is_initialized()
        settings = RaySettings.model_validate(place.settings)
        self.own = settings.address is None and not self._given
        self._share = settings.gpu_share or 1.0
        self._folder: Path | None = None
        self._lock: TextIO | None = None
        self._processes: list[Any] = []
        self._handler = signal.getsignal(signal.SIGTERM)
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            if self.own:
                self._start(place, settings.gpu_share)
            elif not self._given:
                self._join(str(settings.address))
        except BaseException:
            self.close()
            raise

    def takes(self, resources: Resources) -> dict[str, float]:
        """Return what Ray is asked for: on a cluster of its own the share of a worker, elsewhere what a stage takes."""
        asked = {"num_cpus": 1 if self.own else resources.cpus, "num_gpus": resources.gpus * self._share}
        return asked if resources.memory_mib is None else asked | {"memory": resources.memory_mib * 2**20}

    def fits(self, asked: dict[str, float]) -> bool:
        """Tell whether a node that is alive could take this if nothing else ran on it."""
        names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return any(all(has.get(names[part], 0.0) >= most for part, most in asked.items()) for has in alive)

    def close(self) -> None:
        """Take leave of a cluster, and take down one of its own with every process and file of it."""
        if not self._given:
            processes = [process for first in self._processes for process in (first, *_descendants(first))]
            self.ray.shutdown()
            _end(processes)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._handler)  # Ray has put its own there
        if self._folder is not None and self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()

    def _start(self, place: Place, share: float | None) -> None:
        import psutil

        gpus = 0 if place.device == "cpu" else devices.gpu_count()
        self._share = share or (min(1.0, gpus / place.workers) if gpus else 1.0)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # otherwise Ray leaves one in the home folder
        self._folder, self._lock = _folder()
        before = psutil.Process().children()
        with _without(SECRETS):
            self.ray.init(
                address="local",
                num_cpus=place.workers,
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._folder),
                **_EVERYWHERE,
            )
        self._processes = [process for process in psutil.Process().children() if process not in before]

    def _join(self, address: str) -> None:
        found = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
        try:
            host, colon, port = found.removeprefix("ray://").rpartition(":")
            if colon:  # Ray itself asks for minutes
                socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
            self.ray.init(address=found, **_EVERYWHERE)
        except (OSError, RuntimeError, ValueError) as error:
            raise RayError(f"--ray-address {address}: {brief(error)}") from error


def _folder() -> tuple[Path, TextIO]:
    """Make a folder for a cluster, with a lock that tells it from those of killed processes, which are deleted.

    Sockets lie in it, whose paths have 107 letters at most: one for temporary files may have too long a name.
    """
    place = Path(os.environ.get("RAY_TMPDIR", "/tmp"))  # noqa: S108
    for lock in place.glob(f"{_PREFIX}*/lock"):
        with suppress(OSError), open_no_link(lock) as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    held = open_no_link(folder / "lock")
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held


def _descendants(process: Any) -> list[Any]:
    import psutil

    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _end(processes: list[Any]) -> None:
    """Wait for processes that were told to end, and kill those that do not."""
    import psutil

    for process in psutil.wait_procs(processes, ENDING_S)[1]:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, ENDING_S)


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Hide variables of the environment from what is started meanwhile."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
