"""The commands of ``bench`` about what is registered and what is here: list, show, check, new-plugin, doctor."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import cli_values as values
from .cli_options import EXIT_FAILED_CELLS, AsJson, console, say
from .common.errors import UasbenchError, did_you_mean

app = typer.Typer()


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar=f"[{'|'.join(values.LISTS)}]",
            autocompletion=values.of(values.LISTS),
            help="Top lines are among the methods.",
        ),
    ] = "methods",
    as_json: AsJson = False,
) -> None:
    """List what is registered, what is broken and why."""
    from .benchmark.commands import listing, narrow

    tables = {"methods": listing.methods, "datasets": listing.datasets, "experiments": listing.experiments}
    if what not in tables:
        hint = did_you_mean(what, tables)
        raise UasbenchError(f"cannot list {what!r}{hint}; choose {', '.join(tables)} (methods shows the top lines too)")
    found = tables[what]()
    if as_json:
        print(json.dumps(narrow.rows(found), indent=1))
        return
    out = console(stderr=False)
    out.print(narrow.fitted(found, out), highlight=False)


@app.command()
def show(
    method: Annotated[
        str | None, typer.Argument(autocompletion=values.known, help="Registered method, top line or data set.")
    ] = None,
    architecture: Annotated[
        bool, typer.Option("--architecture", help="Instead, all methods beside their references, as Markdown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what is known about a method: card, settings, figures, published numbers, size of its networks."""
    if architecture == (method is not None):
        raise UasbenchError("name a method, or ask for --architecture alone; 'bench list methods' shows the names")
    from .benchmark.catalogue import showing

    if method is None:
        typer.echo(showing.architecture_table())
    elif as_json:
        print(json.dumps(showing.described(method), indent=1))
    else:
        for part in showing.show(method):
            console(stderr=False).print(part)


@app.command()
def check(
    method: Annotated[str, typer.Argument(autocompletion=values.methods, help="Registered method.")],
    anatomy: Annotated[str, typer.Option(help="liver, lung, kidney, pancreas, or an organ of a package.")] = "liver",
    device: Annotated[str, values.choice("cpu", "cuda", help="Where it is checked.")] = "cpu",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that a single check may take.")] = 300.0,
) -> None:
    """Check that a method keeps the contract: shapes, seeds, save and load, blindness to labels, learning."""
    from .benchmark.conformance.run import check_method

    def show(result) -> None:
        sign = "skip" if result.skipped else "FAIL" if result.failed else "ok  "
        say(f"{sign}  {result.name}  ({result.seconds:.1f} s)  {result.detail}".rstrip())

    results = check_method(method, anatomy=anatomy, device=device, progress=show, timeout=timeout)
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    print(f"{method}: {passed} checks passed, {failed} failed, {len(results) - passed - failed} skipped")
    sys.exit(EXIT_FAILED_CELLS if failed else 0)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the method, lower case with dashes.")],
    folder: Annotated[Path, typer.Option(help="Where the package is written.")] = Path(),
) -> None:
    """Write an installable package with one method and its test."""
    from .benchmark.commands import plugin_template

    for file in plugin_template.new_plugin(name, folder):
        print(file)


@app.command()
def doctor() -> None:
    """Print versions, devices, plug-ins and folders, and what is wrong with them."""
    from .benchmark.commands.doctor import diagnose

    for topic, status, detail in diagnose():
        say(f"{status:5s} {topic}: {detail}")
