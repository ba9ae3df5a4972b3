"""The cards of registered classes on disk, so that listing imports neither a method nor torch."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...common import source_hash
from ...common.atomic import DiskError, write_text
from ..locations import cache_root

VERSION = 2
OUTLINE = {"dims", "packages", "asks", "declines"}


class CardIndex:
    """A JSON file from an entry point to its card, valid while the sources behind the card are unchanged.

    The sources are the class's module and all that it imports from its own package, since a card may be made elsewhere.
    A damaged or unwritable file costs time and nothing else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_root() / "cards.json" if path is None else path
        self._entries = self._load()
        self._digests: dict[str, str | None] = {}
        self._changed = False

    def get(self, group: str, name: str, target: str) -> Any | None:
        """Return the stored card, or None where there is none or a source has changed."""
        entry = self._valid(group, name, target)
        if entry is None:
            return None
        try:
            return _from_plain(group, entry["card"])
        except (KeyError, TypeError, ValueError):
            return None

    def outline(self, group: str, name: str, target: str) -> dict[str, Any] | None:
        """Return the stored outline (:class:`.outline.Outline` as plain values), or None as :meth:`get`."""
        found = (self._valid(group, name, target) or {}).get("outline")
        return found if isinstance(found, dict) and set(found) == OUTLINE else None

    def put_outline(self, group: str, name: str, target: str, outline: dict[str, Any]) -> None:
        """Remember an outline beside its card; without a card that could be stored it is left out."""
        entry = self._entries.get(_key(group, name, target))
        if isinstance(entry, dict):
            entry["outline"] = outline
            self._changed = True

    def _valid(self, group: str, name: str, target: str) -> dict[str, Any] | None:
        """Return an entry whose sources have not changed."""
        entry = self._entries.get(_key(group, name, target))
        if not isinstance(entry, dict) or not isinstance(entry.get("files"), dict):
            return None
        located = source_hash.locate(target.partition(":")[0])
        if located is None or str(located) not in entry["files"]:
            return None
        if any(self._digest(path) != digest for path, digest in entry["files"].items()):
            return None
        return entry

    def put(self, group: str, name: str, target: str, card: Any) -> None:
        """Remember a card; one that JSON cannot hold, or whose source is not found, is left out."""
        module = target.partition(":")[0]
        try:
            files = source_hash.closure_files(module).values()
            own = source_hash.closure_files(type(card).__module__).values()
            plain = json.loads(json.dumps(_to_plain(group, card)))
        except (source_hash.SourceError, TypeError, ValueError):
            return
        entry = {"files": {str(f): self._digest(str(f)) for f in (*files, *own)}, "card": plain}
        known = self._entries.get(_key(group, name, target))
        if not isinstance(known, dict) or any(known.get(k) != v for k, v in entry.items()):
            self._entries[_key(group, name, target)] = entry
            self._changed = True

    def write(self) -> None:
        """Store the index atomically where it changed."""
        if not self._changed:
            return
        with suppress(OSError, DiskError):
            write_text(self.path, json.dumps({"version": VERSION, "entries": self._entries}))
            self._changed = False

    def _load(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(stored, dict) or stored.get("version") != VERSION:
            return {}
        entries = stored.get("entries")
        return entries if isinstance(entries, dict) else {}

    def _digest(self, path: str) -> str | None:
        if path not in self._digests:
            try:
                self._digests[path] = source_hash.file_digest(Path(path))
            except OSError:
                self._digests[path] = None
        return self._digests[path]


def _key(group: str, name: str, target: str) -> str:
    return f"{group} {name} = {target}"


def _card_class(group: str) -> Any:
    if group.endswith(".datasets"):
        from ...datasets.dataset import DatasetCard

        return DatasetCard
    from ...methods.card import MethodCard

    return MethodCard


def _to_plain(group: str, card: Any) -> dict[str, Any]:
    known = {f.name for f in fields(_card_class(group))}
    return {k: v for k, v in asdict(card).items() if k in known}


def _from_plain(group: str, plain: dict[str, Any]) -> Any:
    return _card_class(group)(**{k: _tuples(v) for k, v in plain.items()})


def _tuples(value: Any) -> Any:
    """JSON has no tuples and cards have no lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
