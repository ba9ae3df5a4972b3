"""The commands of ``bench data``: check, prepare, audit, convert, phantom."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import cli_values as values
from .cli_options import EXIT_USAGE, Cache, DataRoot, command_line, console, given, say

app = typer.Typer(help="Look at data sets on disk, audit and convert them, write the phantom.", no_args_is_help=True)


@app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="Data root, or the folder of one set.")],
    dataset: Annotated[
        str | None, typer.Option(autocompletion=values.datasets, help="Check these sets only (comma list).")
    ] = None,
) -> None:
    """Print what is there, what is wrong and the fix."""
    from .benchmark.commands.listing import dataset_adapters
    from .datasets import check
    from .datasets.readers import Readers

    with Readers() as readers:
        found = check.check(path, dataset_adapters(dataset), readers)
    say(check.format_report(found))
    sys.exit(EXIT_USAGE if found.errors else 0)


@app.command("prepare")
def data_prepare(
    ctx: typer.Context,
    datasets: Annotated[
        str, typer.Option("--dataset", autocompletion=values.datasets, help="Test set, or several with commas.")
    ],
    methods: Annotated[
        str, typer.Option(autocompletion=values.methods, help="Methods whose views are prepared.")
    ] = "all",
    train: Annotated[
        str | None, typer.Option(autocompletion=values.datasets, help="Healthy set; default the partner.")
    ] = None,
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="Prepare the phantom.")] = False,
    phantom_seed: Annotated[int, typer.Option(help="Seed of the phantom.")] = 0,
    profile: Annotated[str, values.choice(*values.PROFILES, help="Profile whose views are prepared.")] = "paper",
    only: Annotated[list[str] | None, typer.Option(help="SET:ID to use alone.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="SET:ID to leave out.")] = None,
    workers: Annotated[str, typer.Option(help="Processes.")] = "auto",
    cache: Cache = None,
) -> None:
    """Decode, check and standardise the scans that a run will need."""
    from .benchmark.commands.preparing import prepare_only
    from .benchmark.planning.options import validated

    for line in prepare_only(validated(**given(ctx)), console()):
        say(line)


@app.command("audit")
def data_audit(
    ctx: typer.Context,
    datasets: Annotated[str, typer.Argument(metavar="SET", autocompletion=values.datasets, help="Set, or several.")],
    data_root: DataRoot = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="Screen the phantom.")] = False,
    phantom_seed: Annotated[int, typer.Option(help="Seed of the phantom.")] = 0,
    methods: Annotated[
        str, typer.Option(autocompletion=values.methods, help="Methods that screen a healthy set, such as all.")
    ] = "",
    profile: Annotated[str, values.choice(*values.PROFILES, help="Profile of the screening methods.")] = "quick",
    folds: Annotated[int, typer.Option(help="Parts of the patients; the rest trains for each.")] = 3,
    slices: Annotated[int, typer.Option(help="Slices on the screening page.")] = 40,
    out: Annotated[Path | None, typer.Option(help="Folder of the screening; default audits/SET.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="SET:ID to leave out of the screening.")] = None,
    workers: Annotated[str, typer.Option(help="Stages at once.")] = "auto",
    device: Annotated[str, values.choice(*values.DEVICES, help="Of the screening.")] = "auto",
    cache: Cache = None,
) -> None:
    """Tell what is known of a set, find bodies under two names, and with --methods let them screen its scans."""
    from .benchmark.catalogue import registry
    from .benchmark.commands.auditing import audit
    from .benchmark.commands.listing import dataset_adapters
    from .benchmark.commands.screening import screen
    from .benchmark.locations import data_root as root_of
    from .benchmark.planning.options import validated
    from .datasets.readers import Readers
    from .reports.screening import write_screening

    options = validated(**given(ctx), seeds=[0], command=command_line())
    known = registry.datasets()
    if not phantom:
        root = root_of(data_root, [known.card(name) for name in options.datasets])
        with Readers() as readers:
            for found in audit(root, options.datasets, dataset_adapters(), readers):
                say(found.text())
    for name in options.datasets if methods else ():
        folder = (out or Path("audits")) / name
        screened = screen(options, name, folds, folder, console())
        for path in write_screening(screened, folder, options.command, slices):
            say(str(path))


@app.command("convert")
def data_convert(
    folder: Annotated[Path, typer.Argument(help="Folder of the DICOM slices of a CT, or of studies.")],
    out: Annotated[Path, typer.Argument(help="File that ends in .nii.gz, or a folder for every series found below.")],
    series: Annotated[str | None, typer.Option(help="SeriesInstanceUID of the one to take, for a file.")] = None,
) -> None:
    """Write CT series of DICOM slices as NIfTI, and say what was decided; what cannot be a volume is refused."""
    from .datasets.reading.converting import ENDING, convert, convert_all

    if series is not None or out.name.lower().endswith((ENDING, ".nii")):
        say(convert(folder, out, series))
        return
    outcomes = []
    for good, text in convert_all(folder, out):
        say(text)
        outcomes.append(good)
    sys.exit(0 if all(outcomes) else EXIT_USAGE)


@app.command("phantom")
def data_phantom(
    out: Annotated[Path, typer.Option(help="Folder that becomes a data root.")],
    anatomy: Annotated[str, typer.Option(help="liver, lung, kidney, pancreas, or one of a package.")] = "liver",
    seed: Annotated[int, typer.Option(help="Seed of the synthetic patients.")] = 0,
    size: Annotated[
        str, values.choice("smoke", "quick", "standard", "full", help="Size of scans and number of patients.")
    ] = "quick",
) -> None:
    """Write a phantom in the layouts of BTCV and LiTS, of LUNA16 and COVID-19-CT-Seg, of KiTS23, or of MSD pancreas."""
    from .benchmark.catalogue import registry
    from .datasets.phantom.disk import write_phantom
    from .datasets.phantom.predicted import lay_masks

    info, sets = write_phantom(out, anatomy=anatomy, seed=seed, size=size), registry.datasets()
    lay_masks(out, (sets.get(name) for name, card in sets.cards().items() if card.wraps and card.anatomy == anatomy))
    print(f"{anatomy} phantom in {out}: seed {seed}, {size}, specification {info['spec_hash']}")
