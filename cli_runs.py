"""The commands of ``bench`` that take a run folder."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import cli_values as values
from .cli_options import EXIT_FAILED_CELLS, AsJson, Cache, DataRoot, console, say, show_run

EXIT_DIFFERS = 1
EXIT_UNVERIFIED = 3

app = typer.Typer()

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=values.runs)]
Failures = Annotated[
    Literal["exclude", "worst"],
    typer.Option(help="What counts for cells that failed or are missing: nothing, or the worst value."),
]


@app.command()
def status(path: RunPath, as_json: AsJson = False) -> None:
    """Say what a run has done, does and still has to do, also while it goes on in another shell."""
    from .benchmark.commands import status
    from .benchmark.runs.folder import RunFolder

    found = status.status(RunFolder.open(path), now := time.time())
    if as_json:
        print(json.dumps(found.json(), indent=1))
        return
    for line in status.lines(found, now):
        say(line)


@app.command()
def stage(
    path: RunPath,
    name: Annotated[str, typer.Argument(metavar="ID", help="As 'bench plan --stages' names it.")],
) -> None:
    """Run one stage that 'bench plan --stages' or '--sbatch' has planned, wherever the run folder is seen."""
    from .benchmark.commands.staging import run_stage
    from .benchmark.runs.folder import RunFolder

    if (error := run_stage(RunFolder.open(path), name)) is not None:
        say(f"failed  {name}: {error}")
        sys.exit(EXIT_FAILED_CELLS)
    say(f"done    {name}")


@app.command()
def logs(
    path: RunPath,
    cell: Annotated[
        str | None,
        typer.Argument(metavar="CELL", help="Its name, the start of it, or a wildcard.", autocompletion=values.cells),
    ] = None,
    lines: Annotated[int, typer.Option(min=0, help="Lines of each log; 0 shows all.")] = 40,
) -> None:
    """Print what the stages of a cell have printed: trainings, maps, measuring; without CELL the names of all cells."""
    from .benchmark.commands import logs
    from .benchmark.runs.folder import RunFolder

    folder = RunFolder.open(path)
    if cell is None:
        for name in logs.cells(folder):
            say(name)
        return
    for stage, log in logs.logs(folder, logs.cell_named(folder, cell)):
        say(f"== {stage}: {log}")
        for line in logs.shown(log, lines):
            say(line)


@app.command()
def rescore(path: RunPath, workers: Annotated[int, typer.Option(help="Stages at once.")] = 2) -> None:
    """Measure the stored maps again with the present protocols; nothing is trained."""
    from . import api

    show_run(api.rescore(path, workers, console()))


@app.command()
def verify(
    path: RunPath,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", autocompletion=values.runs, help="Instead, compare the records with those of another run."
        ),
    ] = None,
    tables_only: Annotated[
        bool, typer.Option("--tables-only", help="Compare tables with records; open no map, scan or label.")
    ] = False,
    data_root: DataRoot = None,
    cache: Cache = None,
    workers: Annotated[int, typer.Option(help="Cells at once.")] = 2,
    most: Annotated[int, typer.Option("--show", min=0, help="Differences that are printed.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Recompute a run's numbers and tables from its maps and the truth, and say what differs; it is left as it is."""
    from . import api

    if against is None:
        where = {"data_root": data_root, "cache": cache}
        found = api.verify(path, **where, workers=workers, tables_only=tables_only, console=console())
    else:
        found = api.verify_against(path, against)
    if as_json:
        print(json.dumps(found.json(), indent=1))
    else:
        for line in found.lines(most):
            say(line)
    sys.exit({"differs": EXIT_DIFFERS, "not verified": EXIT_UNVERIFIED}.get(found.outcome, 0))


@app.command()
def report(
    path: RunPath,
    failures: Failures = "exclude",
    viewer: Annotated[
        bool, typer.Option("--viewer", help="The slices that the report shows too, from maps, scans and truth.")
    ] = False,
    data_root: DataRoot = None,
    cache: Cache = None,
    workers: Annotated[int, typer.Option(min=1, help="With --viewer: cases at once.")] = 2,
) -> None:
    """Write the tables, figures and the HTML report from the records."""
    from . import api

    for file in api.report(path, failures):
        print(file)
    if viewer:
        where = {"data_root": data_root, "cache": cache, "workers": workers}
        for problem in api.viewer(path, **where, console=console()):
            say(f"viewer: {problem}")


@app.command()
def compare(
    path: RunPath,
    reference: Annotated[
        str, typer.Option(autocompletion=values.methods, help="Method that the others are compared with.")
    ],
    metric: Annotated[
        str | None, typer.Option(help="dice, psc, sen, auroc, …; default dice, or slice_auroc with slice labels only.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="native, healthy-q95, val, oracle, …; default val, or none without a threshold.")
    ] = None,
    failures: Failures = "exclude",
    as_json: Annotated[bool, typer.Option("--json", help="Print every column of paired_tests.csv as JSON.")] = False,
) -> None:
    """Print paired tests of every method against a reference, the best one first."""
    from . import api
    from .reports.compare import compared

    frame = api.open_run(path).compare(reference, metric, protocol, failures)
    if as_json:
        print(frame.to_json(orient="records", indent=1))
        return
    out = console(stderr=False)
    for part in compared(frame, out):
        out.print(part, highlight=False)


@app.command()
def export(
    path: RunPath,
    to: Annotated[Path, typer.Option(help="Folder that gets the files.")],
    methods: Annotated[str | None, typer.Option(help="Names, comma lists and wildcards; default all.")] = None,
    cases: Annotated[str | None, typer.Option(help="Cases, with commas; default all.")] = None,
    seeds: Annotated[str | None, typer.Option(help="A number of seeds (3) or a list (0,1,2); default all.")] = None,
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Masks as DICOM segmentations too, where scans are DICOM series.")
    ] = False,
    data_root: DataRoot = None,
    cache: Cache = None,
    workers: Annotated[int, typer.Option(min=1, help="Cases at once.")] = 2,
) -> None:
    """Write maps, masks of every protocol, truth and organ as NIfTI files that lie on the scans."""
    from . import api

    chosen = {"methods": methods, "cases": cases, "seeds": seeds, "dicom_seg": dicom_seg}
    where = {"data_root": data_root, "cache": cache, "workers": workers}
    for folder in api.export(path, to, **chosen, **where, console=console()):
        print(folder)


@app.command()
def ui(
    path: RunPath,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on localhost.")] = 5000,
    browse: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show a run in MLflow on localhost, its methods compared on the first page."""
    from .benchmark.runs.folder import RunFolder
    from .benchmark.tracking.dashboard import serve

    sys.exit(serve(RunFolder.open(path), port, browse=browse))


@app.command()
def track(
    path: RunPath,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server; default the one the run used.")] = None,
) -> None:
    """Send to MLflow whatever of a run it does not have yet."""
    from .benchmark.runs.folder import RunFolder
    from .benchmark.tracking import server
    from .benchmark.tracking.tracker import publish

    folder = RunFolder.open(path)
    sent = publish(folder, tracking_uri)
    print(f"{sent} cells sent to {server.tracking_uri(folder, tracking_uri)}, {len(folder.records())} are there now")


@app.command()
def clean(
    path: RunPath,
    maps: Annotated[
        bool, typer.Option("--maps", help="Also drop the maps of finished cells; no rescore after that.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and delete nothing.")] = False,
) -> None:
    """Delete what bench made and no cell of the run refers to: fits, maps, logs, leftovers; each is listed first."""
    from .benchmark.commands import cleaning
    from .benchmark.runs.folder import RunFolder

    freed = cleaning.clean(RunFolder.open(path), maps=maps, dry_run=dry_run, show=say)
    print(f"{'would free' if dry_run else 'freed'} {freed / 2**20:.1f} MiB")
