"""The one owner of file locations inside a run folder, and its lock."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...common.atomic import open_no_link, unfinished
from ...common.errors import UasbenchError, brief
from ...common.garbage import uncollected
from ...common.json_files import read_json
from ...common.sealed import DamagedError, is_sealed, is_whole, read_sealed
from .ledger import Ledger, delete
from .records import FIT_SEAL, MAP_SEAL, SCHEMA_VERSION, UNCHECKED, CellKey, Failure, Record, Skip, write_json

LOCK = "lock"
TOUCHED_S, LOST_S = 15.0, 40.0
"""How often a lock is touched, and how long one of another machine is watched before it is taken."""
_writing = threading.Lock()


class RunFolderError(UasbenchError):
    """The folder is not a run, or cannot be read or written."""


class RecordError(RunFolderError):
    """A record is damaged, or was changed after it was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        fix = "run the same 'bench run' again, which measures the cell anew"
        return f"{self.path} is not a readable record: {self.why}; {fix}"


class RunFolder:
    """Paths and typed contents of ``RUN/``; reading needs neither torch nor the data."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.ledger = Ledger(self.path)
        self.run_json = self.path / "run.json"
        self.records_dir = self.path / "records"
        self.failures_dir = self.path / "failures"
        self.stale_dir = self.path / "stale"
        self.maps_dir = self.path / "maps"
        self.fits_dir = self.path / "fits"
        self.tables_dir = self.path / "tables"
        self.figures_dir = self.path / "figures"
        self.tuning_dir = self.path / "tuning"
        self.cells_dir = self.path / "cells"
        self.logs_dir = self.path / "logs"
        self.locks_dir = self.path / "locks"
        self.tasks_dir = self.path / "tasks"
        self.sources_dir = self.path / "sources"
        self.shelf_dir = self.path / "shelf"
        self.page_html = self.path / "experiment.html"
        self.embedding = self.path / "embedding.json"
        self.report_html = self.path / "report.html"
        self.viewer_dir = self.path / "report"
        self.mlflow_db = self.path / "mlflow.db"
        self.progress = self.path / "progress.jsonl"
        self.node_kind = self.path / "node-kind"

    @property
    def parts(self) -> tuple[Path, ...]:
        """The folders that bench makes below the run folder."""
        return (
            self.records_dir, self.failures_dir, self.stale_dir, self.maps_dir, self.fits_dir, self.tables_dir,
            self.figures_dir, self.tuning_dir, self.cells_dir, self.logs_dir, self.locks_dir, self.tasks_dir,
            self.sources_dir, self.shelf_dir,
        )  # fmt: skip

    @classmethod
    @contextmanager
    def working(cls, path: Path) -> Iterator[RunFolder]:
        """Make the folder of a run, or go on in one, and hold it; where no ``run.json`` came of it, it goes again.

        Raises:
            RunFolderError: it cannot be written, holds other things than a run, or another bench works in it.
        """
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            folder = cls._create(path)
            with hold(folder):
                try:
                    yield folder
                except BaseException:
                    if not folder.run_json.exists():
                        folder._forget()
                    raise
        except BaseException:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            raise

    def _forget(self) -> None:
        """Delete what bench made in a folder that became no run."""
        listed = self.ledger.paths()
        for path in listed:
            delete(self.ledger.owned(path, listed))
        for part in self.parts:
            with suppress(OSError):
                part.rmdir()
        for path in (self.ledger.path, self.path / LOCK):
            path.unlink(missing_ok=True)

    @classmethod
    def _create(cls, path: Path) -> RunFolder:
        if foreign := _foreign(path):
            held = ", ".join(foreign[:3])
            raise RunFolderError(f"{path} is no run folder and not empty (it holds {held}); choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".probe-{os.getpid()}"
            probe.write_bytes(b"\0" * 65536)
            probe.unlink()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fix = "free space or choose another --out" if full else "choose another --out or mend its permissions"
            raise RunFolderError(f"cannot write to the run folder {path}: {error.strerror}; {fix}") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open an existing run.

        Raises:
            RunFolderError: there is no readable ``run.json``.
        """
        folder = cls(path)
        folder.info()
        return folder

    def info(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises:
            RunFolderError: it is missing, damaged or of a newer schema.
        """
        try:
            info = read_json(self.run_json)
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.path} is not a run folder: it has no run.json. 'bench run' makes one."
            ) from None
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.run_json} cannot be read: {brief(error)}") from error
        if not isinstance(info, dict):
            raise RunFolderError(f"{self.run_json} is no description of a run (it holds {type(info).__name__})")
        schema = info.get("schema", SCHEMA_VERSION)
        if not isinstance(schema, int) or schema > SCHEMA_VERSION:
            raise RunFolderError(
                f"{self.run_json} has schema {str(schema)[:20]}, this version reads up to {SCHEMA_VERSION}; "
                "use the version of uasbench that made it"
            )
        return info

    def update_info(self, **values: Any) -> dict[str, Any]:
        """Change fields of ``run.json`` atomically and return it."""
        with _writing:
            info = self.info() if self.run_json.exists() else {}
            info.update(values)
            write_json(self.run_json, info)
            return info

    def retire(self, record: Path) -> None:
        """Move a record that no longer describes the run out of the tables, without losing it."""
        self.ledger.add(self.stale_dir / record.name)
        self.stale_dir.mkdir(parents=True, exist_ok=True)
        record.replace(self.stale_dir / record.name)

    def record_path(self, cell: CellKey) -> Path:
        return self.records_dir / f"{cell.slug}.json"

    def cell_path(self, cell: CellKey) -> Path:
        """Return where the plan of a cell's measuring lies, from which it can be measured again."""
        return self.cells_dir / f"{cell.slug}.json"

    def measuring(self, cell: CellKey) -> dict[str, Any]:
        """Return where the measuring of a cell reads and writes, as its task names it."""
        study = self.tuning_dir / f"{cell.slug}.log"
        written = {"record": self.record_path(cell), "study": study, "gallery": self.gallery_path(cell)}
        return {"maps": self.map_dir(cell), **written}

    def failure_path(self, cell: CellKey) -> Path:
        return self.failures_dir / f"{cell.slug}.json"

    def map_dir(self, cell: CellKey) -> Path:
        return self.maps_dir / cell.slug

    def gallery_path(self, cell: CellKey) -> Path:
        """Return where the measuring of a cell puts the slices that the report shows, beside its maps."""
        return self.map_dir(cell) / "gallery.npz"

    def fit_dir(self, fit_id: str) -> Path:
        return self.fits_dir / fit_id

    def fit_seconds(self, fit_id: str) -> float:
        return read_sealed(self.fit_dir(fit_id) / FIT_SEAL)["fit_s"]

    def refine_seconds(self, cell: CellKey) -> float:
        return read_sealed(self.map_dir(cell) / MAP_SEAL)["refine_s"]

    def record(self, path: Path) -> Record:
        """Read one record and compare it with its digest.

        Raises:
            RecordError: the file is damaged, or was changed after it was written.
            RunFolderError: it is of another schema.
        """
        if (record := _record_at_once(path)) is not None:
            return record
        try:
            content = read_sealed(path)
            if (schema := content.get("schema_version", SCHEMA_VERSION)) != SCHEMA_VERSION:
                raise RunFolderError(f"{path} has schema {str(schema)[:20]}, this version reads {SCHEMA_VERSION}")
            record = Record.model_validate(content)
        except DamagedError as error:
            raise RecordError(path, error.why) from error
        except ValueError as error:
            raise RecordError(path, brief(error)) from error
        if not is_sealed(content):
            record.environment[UNCHECKED] = True
        return record

    def records(self) -> list[Record]:
        """Return every finished cell, sorted by data set, train set, method and seed."""
        with uncollected():
            records = [self.record(p) for p in self.records_dir.glob("*.json")]
        return in_order(records)

    def failures(self) -> list[Failure]:
        """Return the cells that failed and have not been finished since.

        Raises:
            RunFolderError: a file that says so is damaged.
        """
        return [self._failure(path) for path in sorted(self.failures_dir.glob("*.json"))]

    def skipped(self) -> list[Skip]:
        """Return the methods that declined, as ``run.json`` lists them.

        Raises:
            RunFolderError: the list is damaged.
        """
        try:
            return TypeAdapter(list[Skip]).validate_python(self.info().get("skipped", []))
        except ValidationError as error:
            raise RunFolderError(f"{self.run_json}: its list of skipped methods is damaged: {brief(error)}") from error

    def _failure(self, path: Path) -> Failure:
        try:
            return Failure.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} is not a readable failure: {brief(error)}; delete it and run again"
            ) from error


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sort records by data set, train set, method and seed."""
    return sorted(records, key=rank)


def rank(record: Record) -> tuple[str, str, str, int]:
    """Return what records are sorted by."""
    cell = record.cell
    return cell.dataset, cell.train, cell.method, cell.seed


def _record_at_once(path: Path) -> Record | None:
    """Read a record of this version from its text, in half the time of reading JSON first; None if anything is odd."""
    try:
        text = path.read_bytes()
        record = Record.model_validate_json(text)
    except (OSError, ValueError):
        return None
    return record if record.schema_version == SCHEMA_VERSION and is_whole(text) else None


def _foreign(path: Path) -> list[str]:
    """Return what lies in a folder that is no run; what a run that was killed at its start has left is no matter."""
    try:
        if not path.is_dir() or (path / "run.json").exists():
            return []
        ledger = Ledger(path)
        ours = {LOCK, ledger.path.name, *(own.relative_to(path).parts[0] for own in ledger.paths())}
        ours |= {left.name for left in unfinished(path, elsewhere=True)}
        return sorted(p.name for p in path.iterdir() if p.name not in ours and not p.name.startswith(".probe-"))
    except OSError as error:
        raise RunFolderError(f"cannot read the run folder {path}: {error.strerror}; choose another --out") from error


@contextmanager
def hold(folder: RunFolder, name: str = LOCK, doing: str = "works in") -> Iterator[None]:
    """Hold a lock of a run exclusively; the kernel frees it when the process ends, however it ends. The file stays.

    It is not re-entrant: a second hold of the same lock is refused in the same process too. Where locks do not hold
    between machines, one that a process of another touches is held all the same.

    Raises:
        RunFolderError: another process holds it, or the folder cannot be locked.
    """
    path = folder.path / name
    with ExitStack() as closing:
        try:
            file = closing.enter_context(open_no_link(path))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
                raise BlockingIOError  # who held it before has deleted the file
            if _is_held_elsewhere(path):
                raise BlockingIOError
        except BlockingIOError:
            holder = path.read_text(encoding="utf-8").strip() if path.exists() else ""
            raise RunFolderError(
                f"another bench {doing} {folder.path} (pid {holder or 'unknown'}); wait until it ends, or stop it"
            ) from None
        except OSError as error:
            fixes = {
                errno.EACCES: "mend the permissions of the folder",
                errno.EPERM: "mend the permissions of the folder",
                errno.ELOOP: "it is a link, which is not followed; delete it",
                errno.ENOENT: "the folder of the run is gone",
                errno.EROFS: "copy the run to a disk that can be written",
            }
            fix = fixes.get(error.errno or 0, "put the run on a file system with file locks")
            raise RunFolderError(f"{path} cannot be locked: {error.strerror}; {fix}") from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}")
        file.flush()
        closing.enter_context(_touched(path))
        try:
            yield
        finally:
            file.truncate(0)


def _is_held_elsewhere(path: Path) -> bool:
    """Whether another machine holds a lock: it has written it, and touches it while we look for some time."""
    host = path.read_text(encoding="utf-8", errors="replace").partition(" on ")[2].strip()
    if host in ("", os.uname().nodename):
        return False
    touched, until = path.stat().st_mtime_ns, time.monotonic() + LOST_S
    while time.monotonic() < until:
        if path.stat().st_mtime_ns != touched:
            return True
        time.sleep(min(1.0, LOST_S / 5))
    return False


@contextmanager
def _touched(path: Path) -> Iterator[None]:
    """Touch a lock again and again."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(TOUCHED_S):
            with suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=touch, name=f"holds {path.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
