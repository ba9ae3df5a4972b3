"""A run in the user's hands: records, tables, and the arrays behind them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .benchmark.runs.folder import RunFolder
from .benchmark.runs.records import Failure, Record, Skip
from .common.wording import spoken

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from .benchmark.commands.arrays import Arrays, RunCase
    from .reports.failing import Policy
    from .reports.tables import Tables


class Run:
    """A finished or interrupted run, opened for reading; what is asked for is read or computed then, once.

    Attributes:
        path: the run folder.
        new_failures: cells that failed in the call that returned this object.
        data_root: where the scans are, where that is not where the run says.
        cache: folder of prepared data, likewise.
    """

    def __init__(
        self,
        path: Path | str,
        new_failures: int = 0,
        *,
        data_root: Path | str | None = None,
        cache: Path | str | None = None,
    ) -> None:
        self.folder = RunFolder.open(path)
        self.path = self.folder.path
        self.new_failures = new_failures
        self.data_root = None if data_root is None else Path(data_root).expanduser().resolve()
        self.cache = None if cache is None else Path(cache).expanduser().resolve()

    @cached_property
    @spoken
    def records(self) -> list[Record]:
        """Every finished cell, sorted by data set, train set, method and seed."""
        return self.folder.records()

    @cached_property
    def failures(self) -> list[Failure]:
        """Cells that failed and have not been finished since."""
        return self.folder.failures()

    @property
    def skipped(self) -> list[Skip]:
        """Methods that declined, with their reasons."""
        return self.folder.skipped()

    @property
    def info(self) -> dict[str, Any]:
        """What was run: command, data, seeds, warnings, timing."""
        return self.folder.info()

    @cached_property
    def tables(self) -> Tables:
        """Every table of the run by name: summary, per_case, paired_tests, cases, cost, failures, skipped, ranks."""
        from .reports.tables import tables_of

        return tables_of(self.folder, records=lambda: self.records)

    @spoken
    def table(self, name: str) -> pd.DataFrame:
        """Return one table.

        Raises:
            NotInRunError: there is no table of that name.
        """
        if name not in self.tables:
            from .benchmark.commands.arrays import NotInRunError

            raise NotInRunError(f"no table {name!r}; there are {', '.join(self.tables)}")
        return self.tables[name]

    @spoken
    def by_case(self) -> pd.DataFrame:
        """Return the table per_case with the columns of cases beside each value: spacing, volumes, contrast."""
        from .reports.cases import with_cases

        return with_cases(self.tables["per_case"], self.tables["cases"])

    @spoken
    def thresholds(self) -> pd.DataFrame:
        """Return one row per cell and threshold: protocol, fold, value, post-processing, patients it applies to."""
        from .reports.thresholds import thresholds

        return thresholds(self.records)

    @spoken
    def compare(
        self, reference: str, metric: str | None = None, protocol: str | None = None, failures: Policy = "exclude"
    ) -> pd.DataFrame:
        """Return paired tests of every method against ``reference``, as ``bench compare`` prints them.

        Args:
            metric: default ``dice``, or ``slice_auroc`` where the data have slice labels only.
            protocol: default ``val``, or ``none`` where the metric needs no threshold.
            failures: what counts for cells that failed or are missing, as in :func:`report`.

        Raises:
            CompareError: no such method, metric or protocol in the run, or a voxel metric without voxel labels.
        """
        from .reports.compare import compare

        return compare(self.folder, reference, metric, protocol, failures)

    @spoken
    def case(self, case: str, *, dataset: str | None = None) -> RunCase:
        """Open a test case: image, region of interest, truth, spacing, affine.

        Args:
            dataset: its set, where cases of several sets have that name.

        Raises:
            NotInRunError: no such case.
            DataError: neither its prepared data nor the data root are there, or the scan is another one than the run's.
        """
        return self._arrays.case(self._record(case=case, dataset=dataset), case)

    @spoken
    def map(self, method: str, case: str, seed: int | None = None, *, dataset: str | None = None) -> np.ndarray:
        """Return the anomaly map of a case on its own grid: float32 (z, y, x), larger is more anomalous.

        Only values inside the region of interest are measured. The run folder alone is needed, no scan.

        Args:
            method: the row, such as ``draem`` or ``draem@tuned``.
            seed: None is the lowest seed of the method.

        Raises:
            NotInRunError: no such method, case or seed.
            RunFolderError: the run no longer keeps its maps.
        """
        return self._arrays.map(self._record(method, case, seed, dataset), case)

    @spoken
    def prediction(
        self, method: str, case: str, protocol: str = "val", seed: int | None = None, *, dataset: str | None = None
    ) -> np.ndarray:
        """Return the mask that was measured under a protocol: bool (z, y, x), nothing outside the region measured.

        Its Dice with the truth inside the region of interest is that of ``per_case``, to the digit.

        Raises:
            NotInRunError: no such method, case, seed or protocol, or the protocol has no mask of this case.
            DataError: as :meth:`case`.
            RunFolderError: as :meth:`map`.
        """
        from .benchmark.commands.arrays import NotInRunError

        found = self._arrays.prediction(self._record(method, case, seed, dataset), case, protocol)
        if isinstance(found, str):
            raise NotInRunError(f"{method} has no mask of {case} under {protocol}: {found}")
        return found

    @spoken
    def show(
        self,
        case: str,
        methods: str | Iterable[str] | None = None,
        *,
        protocol: str = "val",
        seed: int | None = None,
        z: int | None = None,
        dataset: str | None = None,
    ) -> Figure:
        """Draw one slice of a case as several methods see it: scan, map, outlines of truth and prediction.

        Args:
            methods: rows, as values or with commas; None is all that were measured on the case.
            z: the slice; None is the one with most lesion.

        Raises:
            NotInRunError: as :meth:`prediction`, or no such slice.
            DataError: as :meth:`case`.
        """
        from .reports.case_view import show

        return show(self._arrays, self.records, case, methods, protocol=protocol, seed=seed, z=z, dataset=dataset)

    @cached_property
    def _arrays(self) -> Arrays:
        from .benchmark.commands.arrays import Arrays
        from .benchmark.planning.again import Source

        return Arrays(self.folder, Source(self.data_root, self.cache))

    def _record(
        self, method: str | None = None, case: str | None = None, seed: int | None = None, dataset: str | None = None
    ) -> Record:
        from .benchmark.commands.arrays import pick

        return pick(self.records, method=method, case=case, seed=seed, dataset=dataset)

    def __repr__(self) -> str:
        counts = (sum(1 for _ in part.glob("*.json")) for part in (self.folder.records_dir, self.folder.failures_dir))
        return "Run({!r}: {} cells, {} failed)".format(str(self.path), *counts)

    def _repr_html_(self) -> str:
        from .reports.notebook import run_html

        return run_html(str(self.path), self.info, self.tables)
