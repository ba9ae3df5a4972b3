"""What the command and notebooks share: run, open, report; the engine first, then the reports, then the tracker.

Errors speak of the command's options here; the names of the package itself say the same of arguments.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .api_run import Run
from .benchmark.runs.folder import RunFolder, RunFolderError

if TYPE_CHECKING:
    from rich.console import Console

    from .benchmark.commands.tuning import Search
    from .benchmark.experiments import Variant
    from .benchmark.planning.options import RunOptions
    from .benchmark.tracking.tracker import Tracker
    from .benchmark.verification.findings import Verification
    from .methods.method import Method
    from .reports.failing import Policy

__all__ = [
    "Run", "execute", "export", "import_maps", "open_run", "preview", "report", "rescore", "run", "tune", "verify",
    "verify_against", "viewer",
]  # fmt: skip


def run(
    methods: str | type[Method] | Iterable[str | type[Method]] = "all",
    dataset: str | Iterable[str] = "lits",
    *,
    seeds: int | str | Iterable[int] = 3,
    set: Mapping[str, Mapping[str, Any]] | Iterable[str] = (),
    variants: Iterable[str | Variant] = (),
    console: Console | Literal["auto"] | None = "auto",
    **options: Any,
) -> Run:
    """Run a benchmark as ``bench run`` does and return the opened run.

    Args:
        methods: names, comma lists and wildcards, or ``all``; classes too, of a notebook cell, a script or a module.
        set: settings by method, or ``METHOD.KEY=VALUE`` texts.
        variants: ``LABEL:METHOD.KEY=VALUE,…`` texts.
        console: where progress is shown; ``auto`` is the output of a notebook and nothing elsewhere, None is silent.
        options: the other fields of :class:`~uasbench.benchmark.planning.options.RunOptions`, such as ``data_root``.

    Raises:
        UasbenchError: something the caller can mend; the message says how.
    """
    from .benchmark.catalogue.session import given_methods
    from .benchmark.planning.options import validated

    with given_methods(methods, options.get("cache")) as given:
        asked = {"methods": given.names, "datasets": dataset, "seeds": seeds, "settings": set, "variants": variants}
        return execute(validated(**asked, **options), _shown(console), given.keep)


def execute(
    options: RunOptions, console: Console | None = None, on_start: Callable[[RunFolder], object] = lambda _: None
) -> Run:
    """Run validated options: cells, then tables and report, then the tracker's files."""
    from .benchmark.commands import running
    from .benchmark.tracking.tracker import Tracker

    with Tracker(options.tracking_uri, console) as tracker:

        def start(folder: RunFolder) -> None:
            on_start(folder)
            tracker.start(folder)

        folder, failed = running.run(options, console=console, on_start=start, on_record=tracker.cell)
        if options.page is not None and any(figure.kind == "embedding" for figure in options.page.figures):
            from .benchmark.commands.embedding import embed
            from .benchmark.runs.records import write_json

            write_json(folder.embedding, embed(options, console))
        _conclude(folder, tracker, console)
    return Run(folder.path, failed)


def open_run(path: Path | str, *, data_root: Path | str | None = None, cache: Path | str | None = None) -> Run:
    """Open a run folder: its records, every table as a pandas frame, and the arrays behind them.

    Args:
        data_root: where the scans are, if not where the run says; only arrays need them, and only where the prepared
            data are gone.
        cache: folder of prepared data, likewise.

    Raises:
        RunFolderError: the folder is not a run.
    """
    return Run(path, data_root=data_root, cache=cache)


def report(path: Path | str, failures: Policy = "exclude") -> list[Path]:
    """Write the tables, figures and the HTML report of a run from its records; return the files.

    Args:
        failures: ``exclude`` leaves cells that failed or are missing out, ``worst`` counts the worst value of the
            metric for every patient.
    """
    from .reports.build import build

    return build(RunFolder.open(path), failures)


def viewer(
    path: Path | str,
    *,
    data_root: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
    console: Console | Literal["auto"] | None = "auto",
) -> list[str]:
    """Write what the report's viewer shows, from maps, scans and truth; return what could not be shown.

    Raises:
        UasbenchError: a record cannot be read, or the folder cannot be written.
    """
    from .benchmark.commands.display import preparing
    from .benchmark.planning.again import Source
    from .datasets.readers import Readers
    from .reports.viewer.making import make

    with Readers(workers) as readers, preparing(_shown(console)) as show:
        options = {} if show is None else {"show": show}
        return make(RunFolder.open(path), Source(data_root, cache), readers, **options)


def _conclude(folder: RunFolder, tracker: Tracker, console: Console | None) -> None:
    """Do what follows from new records, and say so: tables, figures, report, certificate, the rest for the tracker."""
    from .benchmark.commands.journal import closing
    from .benchmark.runs.certificate import issue
    from .benchmark.shelves.shelf import briefs
    from .reports.build import build

    with closing(folder, console) as tell:
        build(folder, tell=tell)
        issue(folder, briefs(folder))
        tell("sending to MLflow what it lacks")
        tracker.finish()


def verify(
    path: Path | str,
    *,
    data_root: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
    tables_only: bool = False,
    console: Console | Literal["auto"] | None = "auto",
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
    options = {"workers": workers, "tables_only": tables_only, "console": _shown(console)}
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
    seeds: int | str | Iterable[int] | None = None,
    dicom_seg: bool = False,
    data_root: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
    console: Console | Literal["auto"] | None = "auto",
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

    if seeds is not None:
        seeds = parse_seeds(str(seeds)) if isinstance(seeds, int | str) else list(seeds)
    chosen = Chosen(_names(methods), _names(cases), seeds, dicom_seg)
    with Readers(workers) as readers, preparing(_shown(console)) as show:
        options = {} if show is None else {"show": show}
        return export(RunFolder.open(path), Path(to), chosen, Source(data_root, cache), readers, **options)


def _names(given: str | Iterable[str] | None) -> list[str] | None:
    if given is None:
        return None
    return [part.strip() for part in (given.split(",") if isinstance(given, str) else given) if part.strip()]


def preview(
    methods: str | type[Method] | Iterable[str | type[Method]],
    dataset: str | Iterable[str],
    *,
    out: Path | str = "preview",
    seed: int = 0,
    set: Mapping[str, Mapping[str, Any]] | Iterable[str] = (),
    console: Console | Literal["auto"] | None = "auto",
    **options: Any,
) -> list[Path]:
    """Draw what methods train on, one PNG per method: healthy, with synthetic lesions, target.

    Raises:
        UasbenchError: a method has nothing to show, or the data cannot be used.
    """
    from .benchmark.catalogue.session import given_methods
    from .benchmark.commands.preparing import previews
    from .benchmark.planning.options import validated
    from .reports.figures.gallery import draw_preview

    with given_methods(methods, options.get("cache")) as given:
        chosen = validated(methods=given.names, datasets=dataset, seeds=[seed], settings=set, **options)
        folder, found = Path(out), previews(chosen, _shown(console))
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
    console: Console | Literal["auto"] | None = "auto",
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
    from .benchmark.planning.options import validated
    from .benchmark.tracking.tracker import Tracker
    from .reports.tuned import write

    console = _shown(console)
    chosen = validated(methods=methods, datasets=dataset, seeds=seeds, profile=profile, **options)
    folder, searches = tuning.tune(chosen, Path(out).expanduser().resolve(), trials, minutes, console)
    write(searches, folder.path.parent)
    with Tracker(chosen.tracking_uri, console) as tracker:
        tracker.start(folder)
        for record in folder.records():
            tracker.cell(record)
        _conclude(folder, tracker, console)
    return Run(folder.path), searches


def rescore(path: Path | str, workers: int = 2, console: Console | Literal["auto"] | None = "auto") -> Run:
    """Measure the stored maps of a run again with the present protocols, then rebuild its tables and report.

    Raises:
        RunFolderError: some cells could not be measured; the others are.
    """
    from .benchmark.commands import rescoring
    from .benchmark.tracking.tracker import Tracker

    folder, console = RunFolder.open(path), _shown(console)
    show = (lambda event: console.print(f"{event.kind} {event.job.label}")) if console else (lambda _: None)
    with Tracker(None, console) as tracker:
        tracker.start(folder)
        _, problems = rescoring.rescore(folder, workers, show, tracker.cell)
        _conclude(folder, tracker, console)
    if problems:
        raise RunFolderError("; ".join(f"{slug}: {problem}" for slug, problem in problems.items()))
    return Run(path)


def import_maps(
    maps: Path | str,
    method: str,
    dataset: str,
    *,
    threshold: float | None = None,
    console: Console | Literal["auto"] | None = "auto",
    **options: Any,
) -> Run:
    """Score NIfTI maps of another program beside the cells of a run and rebuild its tables and report.

    Args:
        maps: folder with one NIfTI per case, named like the case, on the grid of its scan.
        method: the name under which they are shown.
        threshold: the method's own, for the ``native`` protocol.
        options: other fields of :class:`~uasbench.benchmark.planning.options.RunOptions`, such as ``out``, the run
            folder, and ``data_root``.

    Raises:
        DataError: a case has no map, or a map does not fit its case.
    """
    from .benchmark.commands import importing
    from .benchmark.planning.options import validated
    from .benchmark.tracking.tracker import Tracker

    chosen = validated(datasets=[dataset], **options)
    console = _shown(console)
    with Tracker(None, console) as tracker:
        folder, record = importing.import_maps(Path(maps), method, chosen, threshold)
        tracker.start(folder)
        tracker.cell(record)
        _conclude(folder, tracker, console)
    return Run(folder.path)


def _shown(console: Console | Literal["auto"] | None) -> Console | None:
    """Return the console that is meant: in a notebook one that writes below the cell."""
    if console != "auto":
        return console
    ipython = sys.modules.get("IPython")
    if ipython is None or type(ipython.get_ipython()).__name__ != "ZMQInteractiveShell":
        return None
    from rich.console import Console

    with warnings.catch_warnings(), suppress(ImportError):
        warnings.simplefilter("ignore")  # it asks for widgets, and no bar of it is shown
        import_module("tqdm.auto")
    return Console()
