"""What a list says about a method beside its card, read off the class: dimensions, needs, and why it may decline."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .limits import time_limit
from .stages.worker import summary

if TYPE_CHECKING:
    from ..methods.base import Method


@dataclass(frozen=True)
class Outline:
    """Facts about a class that do not change from machine to machine.

    Attributes:
        dims: ``2D`` or ``3D`` from its view, ``native`` where it works on the grid of the scan, ``?`` where its view
            cannot be made from the default settings.
        packages: what must be installed.
        asks: what it needs beside: weights, lesion labels, the unlabelled test scans.
        declines: it has a ``skip`` of its own, which must be asked on every machine.
    """

    dims: str
    packages: tuple[str, ...]
    asks: tuple[str, ...]
    declines: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """Packages and everything else."""
        return (*self.packages, *self.asks)


def outline_of(cls: type[Method]) -> Outline:
    """Return the outline of a class."""
    from ..methods.base import Method

    extra = {"labels": ("lesion labels",), "unlabelled-test": ("unlabelled test scans",)}
    weights = ("weights",) if cls.extra_identity is not Method.extra_identity else ()
    asks = (*weights, *extra.get(cls.card.uses, ()))
    return Outline(_dims(cls), tuple(cls.requires), asks, cls.skip is not Method.skip)


def _dims(cls: type[Method]) -> str:
    try:
        view = cls(cls.Config()).view
    except Exception:  # a plug-in's own code may raise anything, and the listing of the others goes on
        return "?"
    if view is None:
        return "native"
    return "3D" if hasattr(view, "spacing") else "2D"


def missing_packages(packages: tuple[str, ...]) -> str | None:
    """Return which packages are missing and how to get them, or None."""
    missing = [package for package in packages if importlib.util.find_spec(package.partition(".")[0]) is None]
    return f"needs {', '.join(missing)}: pip install {' '.join(missing)}" if missing else None


def obstacle(cls: type[Method], config: Any) -> str | None:
    """Return why a method cannot run here: a missing package, or the reason that its ``skip`` gives."""
    return missing_packages(cls.requires) or cls(config).skip()


def status_of(cls: type[Method]) -> str:
    """Return ``ok``, or why a method cannot run here with its default settings."""
    try:
        with time_limit():
            return obstacle(cls, cls.Config()) or "ok"
    except Exception as error:
        return f"fails: {summary(error)}"
