"""The front door, ``bench``: parses, calls the API or one function of a room below, and prints."""

import errno
import json
import shlex
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from . import cli_data, cli_methods, cli_runs
from . import cli_values as values
from .cli_options import (
    EXIT_USAGE,
    AllowOverlap,
    AsJson,
    Cache,
    Compiled,
    DataRoot,
    Executor,
    Queue,
    Refine,
    Reuse,
    SamWeights,
    command_line,
    console,
    given,
    options_of,
    say,
    show_run,
)
from .common.errors import UasbenchError, printable
from .common.processes import leave

EXIT_INTERRUPTED = 130
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"uasbench {version('uasbench')}")
        raise typer.Exit


@app.callback()
def bench(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Benchmark unsupervised anomaly segmentation in medical CT: train on healthy, score on lesions, compare."""


def main() -> None:
    """Run the command; errors that the user can mend end it with exit status 2 and no traceback.

    A terminal that knows fewer characters than a table has gets question marks in their place.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as ended:
        leave(ended.code)
    except UasbenchError as error:
        print(f"bench: {printable(str(error))}", file=sys.stderr)
        leave(EXIT_USAGE)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(
            f"bench: {error.strerror}: {error.filename or 'disk'}; free space or choose another folder", file=sys.stderr
        )
        leave(EXIT_USAGE)


@app.command()
def run(
    ctx: typer.Context,
    datasets: Annotated[
        str, typer.Option("--dataset", autocompletion=values.datasets, help="Test set, or several with commas.")
    ],
    methods: Annotated[
        str,
        typer.Option(autocompletion=values.methods, help="Names, comma lists and wildcards ('vae*,draem'), or all."),
    ] = "all",
    train: Annotated[
        str | None,
        typer.Option(autocompletion=values.datasets, help="Healthy set to train on; default the test set's partner."),
    ] = None,
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="Run on synthetic CT; every number is marked so.")] = False,
    phantom_seed: Annotated[int, typer.Option(help="Seed of the synthetic patients.")] = 0,
    profile: Annotated[
        str, values.choice(*values.PROFILES, help="smoke makes no claim, quick is for plumbing.")
    ] = "paper",
    seeds: Annotated[str, typer.Option(help="A number of seeds (3) or a list (0,1,2).")] = "3",
    workers: Annotated[
        str, typer.Option(help="Stages at once: auto (one per GPU or core; 64 jobs of a queue), pack (to fill GPUs).")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of each stage; part of the result's address.")] = 1,
    device: Annotated[str, values.choice(*values.DEVICES, help="auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[
        str, values.choice(*values.PRECISIONS, help="auto is bf16 on CUDA, fp32 on the CPU.")
    ] = "auto",
    compiled: Compiled = False,
    executor: Executor = "local",
    queue: Queue = None,
    require_same_node_kind: Annotated[
        bool, typer.Option("--require-same-node-kind", help="Stages fail on other kinds of nodes than the first.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Cluster for --executor ray: HOST:PORT, auto, ray://HOST:PORT; default its own."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default a name made from the options.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="METHOD.KEY=VALUE; may be repeated.")] = None,
    variants: Annotated[
        list[str] | None, typer.Option("--variant", help="LABEL:METHOD.KEY=VALUE,…; adds the row METHOD@LABEL.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="SET:ID; of this set nothing but the cases so named; may be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="SET:ID to leave out; may be repeated.")] = None,
    keep: Annotated[
        list[str] | None, values.choice("restorations", help="Keep and draw what methods make of a scan.")
    ] = None,
    calibration: Annotated[
        str, values.choice("held-out", "none", help="held-out keeps a fifth of the healthy patients.")
    ] = "held-out",
    allow_overlap: AllowOverlap = False,
    refine: Refine = None,
    sam_weights: SamWeights = None,
    reuse: Reuse = None,
    trials: Annotated[int | None, typer.Option(help="Trials of each threshold study, at most 40.")] = None,
    stage_limit_s: Annotated[
        float | None, typer.Option("--stage-limit", help="Seconds after which a stage is stopped.")
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server; default SQLite in the run folder.")] = None,
    cache: Cache = None,
) -> None:
    """Train, map and measure every method on a task; the same command again continues it."""
    from .api import execute
    from .benchmark.planning.options import validated

    options = validated(**given(ctx), command=command_line())
    show_run(_uninterrupted(lambda: execute(options, console())))


@app.command()
@options_of(run)
def plan(
    ctx: typer.Context,
    datasets: Annotated[
        str | None, typer.Option("--dataset", autocompletion=values.datasets, help="Test set, or several with commas.")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(autocompletion=values.experiments, help="Instead: name of an experiment, or a YAML file."),
    ] = None,
    calibrate: Annotated[bool, typer.Option(help="Measure first how fast this machine is.")] = True,
    sbatch: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead, write Slurm scripts: an array per wave, and FILE that sends them."),
    ] = None,
    stages: Annotated[
        bool,
        typer.Option("--stages", help="Instead, write the plan for 'bench stage'; print its calls in order."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what the same run would do and cost; its data are prepared, nothing is trained."""
    from .benchmark.commands.predicting import plan, shown
    from .benchmark.planning.options import experiment_options, validated

    if (experiment is None) == (datasets is None):
        raise UasbenchError("give either --dataset or --experiment")
    options = (
        validated(**given(ctx)) if experiment is None else experiment_options(experiment, **given(ctx, typed=True))
    )
    if stages:
        from .benchmark.commands.staging import write_stages

        for name in write_stages(options, console()):
            print(shlex.join(["bench", "stage", str(options.folder().absolute()), name]))
        return
    if sbatch is not None:
        from .benchmark.commands.staging import write_scripts

        for path in write_scripts(options, sbatch, console()):
            print(path)
        return
    forecast = plan(options, console(), calibrate=calibrate)
    if as_json:
        print(json.dumps(forecast.json(), indent=2))
        return
    for part in shown(forecast):
        console(stderr=False).print(part, highlight=False, markup=False)


@app.command()
def reproduce(
    ctx: typer.Context,
    experiment: Annotated[
        str, typer.Argument(autocompletion=values.experiments, help="One of bench list experiments, or a YAML file.")
    ],
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="Run it on synthetic CT instead.")] = False,
    phantom_seed: Annotated[int, typer.Option(help="Seed of the synthetic patients.")] = 0,
    profile: Annotated[
        str | None, values.choice(*values.PROFILES, help="Profile instead of the experiment's own.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds instead of the experiment's own.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    workers: Annotated[str, typer.Option(help="Stages at once.")] = "auto",
    executor: Executor = "local",
    queue: Queue = None,
    device: Annotated[str, values.choice(*values.DEVICES, help="auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[
        str, values.choice(*values.PRECISIONS, help="auto is bf16 on CUDA, fp32 on the CPU.")
    ] = "auto",
    compiled: Compiled = False,
    allow_overlap: AllowOverlap = False,
    refine: Refine = None,
    sam_weights: SamWeights = None,
    reuse: Reuse = None,
    cache: Cache = None,
) -> None:
    """Run a table or figure of a paper as one experiment."""
    from .api import execute
    from .benchmark.experiments import load
    from .benchmark.planning.options import experiment_options
    from .reports.console import beside, beside_text

    options = experiment_options(experiment, **given(ctx), command=command_line())
    finished = _uninterrupted(lambda: execute(options, console()))
    printed = load(experiment).printed()
    if printed and not phantom:
        say(beside_text(beside(printed, finished.tables), finished.tables.told_missing()))
    say(f"page: {finished.folder.page_html}")
    show_run(finished)


@app.command()
def tune(
    methods: Annotated[list[str], typer.Argument(autocompletion=values.methods, help="Names and wildcards, or all.")],
    datasets: Annotated[
        str,
        typer.Option(
            "--dataset", autocompletion=values.datasets, help="Test set that the settings are for; it is not opened."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of trials, studies and tuned settings.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of each method.")] = 20,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Core-minutes after which a method gets no more.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(autocompletion=values.datasets, help="Healthy set; default the test set's partner.")
    ] = None,
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="Tune on synthetic CT.")] = False,
    phantom_seed: Annotated[int, typer.Option(help="Seed of the synthetic patients.")] = 0,
    profile: Annotated[
        str, values.choice(*values.PROFILES, help="Settings of the methods, and what is drawn of the phantom.")
    ] = "standard",
    seeds: Annotated[str, typer.Option(help="Seeds of every trial: a number or a list.")] = "1",
    workers: Annotated[str, typer.Option(help="Stages at once.")] = "auto",
    device: Annotated[str, values.choice(*values.DEVICES, help="auto takes a GPU where there is one.")] = "auto",
    cache: Cache = None,
) -> None:
    """Choose settings by lesions planted into healthy scans: the same budget for every method, no lesion label."""
    from . import api
    from .reports.tuned import printed

    given_options = {"train": train, "data_root": data_root, "workers": workers, "device": device, "cache": cache}
    given_options |= {"phantom": phantom, "phantom_seed": phantom_seed, "command": command_line()}
    budget = {"trials": trials, "minutes": minutes, "profile": profile, "seeds": seeds}
    _, searches = api.tune(",".join(methods), datasets, out=out, console=console(), **budget, **given_options)
    console(stderr=False).print(printed(searches), highlight=False)
    say(f"\ntrials: {out / 'trials.csv'}\ncompare: bench reproduce {out / 'tuned.yaml'}")


@app.command()
def preview(
    methods: Annotated[
        str,
        typer.Argument(autocompletion=values.methods, help="Methods that train on synthetic lesions, such as normnet."),
    ],
    dataset: Annotated[
        str, typer.Option(autocompletion=values.datasets, help="Test set whose healthy partner is shown.")
    ],
    out: Annotated[Path, typer.Option(help="Folder that gets one PNG per method.")] = Path("preview"),
    train: Annotated[
        str | None, typer.Option(autocompletion=values.datasets, help="Healthy set; default the partner.")
    ] = None,
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="Show the phantom.")] = False,
    profile: Annotated[
        str, values.choice(*values.PROFILES, help="Settings of the methods, and what is drawn of the phantom.")
    ] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of the lesions.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="METHOD.KEY=VALUE; may be repeated.")] = None,
    cache: Cache = None,
) -> None:
    """Draw what a method trains on: healthy, with synthetic lesions, and the target, side by side."""
    from . import api

    options = {"train": train, "data_root": data_root, "phantom": phantom, "profile": profile, "cache": cache}
    for file in api.preview(methods, dataset, out=out, seed=seed, set=settings or [], console=console(), **options):
        print(file)


@app.command("import")
def import_(
    ctx: typer.Context,
    maps: Annotated[Path, typer.Argument(help="Folder with one NIfTI map per case, named like the case.")],
    method: Annotated[str, typer.Option(help="Name under which the maps are shown.")],
    dataset: Annotated[str, typer.Option(autocompletion=values.datasets, help="Test set that the maps belong to.")],
    out: Annotated[Path, typer.Option(help="Run folder that gets the record.")],
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="The maps are of the phantom.")] = False,
    phantom_seed: Annotated[int, typer.Option(help="Seed of the phantom.")] = 0,
    profile: Annotated[str, values.choice(*values.PROFILES, help="Profile of the run they are compared in.")] = "paper",
    only: Annotated[list[str] | None, typer.Option(help="SET:ID to use alone; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="SET:ID to leave out; may be repeated.")] = None,
    threshold: Annotated[float | None, typer.Option(help="The method's own threshold, if it has one.")] = None,
    cache: Cache = None,
) -> None:
    """Score the maps of a method that cannot run here beside the others."""
    from .api import import_maps

    show_run(import_maps(maps, method, dataset, threshold=threshold, console=console(), **given(ctx)))


app.registered_commands += [*cli_runs.app.registered_commands, *cli_methods.app.registered_commands]


def _uninterrupted(work):
    try:
        return work()
    except KeyboardInterrupt:
        print("bench: stopped; the same command continues where it was", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
