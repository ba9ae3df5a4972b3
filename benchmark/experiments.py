"""Experiments: YAML plans of the papers' tables, shipped with the package or written by a user."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, BaseModel, Field

from ..common import package
from ..common.errors import UasbenchError, brief, did_you_mean
from ..methods.config import Profile
from .catalogue.printed import Printed

FOLDER = package.ROOT / "experiments"
TUNED = "tuned"
"""Label of the row that a method has with the settings that ``bench tune`` chose."""


class ExperimentError(UasbenchError):
    """An experiment is unknown or its file is not valid."""


class Variant(BaseModel, extra="forbid"):
    """A further configuration of a method, shown as ``method@label``; an experiment calls its ``settings`` ``set``."""

    label: str
    method: str
    settings: dict[str, Any] = Field(default_factory=dict, validation_alias=AliasChoices("settings", "set"))


class Figure(BaseModel, extra="forbid"):
    """A figure of an experiment's page.

    ``patients`` shows every method on patients from easy to hard, with the ``pictures`` that it makes of a scan (by
    title; None: all of them, and the map); ``methods`` all methods on each of these patients, with the first of the
    ``pictures`` that a method makes; ``errors`` the largest missed and false parts of every method; ``checkpoints`` the
    printed metrics over rows named ``…-N`` of one training; ``embedding`` patches of healthy tissue, lesions and
    synthetic lesions, laid out by t-SNE.
    """

    kind: Literal["patients", "methods", "errors", "checkpoints", "embedding"]
    title: str
    pictures: list[str] | None = None


class Page(BaseModel, extra="forbid"):
    """What ``run.json`` keeps of an experiment: all that its page says beside the records of the run."""

    name: str
    title: str
    notes: str = ""
    figures: list[Figure] = Field(default_factory=list[Figure])
    printed: list[Printed] = Field(default_factory=list[Printed])


class Experiment(BaseModel, extra="forbid"):
    """A plan. ``dataset`` is a comma list; ``methods`` may be empty where the rows are all variants.

    ``only`` restricts a set to named cases, as the option does. ``reference`` is the row that paired tests compare
    with, in place of those that the data sets' cards name; ``published`` names a table of ``published.yaml``, or lists
    numbers of its own.
    """

    title: str
    dataset: str
    train: str | None = None
    only: list[str] = Field(default_factory=list)
    methods: str = ""
    variants: list[Variant] = Field(default_factory=list)
    seeds: str | int = 3
    profile: Profile = "paper"
    calibration: Literal["held-out", "none"] = "held-out"
    reference: str | None = None
    notes: str = ""
    published: str | list[Printed] = Field(default_factory=list[Printed])
    figures: list[Figure] = Field(default_factory=list[Figure])

    @property
    def keep(self) -> list[str]:
        """What a run has to keep for the figures."""
        return ["restorations"] if any(f.kind in ("patients", "methods", "errors") for f in self.figures) else []

    def page(self, name: str) -> Page:
        """Return what a run keeps of the experiment.

        Raises:
            PublishedError: as :meth:`printed`.
        """
        return Page(name=name, title=self.title, notes=self.notes, figures=self.figures, printed=self.printed())

    def printed(self) -> list[Printed]:
        """Return the published numbers, each with its counterpart in a run.

        Raises:
            PublishedError: the named table does not stand in ``published.yaml``.
        """
        if not isinstance(self.published, str):
            return self.published
        from .catalogue.published import published

        rows = published().of_table(self.published)
        return [number for row in rows for number in row.counterparts()]


def names() -> dict[str, Path]:
    """Return the shipped experiments by name, such as ``liver/table2``."""
    return {p.relative_to(FOLDER).with_suffix("").as_posix(): p for p in sorted(FOLDER.rglob("*.yaml"))}


def load(name: str) -> Experiment:
    """Read an experiment by name, or from a YAML file.

    Raises:
        ExperimentError: unknown name, unreadable file, or fields that do not fit.
    """
    known = names()
    path = known.get(name, Path(name))
    if not path.is_file():
        raise ExperimentError(f"no experiment {name!r}{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
    try:
        return Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ExperimentError(f"{path} is not a valid experiment: {brief(error)}") from error
