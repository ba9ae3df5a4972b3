"""``bench show``: all that is known about a method before it runs, a data set's card, the table of architectures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from ...common.errors import printable
from ...methods.card import FIGURE_NAMES
from ...methods.config import by_stage, resolve
from ...methods.pretraining import NONE
from . import registry
from .outline import Outline, status_of
from .sizes import COUNTED, size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ...methods.method import Method

SHOWN = (*COUNTED, "smoke")


class Section(NamedTuple):
    """A table of what is known about a method; without columns it lists facts: name and text. Programs read ``key``."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    key: str = ""


def sections(name: str) -> Iterator[Section]:
    """Yield card, settings by profile, figures and published numbers of a method; torch is not needed.

    Raises:
        RegistryError: unknown name, or a plug-in that cannot be used.
    """
    from .published import published

    known = registry.runnable()
    cls = known.get(name)
    yield Section("", (), tuple(_facts(cls, known.entry(name), known.outline(name)).items()))
    if settings := _settings(cls):
        yield Section("Settings: the defaults of each profile", ("setting", *SHOWN, "belongs to"), settings, "settings")
    usual = resolve(cls.Config)
    others = [
        (anatomy, key, _text(value))
        for anatomy, values in cls.Config.anatomies.items()
        for key, value in values.items()
        if value != getattr(usual, key)
    ]
    if others:
        yield Section("Settings that an anatomy changes", ("anatomy", "setting", "value"), others, "anatomies")
    if figures := [figure for figure in cls.card.figures if figure[0] != "parameters"]:
        yield Section(
            "Figures; n/p: not published", ("figure", "in the reference", "here, paper profile"), figures, "figures"
        )
    if numbers := (*published().of_card(name), *cls.card.published):
        title = (
            "Published numbers that it is compared with, in per cent or seconds: other patients, slices or thresholds"
        )
        yield Section(title, ("source", "data set", "metric", "value", "how"), numbers, "published")
        if caveats := published().caveats_of(name):
            yield Section("What to mind of them", ("source", "caveat"), caveats, "caveats")
    else:
        yield Section("", (), [("published numbers", "none on these data sets")])


def show(name: str) -> Iterator[RenderableType]:
    """Yield the sections of a method and, last, the size of its networks, or the card of a data set, for a console.

    Networks are counted last because they bring torch, which takes seconds.

    Raises:
        RegistryError: unknown name, or a plug-in that cannot be used.
    """
    known = registry.runnable()
    if name not in known.names() and name in registry.datasets().names():
        yield _grid(tuple((key, value) for key, value in asdict(registry.datasets().card(name)).items() if value))
        return
    for section in sections(name):
        yield table_of(section.columns, section.rows, section.title) if section.columns else _grid(section.rows)
    yield _grid([(f"parameters, {profile}", text) for profile, text in known.parameters(name).items()])
    known.write_index()


def described(name: str) -> dict[str, Any]:
    """Return what :func:`show` prints as plain values: facts, sections as lists of rows, parameters by profile.

    Raises:
        RegistryError: unknown name, or a plug-in that cannot be used.
    """
    known = registry.runnable()
    if name not in known.names() and name in registry.datasets().names():
        return asdict(registry.datasets().card(name))
    parts = list(sections(name))
    found: dict[str, Any] = {key: value for part in parts if not part.columns for key, value in part.rows}
    for part in parts:
        if part.columns:
            found[part.key] = [dict(zip(part.columns, row, strict=True)) for row in part.rows]
    found["parameters"] = known.parameters(name)
    known.write_index()
    return found


def _facts(cls: type[Method], entry: registry.Entry, outline: Outline) -> dict[str, str]:
    card = cls.card
    supervision = "lesion labels" if card.supervision == "full" else "no lesion label"
    unseen = getattr(cls, "training", "cross-fit") == "unseen"
    fitted = "trained on the other lesion sets" if unseen else "cross-fitted over the patients of the test set"
    uses = {"unlabelled-test": "; sees the unlabelled test scans (transductive)", "labels": f"; {fitted}"}
    facts = {
        "name": card.name,
        "title": card.title,
        "year": str(card.year or ""),
        "family": card.family,
        "citation": card.citation,
        "reference": card.reference,
        "learns from": f"{supervision}{uses.get(card.uses, '')}",
        "pretraining": "" if card.pretraining == NONE else str(card.pretraining),
        "labels elsewhere": ", ".join(card.labels_elsewhere),
        "shares training with": card.trainer or "",
        "works on": _works_on(cls, outline),
        "anatomy": ", ".join(card.anatomy),
        "own threshold": "" if outline.dims == "?" else _threshold(cls),
        "slice score": card.slice_score if isinstance(card.slice_score, str) else " ".join(map(str, card.slice_score)),
        "seeds": "deterministic: one seed" if card.deterministic else f"{card.min_seeds} or more",
        "needs": ", ".join(outline.needs),
        "status": status_of(cls),
        "source": str(entry),
        "notes": card.notes,
    }
    return {key: value for key, value in facts.items() if value}


def _works_on(cls: type[Method], outline: Outline) -> str:
    if outline.dims in ("native", "?"):
        return {"native": "the grid of the scan", "?": "a view that its default settings do not make"}[outline.dims]
    view = cls(cls.Config()).view
    assert view is not None
    return f"{outline.dims}, {view.size}² pixels"


def _threshold(cls: type[Method]) -> str:
    method = cls(cls.Config())
    if any(hasattr(method, own) for own in ("postprocess", "postprocess_view")):
        return "a decision of its own (postprocess)"
    return "" if method.native_threshold is None else f"{method.native_threshold:g}"


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


def _grid(facts: Sequence[tuple[str, ...]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts:
        grid.add_row(key, Text(value))
    return grid


def table_of(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str | None = None,
    broken: Mapping[str, str] | None = None,
) -> Table:
    """Return a table for a console; ``broken`` are names with what is wrong with them, in red below the rows."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")  # a name is typed again: it stays whole
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    for name, reason in (broken or {}).items():
        table.add_row(name, Text(f"broken: {printable(reason)}", style="red"), *[""] * (len(columns) - 2))
    return table


def architecture_table() -> str:
    """Return the ``paper`` profiles as Markdown: one row per learned built-in method, top lines last.

    Parameters are counted in networks that are made for it, those of pretrained backbones with random weights. Where a
    reference has another figure, it stands before an arrow.
    """
    known = registry.runnable()
    rows = [("method", *FIGURE_NAMES), ("---",) * (1 + len(FIGURE_NAMES))]
    for name, card in known.cards().items():
        if known.entry(name).built_in and not card.trivial:
            made = size(known.get(name)) or "planned from the data"
            figures: dict[str, str] = dict.fromkeys(FIGURE_NAMES, "")
            for what, reference, here in card.figures:
                # Parameters, which are counted here, have an arrow only where a reference prints a count.
                same = reference == here or (reference == "n/p" and not here)
                figures[what] = (here or made) if same else f"{reference} → {here or made}"
            rows.append((f"`{name}`", *figures.values()))
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
