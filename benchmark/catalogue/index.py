"""The cards of registered classes on disk, so that listing imports neither a method nor torch."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...common import package, source_hash
from ...common.atomic import DiskError, write_text
from ...common.json_files import read_json
from ..locations import cache_root

VERSION = 3


@dataclass(frozen=True)
class Entry:
    """One registered name: ``target`` is ``module:class``, ``distribution`` the package that brings it."""

    name: str
    target: str
    distribution: str
    version: str
    group: str

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def built_in(self) -> bool:
        return package.is_own(self.target)

    def __str__(self) -> str:
        return f"{self.target} from {self.distribution} {self.version}"


class CardIndex:
    """A JSON file from an entry point to its card, valid while the sources behind the card are unchanged.

    The sources are the class's module and all that it imports from its own package, since a card may be made elsewhere.
    A damaged or unwritable file costs time and nothing else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_root() / "cards.json" if path is None else path
        self._stored = self._load()
        self._digests: dict[str, str | None] = {}
        self._changed = False

    def card(self, entry: Entry) -> Any | None:
        """Return the stored card, or None where there is none or a source has changed."""
        try:
            return _card(entry.group, _tuples(self._valid(entry).get("card")))
        except (TypeError, ValueError):
            return None

    def fact(self, entry: Entry, name: str) -> Any | None:
        """Return what else is stored about a class, or None as :meth:`card`."""
        return _tuples(self._valid(entry).get(name))

    def put(self, entry: Entry, card: Any, **facts: Any) -> None:
        """Remember a card and facts about its class; a card that JSON cannot hold, or without a source, is left out."""
        try:
            modules = (entry.module, type(card).__module__)
            files = {str(f) for module in modules for f in source_hash.closure_files(module).values()}
            known = {f.name for f in fields(_card_class(entry.group))}
            plain = json.loads(json.dumps({k: v for k, v in asdict(card).items() if k in known}))
        except (source_hash.SourceError, TypeError, ValueError):
            return
        before = self._valid(entry)
        new = before | {"files": {f: self._digest(f) for f in files}, "card": plain}
        new |= json.loads(json.dumps(facts))
        if new != before:
            self._stored[_key(entry)] = new
            self._changed = True

    def write(self) -> None:
        """Store the index atomically where it changed."""
        if self._changed:
            with suppress(OSError, DiskError):
                write_text(self.path, json.dumps({"version": VERSION, "entries": self._stored}))
                self._changed = False

    def _valid(self, entry: Entry) -> dict[str, Any]:
        """Return what is stored, or nothing where a source has changed."""
        stored = self._stored.get(_key(entry), {})
        files = stored.get("files", {})
        fresh = str(source_hash.locate(entry.module)) in files and all(self._digest(f) == d for f, d in files.items())
        return stored if fresh else {}

    def _load(self) -> dict[str, Any]:
        try:
            stored = read_json(self.path)
            entries = stored["entries"].items() if stored["version"] == VERSION else ()
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}
        return {key: e for key, e in entries if isinstance(e, dict) and isinstance(e.get("files"), dict)}

    def _digest(self, path: str) -> str | None:
        if path not in self._digests:
            try:
                self._digests[path] = source_hash.source_file_digest(Path(path))
            except OSError:
                self._digests[path] = None
        return self._digests[path]


def _key(entry: Entry) -> str:
    return f"{entry.group} {entry.name} = {entry.target}"


def _card_class(group: str) -> Any:
    if group.endswith(".datasets"):
        from ...datasets.dataset import DatasetCard as Card
    else:
        from ...methods.card import MethodCard as Card
    return Card


def _card(group: str, plain: dict[str, Any]) -> Any:
    """Return the card that was stored as plain values."""
    from ...methods.pretraining import Pretraining

    seen = plain.get("pretraining") if isinstance(plain, dict) else None
    return _card_class(group)(**plain | ({} if seen is None else {"pretraining": Pretraining(**seen)}))


def _tuples(value: Any) -> Any:
    """Turn lists into the tuples that they were before JSON; cards and outlines hold no lists."""
    if isinstance(value, dict):
        return {key: _tuples(v) for key, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
