"""Options and printing that the commands of ``bench`` share."""

import functools
import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_values as values
from .common.errors import printable

EXIT_USAGE = 2
EXIT_FAILED_CELLS = 3
PIPED_WIDTH = 160

DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Folder that holds the data sets; default UASBENCH_DATA.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of prepared data; default UASBENCH_CACHE or ~/.cache/uasbench.")
]
Executor = Annotated[
    str, typer.Option(autocompletion=values.executors, help="Where stages run: local, slurm, command, or a plug-in.")
]
Queue = Annotated[
    list[str] | None,
    typer.Option("--queue", "--slurm", help="KEY=VALUE of the executor, or a TOML file; may be repeated."),
]
AllowOverlap = Annotated[
    bool,
    typer.Option("--allow-overlap", help="Run and mark methods whose weights learned from masks of the test set."),
]
Refine = Annotated[
    str | None,
    typer.Option(help="sam, sam-centre, sam-random, sam-point, with commas: adds rows METHOD+sam, drawn by SAM."),
]
SamWeights = Annotated[
    Path | None, typer.Option("--sam-weights", help="With --refine: sam_vit_b_01ec64.pth, or a larger SAM.")
]
Reuse = Annotated[
    list[Path] | None,
    typer.Option(help="Another run folder; what it holds of the same address is taken over; may be repeated."),
]
Compiled = Annotated[
    bool,
    typer.Option("--compile", help="Compile the networks of trainings; such fits have addresses of their own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def console(*, stderr: bool = True):
    """Return a console that stays readable in a pipe."""
    from rich.console import Console

    found = Console(stderr=stderr)
    if not found.is_terminal:
        found.width = PIPED_WIDTH
    return found


def say(text: str) -> None:
    """Print a line; control characters in names and messages from elsewhere do nothing to the terminal."""
    print(printable(text), flush=True)


def command_line() -> str:
    """Return the command as it was typed."""
    return shlex.join(["bench", *sys.argv[1:]])


def options_of(other: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of another one besides its own; it finds them in its context."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        theirs = {n: p for n, p in inspect.signature(other, eval_str=True).parameters.items() if n not in own}

        @functools.wraps(command)
        def taken(**values: Any) -> None:
            command(**{name: values[name] for name in own})

        merged = {name: p.replace(kind=p.KEYWORD_ONLY) for name, p in (own | theirs).items()}
        taken.__signature__ = inspect.Signature(list(merged.values()))  # pyright: ignore[reportAttributeAccessIssue]
        taken.__annotations__ = {name: p.annotation for name, p in merged.items()}
        del taken.__wrapped__
        return taken

    return with_options


def given(ctx: typer.Context, *, typed: bool = False) -> dict[str, Any]:
    """Return the options that make a run, with their defaults, or only those that were ``typed``."""
    from .benchmark.planning.options import RunOptions

    known = {k: v for k, v in ctx.params.items() if k in RunOptions.model_fields and v is not None}
    said = {k for k in known if getattr(ctx.get_parameter_source(k), "name", "") == "COMMANDLINE"}
    if address := ctx.params.get("ray_address"):  # another name of a setting of the queue
        known["queue"] = [*known.get("queue", []), f"address={address}"]
        said.add("queue")
    return {k: v for k, v in known.items() if not typed or k in said}


def show_run(finished: Any) -> None:
    """Print the headline of a run that a command has made, and end with its exit status where cells failed."""
    from .reports.console import headline

    out = console(stderr=False)
    out.print(headline(finished.folder))
    folder = finished.folder
    for line in (f"report: {folder.report_html}", f"tables: {folder.tables_dir}", f"dashboard: bench ui {folder.path}"):
        out.print(line, highlight=False, soft_wrap=True)
    if finished.new_failures:
        out.print(f"{finished.new_failures} cells failed; see tables/failures.csv and logs/", highlight=False)
        sys.exit(EXIT_FAILED_CELLS)
