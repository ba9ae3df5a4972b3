"""Tracking servers that a run may meet, each on a port of localhost: those that misbehave, and a real one to kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from uasbench.benchmark.tracking.server import QUIET

RETRY_AFTER_S = 600
DRIP_S = 0.5

Answer = Callable[[socket.socket, threading.Event], None]


def _reply(status: str, body: str = "", *headers: str) -> Answer:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return lambda connection, _: connection.sendall("\r\n".join(lines).encode())


def _silence(_: socket.socket, closed: threading.Event) -> None:
    closed.wait()


def _drip(connection: socket.socket, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    while not closed.wait(DRIP_S):
        connection.sendall(b" ")


def _drip_headers(connection: socket.socket, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Filler: ")
    while not closed.wait(DRIP_S):
        connection.sendall(b"x")


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


ANSWERS: dict[str, Answer] = {
    "500": _reply("500 Internal Server Error", "{}"),
    "401": _reply("401 Unauthorized", "who are you?"),
    "html": _reply("200 OK", "<!doctype html><title>Sign in</title>", "Content-Type: text/html"),
    "redirect to a dead port": _reply("302 Found", "", f"Location: http://127.0.0.1:{free_port()}/"),
    "accepts and never answers": _silence,
    "429 with Retry-After": _reply("429 Too Many Requests", "{}", f"Retry-After: {RETRY_AFTER_S}"),
    "503 with Retry-After": _reply("503 Service Unavailable", "{}", f"Retry-After: {RETRY_AFTER_S}"),
    "drips its answer": _drip,
    "drips its headers": _drip_headers,
}
ADDRESSES: dict[str, str] = {"foo://": "foo://somewhere", "http://": "http://"}
HANGING = ("accepts and never answers", "drips its answer", "drips its headers")
KINDS = (*ANSWERS, *ADDRESSES, "dead")


@contextmanager
def bad_server(kind: str) -> Iterator[str]:
    """Give the address of a server of one of :data:`KINDS`, for as long as the block lasts."""
    if kind in ADDRESSES:
        yield ADDRESSES[kind]
    elif kind == "dead":
        yield f"http://127.0.0.1:{free_port()}"
    else:
        with _listening(ANSWERS[kind]) as port:
            yield f"http://127.0.0.1:{port}"


@contextmanager
def _listening(answer: Answer) -> Iterator[int]:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            answer(connection, closed)
            connection.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with ExitStack() as closing:
        listener = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        closing.callback(thread.join)
        closing.callback(listener.shutdown, socket.SHUT_RDWR)
        closing.callback(closed.set)
        yield listener.getsockname()[1]


class RealServer:
    """A real MLflow server on localhost that can be killed and started again."""

    def __init__(self, root: Path, until: Any) -> None:
        self.port = free_port()
        self.root = root
        self.until = until
        self.database = root / "server.db"
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.root / "files")]
        self.process = subprocess.Popen(
            command, cwd=self.root, env={**os.environ, **QUIET}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.until(self.answers, 120)

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
