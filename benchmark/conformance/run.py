"""``bench check``: does a method keep the contract? Run in a process of its own, so that it may hang or crash."""

import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ...common.errors import UasbenchError
from ...common.package import target_of
from ...common.processes import redirect_output
from ..catalogue import registry
from ..device import configure, resolve_device
from .checks import ALONE, CHECKS
from .phantom import tissue_of
from .subject import Broken, NotApplicable, Subject, Unavailable, importable

TIMEOUT_S = 300.0
IMPORT = "import"
NEEDED = "fit and score"
NAMES = (IMPORT, *CHECKS)


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; a skipped one counts as neither passed nor failed."""

    name: str
    passed: bool
    skipped: bool
    detail: str
    seconds: float

    @property
    def failed(self) -> bool:
        return not self.passed and not self.skipped


def check_method(
    method: str | type,
    *,
    anatomy: str = "liver",
    device: str = "cpu",
    progress: Callable[[CheckResult], None] | None = None,
    timeout: float = TIMEOUT_S,
) -> list[CheckResult]:
    """Check a method, or the one registered under a name, on a tiny phantom in memory.

    ``progress`` gets each result as it lands; a check that takes longer than ``timeout`` seconds fails and the rest is
    skipped.

    Raises:
        RegistryError: unknown name, or two packages claim it. Whatever the method does is a failed check.
        DataError: unknown anatomy, or one whose tissue is not known.
        DeviceError: the device is not there.
    """
    tissue_of(anatomy)
    device = resolve_device(device)
    results: list[CheckResult] = []
    if isinstance(method, str):
        registry.runnable().entry(method)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "output.txt"
        spawned = isinstance(method, str) or importable(method)
        context: Any = multiprocessing.get_context("spawn" if spawned else "fork")
        ours, theirs = context.Pipe()
        process: Any = context.Process(target=_child, args=(theirs, method, anatomy, device, log))
        process.start()
        theirs.close()
        try:
            for result in _outcomes(ours, process, log, timeout):
                results.append(result)
                if progress is not None:
                    progress(result)
        finally:
            process.kill()
            process.join()
            ours.close()
    return results


def _outcomes(connection: Connection, process: Any, log: Path, timeout: float) -> Iterator[CheckResult]:
    for done, name in enumerate(NAMES):
        start = time.perf_counter()
        try:
            if connection.poll(timeout):
                yield connection.recv()
                continue
            end = (
                f"not finished within {timeout:g} s; give the smoke profile fewer steps, respect ctx.updates(), or "
                "allow more (--timeout)"
            )
        except EOFError:
            process.join(timeout)
            last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
            end = f"its process ended with exit status {process.exitcode}" + "".join(f"; {line}" for line in last)
        yield CheckResult(name, False, False, end, time.perf_counter() - start)
        for other in NAMES[done + 1 :]:
            yield CheckResult(other, False, True, f"not run: {name!r} did not end", 0.0)
        return


def _child(connection: Connection, method: str | type, anatomy: str, device: str, log: Path) -> None:
    os.environ.pop("UASBENCH_DATA", None)
    redirect_output(log)
    configure(device, 1)
    for result in run_checks(method, anatomy=anatomy, device=device):
        connection.send(result)
    connection.close()
    sys.stdout.flush()
    os._exit(0)


def run_checks(
    method: str | type, *, anatomy: str = "liver", device: str = "cpu", only: Collection[str] = NAMES
) -> Iterator[CheckResult]:
    """Yield the results of the checks named in ``only``, in this process; :func:`check_method` adds the protection."""
    start = time.perf_counter()
    try:
        cls: Any = registry.runnable().get(method) if isinstance(method, str) else registry.check_class(method)
    except registry.RegistryError as error:
        yield CheckResult(IMPORT, False, False, str(error), time.perf_counter() - start)
        yield from (CheckResult(name, False, True, "not run: there is no method", 0.0) for name in CHECKS)
        return
    yield CheckResult(IMPORT, True, False, target_of(cls), time.perf_counter() - start)
    subject = Subject(cls, anatomy, device)
    barred = ""
    for name, check in CHECKS.items():
        if name not in only:
            continue
        if barred and name not in ALONE:
            yield CheckResult(name, False, True, barred, 0.0)
            continue
        start = time.perf_counter()
        passed = skipped = False
        try:
            detail, passed = check(subject), True
        except NotApplicable as error:
            detail, skipped = str(error), True
            if isinstance(error, Unavailable):
                barred = f"not run: {error}"
        except (Broken, UasbenchError) as error:
            detail = str(error)
        except (Exception, SystemExit) as error:
            detail = short_traceback(error)
        result = CheckResult(name, passed, skipped, detail, time.perf_counter() - start)
        yield result
        if result.failed and name in ("available", NEEDED):
            barred = f"not run: {name!r} failed"


def short_traceback(error: BaseException) -> str:
    """Return an error and the last two places of the method that led to it."""
    here = str(Path(__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(here)]
    places = [f"  {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}" for frame in frames[-2:]]
    return "\n".join([f"{type(error).__name__}: {' '.join(str(error).split())[:500]}", *places])
