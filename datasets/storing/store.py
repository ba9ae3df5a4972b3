"""Prepared data: content-addressed folders that methods, seeds and processes share.

Below the root lie ``native`` (image and region of interest), ``views`` (what methods see) and ``truth``. Each case is
decoded once, in a reader process, and appears whole or not at all.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from os.path import getsize, isfile
from pathlib import Path
from typing import Any, Literal

from ...common.atomic import DiskError, of_the_cache, remove_stale, write_text
from ...common.errors import DataError, UasbenchError, brief, summary
from ...common.fingerprint import file_digest
from ...common.json_files import read_json
from ...common.sealed import DamagedError
from ...common.source_hash import closure_hash
from ..anatomy import find_anatomy
from ..case import Case, Note, Trust
from ..dataset import CaseRef, Dataset
from ..readers import Lost, Readers
from ..reading.listening import loaded
from ..views.volume_geometry import ViewedCase
from ..views.volume_view import AnyView, apply_view
from . import entries
from .prepared import PreparedCase, PreparedSet, ShowProgress, TruthRef, write_view
from .room import Room

SMALL_BYTES = 32 * 2**20
"""Sets of smaller files are prepared by one reader: starting others takes longer."""

_SETTLED_NS = 2_000_000_000
_Prepared = tuple[PreparedCase, TruthRef | None]
_Outcome = _Prepared | str


class UnusableViewError(DataError):
    """A view cannot be computed: the fault of those who look through it, not of the scan."""

    def __init__(self, view: AnyView, message: str) -> None:
        super().__init__(view, message)
        self.view, self.message = view, message

    def __str__(self) -> str:
        return self.message


class Store:
    """The folder of prepared data."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @of_the_cache()
    def prepare(
        self,
        dataset: Dataset,
        refs: Sequence[CaseRef],
        *,
        views: Sequence[AnyView] = (),
        truth: bool = False,
        readers: Readers | None = None,
        progress: ShowProgress | None = None,
        on_error: Literal["raise", "collect"] = "raise",
    ) -> PreparedSet:
        """Decode cases once each and store them with their views and truths; what is stored already costs nothing.

        What of a case is stored is compared with its digests where something is missing, or where its pointer cannot be
        read; damaged entries are made again.

        Args:
            dataset: adapter after :meth:`Dataset.discover`; it is pickled to the readers.
            readers: processes whose crash costs one case; without them, cases are read in this one.
            progress: called with cases done, cases in all, and a line of text.
            on_error: ``collect`` returns what went wrong instead of raising it.

        Raises:
            DataError: cases that cannot be used (one message for all of them).
            DiskError: the folder is full, will be before all cases are stored, or cannot be written.
            UnusableViewError: a view cannot be computed.
        """
        for folder in (*(self.root / kind for kind in ("native", "truth", "index")), *self.root.glob("views/*")):
            remove_stale(folder)
        name, total = dataset.card.name, len(refs)
        job = _Preparation(self.root, dataset, tuple(views), truth, reading_source(dataset))
        outcomes: dict[str, _Outcome] = {ref.id: found for ref in refs if (found := job.stored(ref)) is not None}
        missing = [ref for ref in refs if ref.id not in outcomes]
        if progress is not None:
            progress(total - len(missing), total, f"{name}: {total - len(missing)} of {total} prepared before")
        room = Room(self.root, name)
        for ref, outcome in job.work(missing, readers):
            if isinstance(outcome, UnusableViewError):
                raise outcome
            outcomes[ref.id] = outcome
            if not isinstance(outcome, str):
                room.add(job.entries(*outcome), total - len(outcomes))
            if progress is not None:
                progress(len(outcomes), total, f"{name}: {ref.id}")

        failures = {case: outcome for case, outcome in outcomes.items() if isinstance(outcome, str)}
        if failures and on_error == "raise":
            some = f"{len(failures)} of {total} cases of {name} cannot be used:\n  " if len(failures) > 1 else ""
            raise DataError(some + "\n  ".join(failures[ref.id] for ref in refs if ref.id in failures))
        prepared = PreparedSet([], failures=failures)
        for ref in refs:
            outcome = outcomes[ref.id]
            if not isinstance(outcome, str):
                prepared.cases.append(outcome[0])
                if outcome[1] is not None:
                    prepared.truths[ref.id] = outcome[1]
        return prepared


def reading_source(dataset: Dataset) -> str:
    """Address of what decodes a set: its name, the import closures of the adapter and of what writes entries.

    Two sets of one module may read the same files in their own ways, hence the name. The weights of the network that
    segments the organ count where they are present.
    """
    classes = {cls.__module__ for cls in type(dataset).__mro__}
    modules = {m for m in classes if m.partition(".")[0] not in sys.stdlib_module_names}
    sources = [closure_hash(module) for module in sorted({*modules, entries.__name__})]
    segmenter = find_anatomy(dataset.card.anatomy).segmenter
    model = import_module(segmenter).weights() if segmenter else None
    return entries.digest([entries.LAYOUT, dataset.card.name, sources, None if model is None else file_digest(model)])


@dataclass(frozen=True)
class _Preparation:
    """What is prepared of every case of a set, and where; it travels to worker processes."""

    root: Path
    dataset: Dataset
    views: tuple[AnyView, ...]
    truth: bool
    source: str

    def work(
        self, refs: Sequence[CaseRef], readers: Readers | None
    ) -> Iterator[tuple[CaseRef, _Outcome | UnusableViewError]]:
        """Prepare cases, in as many readers as pay where there is much to read."""
        if readers is None or not refs:
            yield from ((ref, self.outcome(ref)) for ref in refs)
            return
        files = (path for ref in refs for _, path in _files(ref))
        # A file that cannot be asked counts nothing here and is named when its case is read.
        is_large = sum(map(getsize, filter(isfile, files))) >= SMALL_BYTES
        for ref, outcome in readers.work(self.outcome, refs, None if is_large else 1):
            yield ref, lost_case(self.dataset, ref, outcome) if isinstance(outcome, Lost) else outcome

    def outcome(self, ref: CaseRef) -> _Outcome | UnusableViewError:
        """Prepare one case; a case that cannot be used gives its message, a full disk stops everything."""
        try:
            return self._prepare(ref)
        except DiskError:
            raise
        except UnusableViewError as error:
            return error
        except UasbenchError as error:
            return str(error)
        except OSError as error:
            what = f"cannot be read ({error.strerror or brief(error)}); check the file and its rights"
            return f"{error.filename or ref.image}: {what}"
        except (Exception, SystemExit) as error:
            return f"{ref.image}: {type(error).__name__} in the adapter of {self.dataset.card.name}: {brief(error)}"

    def _prepare(self, ref: CaseRef) -> _Prepared:
        """Store one case with its views and truth, as far as they are not there."""
        stamp, started = _stamp(ref), time.time_ns()
        key = entries.digest([self.source, ref.id, [[name, file_digest(path)] for name, path in _files(ref)]])
        native, truth = self._folders(key)
        case = None
        entries.remove_damaged([native, *([truth] if self.truth else [])])
        if not native.is_dir():
            case = loaded(self.dataset, ref.id)
            entries.write_native(native, case)
        prepared = self._pointer(native, ref)
        entries.remove_damaged(prepared.view_path(view) for view in self.views)
        for view in self.views:
            path = prepared.view_path(view)
            if not path.is_dir():
                case = prepared.case() if case is None else case
                write_view(path, _seen(case, view))
        if self.truth and not truth.is_dir():
            entries.write_truth(truth, self.dataset.load_truth(ref.id), prepared.shape)
        found = prepared, self._truth_ref(truth)
        if _stamp(ref) == stamp and started - max(times for *_, times in stamp) > _SETTLED_NS:
            with suppress(DiskError):  # without it the files are read again next time; the entries are there
                write_text(self._index_path(ref), json.dumps({"stamp": stamp, "key": key}))
        return found

    def stored(self, ref: CaseRef) -> _Prepared | None:
        """Return the case where its files are unchanged since they were prepared and everything wanted is there."""
        try:
            known = read_json(self._index_path(ref))
            if known["stamp"] != _stamp(ref):
                return None
            native, truth = self._folders(known["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        try:
            found = self._pointer(native, ref), self._truth_ref(truth)
        except DamagedError:
            return None
        return found if all(found[0].view_path(view).is_dir() for view in self.views) else None

    def entries(self, case: PreparedCase, truth: TruthRef | None) -> list[Path]:
        """Return the folders of a prepared case."""
        return [case.path, *map(case.view_path, self.views), *([] if truth is None else [truth.path])]

    def _folders(self, key: str) -> tuple[Path, Path]:
        """Return where image and truth lie; the pointer to the image does not lead to the name of the truth."""
        return self.root / "native" / key, self.root / "truth" / entries.digest(["truth", key])

    def _truth_ref(self, path: Path) -> TruthRef | None:
        return TruthRef(path, entries.read_meta(path)["fingerprint"]) if self.truth else None

    def _index_path(self, ref: CaseRef) -> Path:
        files = [str(path.resolve()) for _, path in _files(ref)]
        return self.root / "index" / f"{entries.digest([self.source, self.dataset.card.name, ref.id, files])}.json"

    def _pointer(self, native: Path, ref: CaseRef) -> PreparedCase:
        meta = entries.read_meta(native)
        (sz, sy, sx), (z, y, x) = map(float, meta["spacing"]), meta["shape"]
        return PreparedCase(
            dataset=self.dataset.card.name,
            id=ref.id,
            patient=ref.patient,
            spacing=(sz, sy, sx),
            shape=(z, y, x),
            fingerprint=meta["fingerprint"],
            path=native,
            notes=tuple(dict.fromkeys([*map(Note, ref.notes), *(Note(*note) for note in meta["notes"])])),
            trust=Trust(**meta["trust"]),
            roi_source=meta["roi_source"],
        )


def _seen(case: Case, view: AnyView) -> ViewedCase:
    try:
        return apply_view(case, view)
    except Exception as error:
        raise UnusableViewError(view, f"{case.id} cannot be seen through {view}: {summary(error)}") from error


def lost_case(dataset: Dataset, ref: CaseRef, lost: Lost) -> str:
    """Say which case a reader was lost with; it may have been another of its files than the image."""
    others = [path.name for name, path in _files(ref) if name != "image"]
    also = f" (or {', '.join(others[:2])})" if others else ""
    fix = f"copy or convert it again, or leave the case out with --exclude {dataset.card.name}:{ref.id}"
    return f"{ref.image}{also}: {lost.reason}; {fix}"


def _files(ref: CaseRef) -> list[tuple[str, Path]]:
    label = [] if ref.label is None else [("label", ref.label)]
    return [("image", ref.image), *label, *(("extra", path) for path in ref.extra)]


def _stamp(ref: CaseRef) -> list[list[Any]]:
    """Return name, size and the later of modification and change time of every file."""
    status = [(name, path.stat()) for name, path in _files(ref)]
    return [[name, s.st_size, max(s.st_mtime_ns, s.st_ctime_ns)] for name, s in status]
