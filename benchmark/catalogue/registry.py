"""Methods, data sets and top lines by name, from the entry points of installed packages; imported at first use."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ...common import foreign, package
from ...common.errors import DataError, UasbenchError, brief
from ...common.foreign import EndedItselfError, contained
from ...common.package import import_target
from ...common.rehearsal import rehearse_import
from ...datasets import anatomy
from .index import CardIndex, Entry

if TYPE_CHECKING:
    from ...datasets.dataset import Dataset, DatasetCard
    from ...methods.card import MethodCard
    from ...methods.method import Method
    from .outline import Outline

PACKAGE = __name__.partition(".")[0]
TOPLINES = ".toplines"
T = TypeVar("T")
C = TypeVar("C")


class RegistryError(UasbenchError):
    """A name is unknown, registered twice, or belongs to a plug-in that cannot be used."""


class Registry(Generic[T, C]):
    """The classes of one entry-point group, or of methods and top lines together.

    Reading names imports nothing; cards come from an index on disk and import a module only when its source changed.
    A plug-in that cannot be used appears in :meth:`broken` with the reason and disturbs no other.
    """

    def __init__(self, group: str, kind: str, points: Iterable[EntryPoint], index: CardIndex | None = None) -> None:
        self.group = group
        self.kind = kind
        self._entries: dict[str, list[Entry]] = {}
        self._classes: dict[str, type[T]] = {}
        self._cards: dict[str, C] = {}
        self._broken: dict[str, str] = {}
        self._index = CardIndex() if index is None else index
        # A package that brings many names has its metadata read once.
        origin = cache(lambda dist: (dist.name, dist.version) if dist else ("an unnamed package", ""))
        for point in points:
            entry = Entry(point.name, point.value.replace(" ", ""), *origin(point.dist), point.group)
            same = self._entries.setdefault(entry.name, [])
            if entry.target not in [e.target for e in same]:
                same.append(entry)

    def names(self) -> list[str]:
        """Return every registered name, sorted, usable or not.

        Raises:
            RegistryError: nothing is registered, because the benchmark itself is not installed.
        """
        if not self._entries and not self.group.endswith(TOPLINES):
            raise RegistryError(
                f"no {self.kind} is registered: {PACKAGE} is on the path but not installed. Names come from entry "
                "points, which pip writes: run 'pip install -e .' in the repository, then again"
            )
        return sorted(self._entries)

    def entry(self, name: str) -> Entry:
        """Return where a name comes from.

        Raises:
            RegistryError: unknown name, or two packages claim it.
        """
        same = self._entries.get(name)
        if not same:
            raise RegistryError(self._unknown(name))
        if len(same) > 1:
            claims = " and ".join(map(str, same))
            raise RegistryError(f"{self.kind} {name!r} is registered twice: {claims}; rename or uninstall one of them")
        return same[0]

    def get(self, name: str) -> type[T]:
        """Import and return the class behind a name.

        Raises:
            RegistryError: unknown name, two packages claim it, the import fails, or it is not such a class.
        """
        if name not in self._classes:
            entry = self.entry(name)
            try:
                with contained():
                    rehearse_import(entry.target)
                    found = import_target(entry.target)
                    problem = _problem(found, entry.group, name)
            except Exception as error:
                reason = f"cannot be imported: {_line(error)}"
                raise RegistryError(f"{self.kind} {name!r} ({entry}) {reason}") from error
            self._accept(entry, problem)
            self._classes[name], self._cards[name] = found, cast(Any, getattr(found, "card", None))
            if self._cards[name]:
                self._index.put(entry, self._cards[name])
        return self._classes[name]

    def card(self, name: str) -> C:
        """Return a card, or raise as :meth:`get`; the module is imported only if it or what it imports changed."""
        if name not in self._cards:
            entry = self.entry(name)
            known = self._index.card(entry)
            if known is None:
                self.get(name)
            else:
                self._accept(entry, _unknown_anatomy(known))
                self._cards[name] = cast(C, known)
        return self._cards[name]

    def outline(self, name: str) -> Outline:
        """Return what a list says beside the card, from the index where it can be, or raise as :meth:`get`."""
        from .outline import Outline, outline_of

        entry = self.entry(name)
        stored: Any = self._index.fact(entry, "outline")
        try:
            return Outline(**stored)
        except TypeError:  # nothing stored, or the fields of another version
            found = outline_of(cast(Any, self.get(name)))
            self._index.put(entry, self._cards[name], outline=asdict(found))
            return found

    def parameters(self, name: str) -> dict[str, str]:
        """Return how many parameters the networks of a method have by profile, from the index where it can be.

        Counting brings torch, which takes seconds; why they cannot be counted is not stored.

        Raises:
            RegistryError: as :meth:`get`.
        """
        from .sizes import COUNTED, parameters

        entry, cls = self.entry(name), cast(Any, self.get(name))
        found: dict[str, str] = dict(self._index.fact(entry, "parameters") or {})
        if found.keys() != set(COUNTED):
            found = {profile: parameters(cls, profile) for profile in COUNTED}
            if not any(text.startswith("unknown") for text in found.values()):
                self._index.put(entry, self._cards[name], parameters=found)
        return found

    def is_topline(self, name: str) -> bool:
        """Tell a method that learns from lesion labels, which no ``all`` contains, from the others."""
        return any(entry.group.endswith(TOPLINES) for entry in self._entries.get(name, ()))

    def lend(self, name: str, cls: type[T]) -> None:
        """Register a checked class that no package brings, until :meth:`withdraw`; the index hears nothing of it."""
        card, group = cast(Any, cls).card, self.group
        self._entries[name] = [Entry(name, package.target_of(cls), "a class of this process", "", group)]
        self._classes[name], self._cards[name] = cls, card

    def withdraw(self, name: str) -> None:
        """Forget what :meth:`lend` registered."""
        for known in (self._entries, self._classes, self._cards):
            known.pop(name, None)

    def write_index(self) -> None:
        """Keep on disk what was learned about the classes, so that the next process need not import them."""
        self._index.write()

    def cards(self) -> dict[str, C]:
        """Return the cards of every usable name: what learns nothing first, top lines last, then by name."""
        self._read(self.names())
        return {name: self._cards[name] for name in sorted(self._cards, key=self._rank)}

    def broken(self) -> dict[str, str]:
        """Return the names that cannot be used, each with the reason on one line."""
        self._read(self.names())
        return dict(self._broken)

    def select(self, wanted: str | Iterable[str]) -> list[str]:
        """Turn names, comma lists and wildcards (``"vae*,draem"``, ``"all"``) into names in the order of :meth:`cards`.

        Wildcards leave out what is broken; a broken name asked for by itself is an error. ``all``, like any pattern
        without a letter, leaves out the top lines.

        Raises:
            RegistryError: a part matches nothing, or names something that cannot be used.
        """
        texts = [wanted] if isinstance(wanted, str) else list(wanted)
        parts = [p.strip() for text in texts for p in text.split(",") if p.strip()]
        if not parts:
            raise RegistryError(f"no {self.kind} given; choose from {', '.join(self.names())}, or 'all'")
        chosen = set().union(*map(self._matches, parts))
        return sorted(chosen, key=self._rank)

    def _matches(self, part: str) -> set[str]:
        if part in self.names():
            self.card(part)
            return {part}
        pattern = "*" if part == "all" else part
        apart = not any(map(str.isalnum, pattern)) and not self.group.endswith(TOPLINES)
        hits = {n for n in self.names() if fnmatchcase(n, pattern) and not (apart and self.is_topline(n))}
        for name in hits:
            if len(self._entries[name]) > 1:
                self.entry(name)
        self._read(hits)
        usable = hits & self._cards.keys()
        if not usable:
            reasons = "; ".join(f"{n}: {self._broken[n]}" for n in sorted(hits))
            raise RegistryError(f"{part!r} matches only broken plug-ins: {reasons}" if hits else self._unknown(part))
        return usable

    def _unknown(self, name: str) -> str:
        names = self.names()
        plain = name.strip("*?").lower().replace("_", "-").replace(" ", "-")
        near = difflib.get_close_matches(plain, names, n=3, cutoff=0.6) or [n for n in names if plain and plain in n]
        hint = f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else f"known: {', '.join(names) or 'none'}"
        return f"unknown {self.kind} {name!r}; {hint}"

    def _rank(self, name: str) -> tuple[bool, bool, str]:
        return self.is_topline(name), not getattr(self._cards[name], "trivial", False), name

    def _read(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._cards or name in self._broken:
                continue
            try:
                self.card(name)
            except RegistryError as error:
                self._broken[name] = str(error)

    def _accept(self, entry: Entry, problem: str | None) -> None:
        if problem:
            raise RegistryError(f"{self.kind} {entry.name!r} ({entry}): {problem}")


@cache
def _registry(kind: str, *groups: str) -> Registry[Any, Any]:
    named = [f"{PACKAGE}.{group}" for group in groups]
    return Registry(named[0], kind, [point for group in named for point in entry_points(group=group)])


def methods() -> Registry[Method, MethodCard]:
    """Return the registered methods (group ``uasbench.methods``)."""
    return _registry("method", "methods")


def datasets() -> Registry[Dataset, DatasetCard]:
    """Return the registered data sets (group ``uasbench.datasets``)."""
    return _registry("data set", "datasets")


def toplines() -> Registry[Method, MethodCard]:
    """Return the supervised top lines (group ``uasbench.toplines``), which ``all`` never contains."""
    return _registry("top line", "toplines")


def executors() -> Registry[Any, None]:
    """Return the executors (group ``uasbench.executors``), which have no card."""
    return _registry("executor", "executors")


def runnable() -> Registry[Method, MethodCard]:
    """Return methods and top lines together: whatever ``--methods`` may name."""
    return _registry("method", "methods", "toplines")


def check_class(found: Any) -> type[Method]:
    """Return a method class that is not registered (yet), after the checks that registered ones pass.

    Raises:
        RegistryError: not a subclass of Method, or without a card.
    """
    card = getattr(found, "card", None)
    group = TOPLINES if getattr(card, "uses", "healthy") == "labels" else ".methods"
    if problem := _problem(found, f"{PACKAGE}{group}", getattr(card, "name", "my-method")):
        raise RegistryError(f"{getattr(found, '__qualname__', found)} {problem}")
    return found


def refresh() -> None:
    """Forget what was found, for processes that install a package while they run."""
    anatomy.refresh()
    _registry.cache_clear()


def _problem(found: Any, group: str, name: str) -> str | None:
    if group.endswith(".executors"):
        return None if isinstance(found, type) else "is not a class"
    if group.endswith(".datasets"):
        from ...datasets.dataset import Dataset as Base
        from ...datasets.dataset import DatasetCard as Card
    else:
        from ...methods.card import MethodCard as Card
        from ...methods.method import Method as Base
    if not isinstance(found, type) or not issubclass(found, Base):
        return f"is not a subclass of {PACKAGE}.{Base.__name__}; derive the class from it"
    card = getattr(found, "card", None)
    if not isinstance(card, Card):
        return f"has no card; add 'card = {Card.__name__}(name={name!r}, title=…)' to the class"
    if card.name != name:
        return f"its card is named {card.name!r} but the entry point {name!r}; give both the same name"
    uses = getattr(card, "uses", "healthy")
    if group.endswith(TOPLINES) != (uses == "labels"):
        right = "toplines" if uses == "labels" else "methods"
        return f"its card says uses={uses!r}; register it under '{PACKAGE}.{right}'"
    return _unknown_anatomy(card)


def _unknown_anatomy(card: Any) -> str | None:
    """Return what is wrong with the organs that a card names, or None; without it only measuring would notice."""
    named = [card.anatomy] if isinstance(card.anatomy, str) else card.anatomy
    try:
        for name in (*named, *getattr(card, "near_chance", ()), *getattr(card, "undertrained", ())):
            anatomy.find_anatomy(name)
    except DataError as error:
        return str(error)
    return None


def _line(error: BaseException) -> str:
    """Return an error on one line, with the place in the plug-in where it was raised."""
    if isinstance(error, EndedItselfError) and error.__cause__ is not None:
        error = error.__cause__
    text = brief(error)
    ours = ("<frozen", __file__, package.__file__, foreign.__file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    name = type(error).__name__
    return f"{name}: {text}{place}" if text != name else f"{name}{place}"
