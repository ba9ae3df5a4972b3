"""Tracking servers that do not work, each in its own way."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONG_S = 600
HERE = "127.0.0.1"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        return listener.getsockname()[1]


@contextmanager
def _address(uri: str) -> Iterator[str]:
    yield uri


@contextmanager
def _nobody() -> Iterator[str]:
    yield f"http://{HERE}:{_free_port()}"


def _answering(status: int, body: str = "{}", **headers: str) -> Callable:
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PATCH = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    @contextmanager
    def serve() -> Iterator[str]:
        server = ThreadingHTTPServer((HERE, 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HERE}:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    return serve


def _socket(talk: Callable[[socket.socket, threading.Event], None]) -> Callable:
    """A server that speaks no HTTP of its own."""

    @contextmanager
    def serve() -> Iterator[str]:
        listener, ended = socket.create_server((HERE, 0)), threading.Event()

        def work(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                talk(connection, ended)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=work, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://{HERE}:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.close()

    return serve


def _silent(connection: socket.socket, ended: threading.Event) -> None:
    ended.wait(LONG_S)


def _dripping(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b" ")
        time.sleep(0.5)


def _closing(connection: socket.socket, ended: threading.Event) -> None:
    connection.recv(1)


SERVERS: dict[str, Callable] = {
    "nobody listens": _nobody,
    "500": _answering(500),
    "401": _answering(401),
    "429, Retry-After 600": _answering(429, Retry_After=str(LONG_S)),
    "503, Retry-After 600": _answering(503, Retry_After=str(LONG_S)),
    "HTML": _answering(200, "<html>Welcome to this hotel</html>", Content_Type="text/html"),
    "other JSON": _answering(200, '{"experiments": 7}', Content_Type="application/json"),
    "redirects to nobody": _answering(302, Location=f"http://{HERE}:9/"),
    "accepts and is silent": _socket(_silent),
    "a byte each half second": _socket(_dripping),
    "closes at once": _socket(_closing),
    "unknown scheme": lambda: _address("foo://server"),
}
KINDS = (*SERVERS,)


def bad_server(kind: str) -> AbstractContextManager[str]:
    """Give the address of a server of one of :data:`KINDS`, for as long as the block lasts."""
    return SERVERS[kind]()
