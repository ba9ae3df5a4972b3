"""``bench show``: everything that is known about one method before it runs, and the card of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ...methods import online as network
from ...methods.config import by_stage, resolve
from ..stages.worker import summary
from . import registry
from .architecture import size
from .outline import Outline, missing_packages, status_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...methods.method import Method

COUNTED = ("paper", "quick")
SHOWN = ("paper", "quick", "smoke")


def show(name: str) -> Iterator[RenderableType]:
    """Yield card, settings by profile, figures, published numbers and, last, the size of the networks of a method.

    Networks are counted last because they bring torch, which takes seconds. Of a data set the card is shown.

    Raises:
        RegistryError: unknown name, or a plug-in that cannot be used.
    """
    known = registry.runnable()
    if name not in known.names() and name in registry.datasets().names():
        yield _grid({key: value for key, value in asdict(registry.datasets().card(name)).items() if value})
        return
    cls = known.get(name)
    yield _grid(_facts(cls, known.entry(name), known.outline(name)))
    settings = _settings(cls)
    if settings:
        yield _table(("setting", *SHOWN, "belongs to"), settings, "Settings: the defaults of each profile")
    usual = resolve(cls.Config)
    others = [
        (anatomy, key, _text(value))
        for anatomy, values in cls.Config.anatomies.items()
        for key, value in values.items()
        if value != getattr(usual, key)
    ]
    if others:
        yield _table(("anatomy", "setting", "value"), others, "Settings that an anatomy changes")
    figures = [figure for figure in cls.card.figures if figure[0] != "parameters"]
    if figures:
        yield _table(("figure", "in the reference", "here, paper profile"), figures, "Figures; n/p: not published")
    if cls.card.published:
        title = "Published numbers that it is compared with, in per cent: other patients, slices or thresholds"
        yield _table(("source", "data set", "metric", "value", "how"), cls.card.published, title)
    else:
        yield _grid({"published numbers": "none on these data sets"})
    yield _grid({f"parameters, {profile}": parameters(cls, profile) for profile in COUNTED})


def _facts(cls: type[Method], entry: registry.Entry, outline: Outline) -> dict[str, str]:
    card = cls.card
    seeds = "deterministic: one seed" if card.deterministic else f"{card.min_seeds} or more"
    supervision = "lesion labels" if card.supervision == "full" else "no lesion label"
    uses = {"unlabelled-test": "; sees the unlabelled test scans (transductive)", "labels": f"; {_training(cls)}"}
    facts = {
        "name": card.name,
        "title": card.title,
        "year": str(card.year or ""),
        "family": card.family,
        "citation": card.citation,
        "reference": card.reference,
        "learns from": f"{supervision}{uses.get(card.uses, '')}",
        "shares training with": card.trainer or "",
        "works on": _works_on(cls, outline),
        "anatomy": ", ".join(card.anatomy),
        "own threshold": "" if outline.dims == "?" else _threshold(cls),
        "slice score": card.slice_score if isinstance(card.slice_score, str) else " ".join(map(str, card.slice_score)),
        "seeds": seeds,
        "needs": ", ".join(outline.needs),
        "status": _status(cls),
        "source": str(entry),
        "notes": card.notes,
    }
    return {key: value for key, value in facts.items() if value}


def _status(cls: type[Method]) -> str:
    with network.forbidden():
        return status_of(cls)


def _training(cls: type[Method]) -> str:
    unseen = getattr(cls, "training", "cross-fit") == "unseen"
    return "trained on the other lesion sets" if unseen else "cross-fitted over the patients of the test set"


def _works_on(cls: type[Method], outline: Outline) -> str:
    if outline.dims in ("native", "?"):
        return {"native": "the grid of the scan", "?": "a view that its default settings do not make"}[outline.dims]
    size = cls(cls.Config()).view
    assert size is not None
    return f"{outline.dims}, {size.size}² pixels"


def _threshold(cls: type[Method]) -> str:
    method = cls(cls.Config())
    if any(hasattr(method, own) for own in ("postprocess", "postprocess_view")):
        return "a decision of its own (postprocess)"
    return "" if method.native_threshold is None else f"{method.native_threshold:g}"


def parameters(cls: type[Method], profile: str) -> str:
    """Return the number of parameters of a profile's networks, or why they cannot be made here."""
    if cls.card.trivial:
        return "none"
    try:
        return size(cls, profile) or "none before training"
    except Exception as error:
        return f"unknown ({missing_packages(cls.requires) or summary(error)})"


def _settings(cls: type[Method]) -> list[tuple[str, ...]]:
    configs = {profile: resolve(cls.Config, profile) for profile in SHOWN}
    paper = configs["paper"]
    score = by_stage(paper)[1]
    rows = []
    for field in fields(paper):
        values = [getattr(configs[profile], field.name) for profile in SHOWN]
        texts = [_text(values[0]), *("" if value == values[0] else _text(value) for value in values[1:])]
        rows.append((field.name, *texts, "score" if field.name in score else "fit"))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)


def _grid(facts: Mapping[str, str]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts.items():
        grid.add_row(key, Text(value))
    return grid


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
