"""What a list says about a method beside its card, read off the class: dimensions, needs, and why it may decline."""

from __future__ import annotations

import importlib.util
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...common.errors import shortened, summary
from ...common.foreign import contained
from ...common.package import import_target
from ...common.rehearsal import rehearse_class
from ...methods.config import resolve
from ...methods.context import network_forbidden

if TYPE_CHECKING:
    from ...methods.method import Method

TRIED = ("paper", "standard", "quick")
CONSTRUCTION_S = 60.0


@dataclass(frozen=True)
class Outline:
    """Facts about a class that do not change from machine to machine.

    Its view gives ``2D`` or ``3D``, ``native`` where it works on the grid of the scan, ``?`` where the default settings
    make none. Beside packages it asks for weights, lesion labels or the unlabelled test scans. Where it ``declines``,
    it has a ``skip`` of its own, which must be asked on every machine.
    """

    dims: str
    packages: tuple[str, ...]
    asks: tuple[str, ...]
    declines: bool

    @property
    def needs(self) -> tuple[str, ...]:
        return (*self.packages, *self.asks)


def outline_of(cls: type[Method]) -> Outline:
    """Return the outline of a class."""
    from ...methods.method import Method

    uses = {"labels": ("lesion labels",), "unlabelled-test": ("unlabelled test scans",)}
    asks = (*texts(cls.needs), *uses.get(cls.card.uses, ()))
    try:
        with contained():
            rehearse_class(cls, CONSTRUCTION_S, ask, "", "")
            method = cls(cls.Config())
            view = method.view
            dims = "native" if view is None else "3D" if hasattr(view, "spacing") else "2D"
            if cls.extra_identity is not Method.extra_identity and getattr(method.config, "weights", "") != "random":
                asks = ("weights", *asks)
    except Exception:  # a plug-in's own code may raise anything, and the listing of the others goes on
        dims = "?"
    return Outline(dims, texts(cls.requires), asks, cls.skip is not Method.skip)


def texts(value: object) -> tuple[str, ...]:
    """Return names that a class gives as a tuple, or as one text; what is no text is shown as it is.

    >>> texts("torch"), texts(("a", "b")), texts(None)
    (('torch',), ('a', 'b'), ('None',))
    """
    return tuple(map(str, value)) if isinstance(value, tuple | list) else (str(value),)


def missing_packages(packages: tuple[str, ...]) -> str | None:
    """Return which packages are missing and how to get them, or None."""
    missing = [package for package in packages if not _importable(package.partition(".")[0])]
    return f"needs {', '.join(missing)}: pip install {' '.join(missing)}" if missing else None


def _importable(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def status_of(cls: type[Method]) -> str:
    """Return ``ok``, or why a method cannot run here, and where: with which profiles, on which anatomy."""
    if reason := missing_packages(texts(cls.requires)):
        return reason
    anatomies = cls.card.anatomy
    places = [(profile, anatomy) for profile in TRIED for anatomy in anatomies]
    declined: dict[str, list[tuple[str, str]]] = {}
    for place in places:
        if reason := _reason(cls, *place):
            declined.setdefault(reason, []).append(place)
    return "; ".join(_at(where, places) + reason for reason, where in declined.items()) or "ok"


def _reason(cls: type[Method], profile: str, anatomy: str) -> str | None:
    try:
        with contained():
            rehearse_class(cls, CONSTRUCTION_S, ask, profile, anatomy)
            with time_limit(), network_forbidden():
                reason = cls(resolve(cls.Config, profile, anatomy)).skip()
                return shortened(str(reason)) if reason else None
    except Exception as error:
        return f"fails: {summary(error)}"


def ask(target: str, profile: str, anatomy: str) -> None:
    """Have a class say all that a list says of it: at its defaults, or why it declines at a profile."""
    cls: type[Method] = import_target(target)
    with network_forbidden():
        if profile:
            cls(resolve(cls.Config, profile, anatomy)).skip()
        else:
            _ = cls(cls.Config()).view


def _at(where: list[tuple[str, str]], places: list[tuple[str, str]]) -> str:
    """Return the profiles or anatomies that set some places apart from the others."""
    for part in (0, 1):
        named = list(dict.fromkeys(place[part] for place in where))
        if where != places and where == [place for place in places if place[part] in named]:
            return f"{', '.join(named)}: "
    return "" if where == places else f"{', '.join(' on the '.join(place) for place in where)}: "


@contextmanager
def time_limit(seconds: float = CONSTRUCTION_S) -> Iterator[None]:
    """Raise TimeoutError in code that does not come back; in the main thread only, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"did not come back within {seconds:.0f} s of being constructed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
