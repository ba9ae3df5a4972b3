"""What the command and notebooks share: run, open, report; the engine first, then the reports, then the tracker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .benchmark.planning.options import OptionError, RunOptions, Variant, validated
from .benchmark.runs.folder import RunFolder, RunFolderError
from .benchmark.runs.records import Failure, Record, Skip

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from .benchmark.commands.tuning import Search
    from .benchmark.tracking.tracker import Tracker
    from .benchmark.verification.findings import Verification
    from .reports.failing import Policy


class Run:
    """A finished or interrupted run, opened for reading.

    Attributes:
        path: the run folder.
        new_failures: cells that failed in the call that returned this object.
    """

    def __init__(self, path: Path | str, new_failures: int = 0) -> None:
        self.folder = RunFolder.open(path)
        self.path = self.folder.path
        self.new_failures = new_failures

    @cached_property
    def records(self) -> list[Record]:
        return self.folder.records()

    @cached_property
    def failures(self) -> list[Failure]:
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
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every table of the run by name: summary, per_case, paired_tests, cases, cost, failures, skipped, ranks."""
        from .reports.tables import tables_of

        return tables_of(self.folder)

    def table(self, name: str) -> pd.DataFrame:
        """Return one table.

        Raises:
            OptionError: there is no table of that name.
        """
        if name not in self.tables:
            raise OptionError(f"no table {name!r}; there are {', '.join(self.tables)}")
        return self.tables[name]

    def by_case(self) -> pd.DataFrame:
        """Return the table per_case with the columns of cases beside each value: spacing, volumes, contrast."""
        from .reports.cases import with_cases

        return with_cases(self.tables["per_case"], self.tables["cases"])

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

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {len(self.records)} cells, {len(self.failures)} failed)"


def run(
    methods: str | Iterable[str] = "all",
    dataset: str | Iterable[str] = "lits",
    *,
    seeds: int | str | Iterable[int] = 3,
    set: Mapping[str, Mapping[str, Any]] | Iterable[str] = (),
    variants: Iterable[str | Variant] = (),
    console: Console | None = None,
    **options: Any,
) -> Run:
    """Run a benchmark as ``bench run`` does and return the opened run.

    Args:
        methods: names, comma lists and wildcards, or ``all``.
        set: settings by method, or ``METHOD.KEY=VALUE`` texts.
        variants: ``LABEL:METHOD.KEY=VALUE,…`` texts.
        console: where progress is shown; None is silent.
        options: the other fields of :class:`~uasbench.benchmark.planning.options.RunOptions`, such as ``data_root``.

    Raises:
        UasbenchError: something the caller can mend; the message says how.
    """
    chosen = validated(methods=methods, datasets=dataset, seeds=seeds, settings=set, variants=variants, **options)
    return execute(chosen, console)


def execute(options: RunOptions, console: Console | None = None) -> Run:
    """Run validated options: cells, then tables and report, then the tracker's files."""
    from .benchmark.commands import running
    from .benchmark.tracking.tracker import Tracker

    with Tracker(options.tracking_uri, console) as tracker:
        folder, failed = running.run(options, console=console, on_start=tracker.start, on_record=tracker.cell)
        if options.page is not None and any(figure.kind == "embedding" for figure in options.page.figures):
            from .benchmark.commands.embedding import embed
            from .benchmark.runs.records import write_json

            write_json(folder.embedding, embed(options, console))
        _conclude(folder, tracker, console)
    return Run(folder.path, failed)


def open_run(path: Path | str) -> Run:
    """Open a run folder: its records and every table as pandas frames.

    Raises:
        RunFolderError: the folder is not a run.
    """
    return Run(path)


def report(path: Path | str, failures: Policy = "exclude") -> list[Path]:
    """Write the tables, figures and the HTML report of a run from its records; return the files.

    Args:
        failures: ``exclude`` leaves cells that failed or are missing out, ``worst`` counts the worst value of the
            metric for every patient.
    """
    from .reports.build import build

    return build(RunFolder.open(path), failures)


def _conclude(folder: RunFolder, tracker: Tracker, console: Console | None) -> None:
    """Do what follows from new records, and say so: tables, figures, report, certificate, the rest for the tracker."""
    from .benchmark.commands.journal import closing
    from .benchmark.runs.certificate import issue
    from .reports.build import build

    with closing(folder, console) as tell:
        build(folder, tell=tell)
        issue(folder)
        tell("sending to MLflow what it lacks")
        tracker.finish()


def verify(
    path: Path | str,
    *,
    data_root: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
    tables_only: bool = False,
    console: Console | None = None,
) -> Verification:
    """Look at a run again, from its files, scans and labels to its tables, and return what differs.

    Args:
        data_root: where the scans are, if not where the run says.
        tables_only: compare the tables with the records, and look at nothing else.

    Raises:
        UasbenchError: the folder is no run, or an option cannot be used.
    """
    from .benchmark.commands import verifying
    from .benchmark.planning.again import Source
    from .benchmark.verification.findings import Part
    from .reports.checking import compare_tables

    folder = RunFolder.open(path)
    options = {"workers": workers, "tables_only": tables_only, "console": console}
    found, records = verifying.verify(folder, Source(data_root, cache), **options)
    found.parts.append(tables := Part("tables"))
    with tables.timed():
        compare_tables(folder, records, tables)
    return found


def verify_against(path: Path | str, other: Path | str) -> Verification:
    """Compare the numbers of two runs, of two machines or versions, within the tolerances of docs/verification.md.

    Raises:
        RunFolderError: one of the folders is no run, or a record of it cannot be read.
    """
    from .benchmark.verification.two_runs import compare_runs

    return compare_runs(RunFolder.open(path), RunFolder.open(other))


def export(
    path: Path | str,
    to: Path | str,
    *,
    methods: str | Iterable[str] | None = None,
    cases: str | Iterable[str] | None = None,
    seeds: int | str | None = None,
    dicom_seg: bool = False,
    data_root: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
    console: Console | None = None,
) -> list[Path]:
    """Write maps, masks, truth and organ of a run as NIfTI files on its scans; return a folder per cell.

    Args:
        methods: names and wildcards, as values or with commas; default all, as for ``cases`` and ``seeds``.
        dicom_seg: write masks as DICOM segmentations too.

    Raises:
        UasbenchError: nothing of that name, or the scans are not at hand.
    """
    from .benchmark.commands.display import preparing
    from .benchmark.commands.exporting import Chosen, export
    from .benchmark.planning.again import Source
    from .benchmark.planning.options import parse_seeds
    from .datasets.readers import Readers

    chosen = Chosen(_names(methods), _names(cases), None if seeds is None else parse_seeds(str(seeds)), dicom_seg)
    with Readers(workers) as readers, preparing(console) as show:
        options = {} if show is None else {"show": show}
        return export(RunFolder.open(path), Path(to), chosen, Source(data_root, cache), readers, **options)


def _names(given: str | Iterable[str] | None) -> list[str] | None:
    if given is None:
        return None
    return [part.strip() for part in (given.split(",") if isinstance(given, str) else given) if part.strip()]


def preview(
    methods: str | Iterable[str],
    dataset: str | Iterable[str],
    *,
    out: Path | str = "preview",
    seed: int = 0,
    set: Mapping[str, Mapping[str, Any]] | Iterable[str] = (),
    console: Console | None = None,
    **options: Any,
) -> list[Path]:
    """Draw what methods train on, one PNG per method: healthy, with synthetic lesions, target.

    Raises:
        UasbenchError: a method has nothing to show, or the data cannot be used.
    """
    from .benchmark.commands.preparing import previews
    from .reports.figures.gallery import draw_preview

    chosen = validated(methods=methods, datasets=dataset, seeds=[seed], settings=set, **options)
    folder, found = Path(out), previews(chosen, console)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        draw_preview(title, pictures, folder / f"{title.replace(', ', '-').replace('@', '-')}.png")
        for title, pictures in found.items()
    ]


def tune(
    methods: str | Iterable[str],
    dataset: str,
    *,
    out: Path | str,
    trials: int = 20,
    minutes: float | None = None,
    seeds: int | str | Iterable[int] = 1,
    profile: str = "standard",
    console: Console | None = None,
    **options: Any,
) -> tuple[Run, list[Search]]:
    """Choose settings as ``bench tune`` does; return the run of all trials and what became of each method.

    Args:
        dataset: the test set that the settings are for; it is not opened.
        out: folder of the trials, the studies and the experiment with the tuned settings.
        trials: as many for each method, fewer where they take more than ``minutes`` of a core.
        options: other fields of :class:`~uasbench.benchmark.planning.options.RunOptions`, such as ``data_root``.

    Raises:
        UasbenchError: something the caller can mend; the message says how.
    """
    from .benchmark.commands import tuning
    from .benchmark.tracking.tracker import Tracker
    from .reports.tuned import write

    chosen = validated(methods=methods, datasets=dataset, seeds=seeds, profile=profile, **options)
    folder, searches = tuning.tune(chosen, Path(out).expanduser().resolve(), trials, minutes, console)
    write(searches, folder.path.parent)
    with Tracker(chosen.tracking_uri, console) as tracker:
        tracker.start(folder)
        for record in folder.records():
            tracker.cell(record)
        _conclude(folder, tracker, console)
    return Run(folder.path), searches


def rescore(path: Path | str, workers: int = 2, console: Console | None = None) -> Run:
    """Measure the stored maps of a run again with the present protocols, then rebuild its tables and report.

    Raises:
        RunFolderError: some cells could not be measured; the others are.
    """
    from .benchmark.commands import rescoring
    from .benchmark.tracking.tracker import Tracker

    folder = RunFolder.open(path)
    show = (lambda event: console.print(f"{event.kind} {event.job.label}")) if console else (lambda _: None)
    with Tracker(None, console) as tracker:
        tracker.start(folder)
        _, problems = rescoring.rescore(folder, workers, show, tracker.cell)
        _conclude(folder, tracker, console)
    if problems:
        raise RunFolderError("; ".join(f"{slug}: {problem}" for slug, problem in problems.items()))
    return Run(path)


def import_maps(
    maps: Path, method: str, options: RunOptions, threshold: float | None = None, console: Console | None = None
) -> Run:
    """Score NIfTI maps of another program beside the cells of a run and rebuild its tables and report.

    Raises:
        DataError: a case has no map, or a map does not fit its case.
    """
    from .benchmark.commands import importing
    from .benchmark.tracking.tracker import Tracker

    with Tracker(None, console) as tracker:
        folder, record = importing.import_maps(maps, method, options, threshold)
        tracker.start(folder)
        tracker.cell(record)
        _conclude(folder, tracker, console)
    return Run(folder.path)
