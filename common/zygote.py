"""A process that has done the slow imports once and is forked for every piece of work.

Unlike the fork server of multiprocessing it has no address: whoever holds its socket can ask for a process, and nobody
else, so that work which is walled off from files cannot have somebody forked who is not. It sees no variable of the
environment that it is told to hide, and a new one takes its place where it dies.
"""

import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from .errors import UasbenchError
from .package import import_target
from .processes import adopt_orphans, end_strangers, readable

ATTEMPTS = 3
SETTLING_S = 5.0
_LENGTH = struct.Struct("!Q")


class ZygoteError(UasbenchError):
    """No process can be started."""


class Worker:
    """A forked process: its id, a descriptor that becomes readable when it has ended, and how it ended."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.ended = ended
        self.status: int | None = None
        """Exit status, negative for a signal; None while it runs, or where nobody was left to see it."""

    def fileno(self) -> int:
        return self.ended

    def send_signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.ended, number)

    def close(self) -> None:
        os.close(self.ended)


class Zygote:
    """Starts processes that call ``module:function``; the modules are imported beforehand where they can be.

    They find modules where this process does, and see its environment but for what is ``hidden``. Where they are given
    an ``environment`` of their own, that alone says where modules are.
    """

    def __init__(
        self, modules: Sequence[str] = (), hidden: Collection[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._modules = list(modules)
        self._hidden = frozenset(hidden)
        self._environment = environment
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._workers: dict[int, Worker] = {}

    def start(self, target: str, arguments: Sequence[Any], descriptors: Sequence[int] = ()) -> Worker:
        """Fork a process that calls ``target(*arguments, *descriptors)``; arguments are plain values of JSON.

        Raises:
            ZygoteError: it died each time that it was asked.
        """
        path = sys.path if self._environment is None else None
        request = json.dumps({"target": target, "arguments": list(arguments), "path": path}).encode()
        for _ in range(ATTEMPTS):
            try:
                return self._ask(request, descriptors)
            except (OSError, EOFError):
                self.close()
        raise ZygoteError(f"the process that starts workers died {ATTEMPTS} times; the kernel may be out of memory")

    def settle(self, worker: Worker) -> None:
        """Learn how a worker that has ended did so; the word of it comes a moment later than its end."""
        while worker.status is None and self._socket is not None and readable([self._socket], SETTLING_S):
            try:
                self._note(*_receive(self._socket))
            except (OSError, EOFError):
                self.close()

    def close(self) -> None:
        """Let the process end; its workers go on, but how they end is not known any more."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None
        self._workers.clear()

    def _ask(self, request: bytes, descriptors: Sequence[int]) -> Worker:
        ours = self._connected()
        _send(ours, request, descriptors)
        while True:
            message, handles = _receive(ours)
            if "pid" in message:
                worker = self._workers[message["pid"]] = Worker(message["pid"], handles[0])
                return worker
            self._note(message, handles)

    def _note(self, message: Any, _: Sequence[int]) -> None:
        if (worker := self._workers.pop(message["ended"], None)) is not None:
            worker.status = message["status"]

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            flags = subprocess._args_from_interpreter_flags()  # pyright: ignore[reportAttributeAccessIssue]
            code, environment = f"from {__name__} import serve; serve({theirs.fileno()})", self._environment
            if environment is None:
                code = f"import sys; sys.path[:] = {sys.path!r}; {code}"
                environment = {name: value for name, value in os.environ.items() if name not in self._hidden}
            command = [sys.executable, *flags, "-P", "-c", code]
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603
                    command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()]
                )
            _send(self._socket, json.dumps(self._modules).encode())
        return self._socket


def serve(descriptor: int) -> None:
    """Be the zygote: import, then fork on request and report who has ended, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()
    with socket.socket(fileno=descriptor) as ours:
        for name in _receive(ours)[0]:
            with suppress(ImportError):
                __import__(name)
        wake, woken = os.pipe()
        for end in (wake, woken):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        watched = selectors.DefaultSelector()
        watched.register(ours, selectors.EVENT_READ)
        watched.register(wake, selectors.EVENT_READ)
        children = set[int]()
        with suppress(EOFError, ConnectionError):
            while True:
                ready = {key.fd for key, _ in watched.select()}
                if wake in ready:
                    with suppress(BlockingIOError):
                        os.read(wake, 4096)
                    _report_ended(ours, children)
                if descriptor in ready:
                    _fork(ours, children, (wake, woken, watched.fileno()))  # pyright: ignore[reportAttributeAccessIssue]


def _fork(ours: socket.socket, children: set[int], own: Sequence[int]) -> None:
    request, handles = _receive(ours)
    if (pid := os.fork()) == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ours.close()
        for descriptor in own:
            os.close(descriptor)
        _work(request, handles)
    for handle in handles:
        os.close(handle)
    children.add(pid)
    ended = os.pidfd_open(pid)
    _send(ours, json.dumps({"pid": pid}).encode(), [ended])
    os.close(ended)


def _work(request: Any, handles: Sequence[int]) -> NoReturn:
    status = 1
    try:
        if request["path"] is not None:
            sys.path[:] = request["path"]
        import_target(request["target"])(*request["arguments"], *handles)
        status = 0
    except SystemExit as wanted:
        status = wanted.code if isinstance(wanted.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _report_ended(ours: socket.socket, children: set[int]) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = found[0], os.waitstatus_to_exitcode(found[1])
            if pid in children:
                children.discard(pid)
                _send(ours, json.dumps({"ended": pid, "status": status}).encode())
    end_strangers(children)


def _send(to: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    header = _LENGTH.pack(len(data))
    if descriptors:
        socket.send_fds(to, [header], descriptors)
    else:
        to.sendall(header)
    to.sendall(data)


def _receive(source: socket.socket) -> tuple[Any, list[int]]:
    header, handles, _, _ = socket.recv_fds(source, _LENGTH.size, 16, socket.MSG_WAITALL)
    if len(header) < _LENGTH.size:
        raise EOFError
    data = bytearray()
    (length,) = _LENGTH.unpack(header)
    while len(data) < length:
        if not (part := source.recv(min(length - len(data), 2**20))):
            raise EOFError
        data += part
    return json.loads(data), handles
