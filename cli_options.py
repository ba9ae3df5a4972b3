"""Options and printing that the commands of ``bench`` share."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .common.errors import printable

EXIT_USAGE = 2
PIPED_WIDTH = 160

DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Folder that holds the data sets; default UASBENCH_DATA.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of prepared data; default UASBENCH_CACHE or ~/.cache/uasbench.")
]


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


def given(ctx: typer.Context) -> dict[str, Any]:
    """Return what was given of the options that make a run; a command calls them as ``RunOptions`` does."""
    from .benchmark.planning.options import RunOptions

    return {k: v for k, v in ctx.params.items() if k in RunOptions.model_fields and v is not None}
