"""``bench verify``: the files, the data and the numbers of a run, looked at again; nothing is written into the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...datasets.readers import Readers
from ..planning.again import Source
from ..planning.options import OptionError
from ..runs.folder import RunFolder
from ..runs.records import Record
from ..verification.findings import Part, Verification
from ..verification.kept import compare_certificate, look
from ..verification.measuring import compare_data, measure_again
from .display import preparing

if TYPE_CHECKING:
    from rich.console import Console


def verify(
    folder: RunFolder,
    source: Source,
    *,
    workers: int = 1,
    tables_only: bool = False,
    console: Console | None = None,
) -> tuple[Verification, list[Record]]:
    """Check a run up to its tables.

    Returns what was found, and the records from which the tables have to follow: those of the run, with the numbers
    that were measured again where these are others. ``tables_only`` looks at nothing but the records.

    Raises:
        OptionError: fewer than one worker.
        RunFolderError: ``run.json`` or a failure cannot be read.
    """
    if workers < 1:
        raise OptionError(f"--workers {workers}: give at least 1")
    found = Verification(str(folder.path), [files := Part("files")])
    folder = RunFolder(folder.path.absolute())  # worker processes may have another working directory
    with files.timed():
        kept = look(folder, files, records_alone=tables_only)
    if tables_only:
        return found, list(kept.records.values())
    records = list(kept.records.values())
    certificate, data, numbers = Part("certificate"), Part("data"), Part("numbers")
    found.parts += [certificate, data, numbers]
    with certificate.timed():
        compare_certificate(folder, records, certificate)
    with data.timed(), Readers(workers) as readers:
        prepared = compare_data(folder.info(), records, source, readers, data)
    with numbers.timed(), preparing(console) as show:
        others = measure_again(
            kept, prepared, workers, numbers, lambda done, total: show and show(done, total, "cells measured again")
        )
    return found, [others.get(slug, record) for slug, record in kept.records.items()]
