"""Method classes that no package brings: registered for one call, under a name from which workers import them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.atomic import write_text
from ...common.package import NAME, import_target, target_of
from ...common.source_hash import closure_files, locate
from ...methods.method import Method
from ..locations import cache_root
from ..runs.folder import RunFolder
from .class_source import MAIN, ClassSourceError, digest_of, module_text
from .registry import check_class, methods, runnable, toplines

FOLDER, PATHS = "classes", "PYTHONPATH"


@dataclass(frozen=True)
class Given:
    """The methods of a call: what names them, and the classes among them by name."""

    names: str
    classes: dict[str, type[Method]]

    def keep(self, folder: RunFolder) -> None:
        """Write the source of each class that no package brings into a run, and into ``run.json`` where it lies."""
        known = dict(folder.info().get("sources", {}))
        for name, cls in self.classes.items():
            files = closure_files(cls.__module__).items()
            own = {module: path for module, path in files if module.partition(".")[0] != NAME}
            kept = {folder.sources_dir / name / f"{module}.py": path for module, path in sorted(own.items())}
            folder.ledger.add(folder.sources_dir / name, *kept)
            for path, source in kept.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, source.read_text(encoding="utf-8"))
            files = [path.relative_to(folder.path).as_posix() for path in kept]
            known[name] = {"class": target_of(cls), "files": files}
        if self.classes:
            folder.update_info(sources=known)


@contextmanager
def given_methods(given: str | type | Iterable[str | type], cache: Path | None = None) -> Iterator[Given]:
    """Register the classes among ``given`` while the block runs, and turn all of it into names.

    A class of an importable module is imported by its name. The source of one that a notebook, a console or a script
    defines is written to a module below the cache (:mod:`.class_source`), whose name follows from what it does: the
    same class has the same address in every session.

    Raises:
        ClassSourceError: a class cannot be imported by other processes; the message says why.
        RegistryError: no method class, without a card, or its name is that of an installed method.
    """
    parts = [given] if isinstance(given, str | type) else list(given)
    names: list[str] = []
    added: dict[str, type[Method]] = {}
    searched, searched_by_others = list(sys.path), os.environ.get(PATHS)
    try:
        for part in parts:
            if isinstance(part, str):
                names.append(part)
                continue
            if not isinstance(part, type):
                raise ClassSourceError(f"{part!r:.60} is neither the name of a method nor a class; give the class")
            name = check_class(part).card.name
            names.append(name)
            if name in added:
                raise ClassSourceError(f"two of the classes have a card named {name!r}; give them different names")
            if not _installed(name, part):
                added[name] = _importable(part, cache)
                for registry in _registries(added[name]):
                    registry.lend(name, added[name])
        yield Given(",".join(names), added)
    finally:
        for name, cls in added.items():
            for registry in _registries(cls):
                registry.withdraw(name)
        sys.path[:] = [name for name in sys.path if name in searched]
        os.environ.pop(PATHS, None)
        if searched_by_others is not None:
            os.environ[PATHS] = searched_by_others


def _registries(cls: type[Method]) -> list[Any]:
    return [runnable(), toplines() if cls.card.uses == "labels" else methods()]


def _installed(name: str, cls: type) -> bool:
    """Tell whether a class is that of an installed package.

    Raises:
        ClassSourceError: its name is, and the class is another.
    """
    if name not in runnable().names():
        return False
    entry = runnable().entry(name)
    if entry.target != target_of(cls):
        raise ClassSourceError(
            f"{cls.__name__} has a card named {name!r}, which is the method {entry}; give the card another name"
        )
    return True


def _importable(cls: type[Method], cache: Path | None) -> type[Method]:
    """Return the class as other processes find it, after making sure that they do."""
    if cls.__module__ == MAIN:
        text = module_text(cls)
        module = f"uasbench_class_{cls.card.name.replace('-', '_')}_{digest_of(text)}"
        folder = cache_root(cache) / FOLDER
        write_text(folder / f"{module}.py", text)
        target = f"{module}:{cls.__qualname__}"
    else:
        if "<locals>" in cls.__qualname__:
            raise ClassSourceError(
                f"{cls.__qualname__.replace('.<locals>', '')} is defined inside a function, whose variables other "
                "processes do not have; define the class by itself"
            )
        target, top = target_of(cls), cls.__module__.partition(".")[0]
        path = locate(top)
        if path is None:
            raise ClassSourceError(f"module {top!r} of {cls.__name__} has no source file, so that nobody can import it")
        folder = path.resolve().parents[1 if path.name == "__init__.py" else 0]
    _on_path(folder)
    try:
        found = import_target(target)
    except Exception as error:
        raise ClassSourceError(f"{cls.__name__} cannot be imported as {target}: {error!r:.200}") from error
    if cls.__module__ != MAIN and found is not cls:
        raise ClassSourceError(f"{target} is another class than the one given; import the module again")
    return check_class(found)


def _on_path(folder: Path) -> None:
    """Have this process and those that executors start search a folder, and the working directory where this one does.

    A worker has another working directory, and so needs the name of this one.
    """
    wanted = [os.fspath(folder), *([os.fspath(Path.cwd())] if "" in sys.path else [])]
    sys.path += [name for name in dict.fromkeys(wanted) if name not in sys.path]
    others = os.environ.get(PATHS, "").split(os.pathsep)
    os.environ[PATHS] = os.pathsep.join(filter(None, dict.fromkeys([*others, *wanted])))
    importlib.invalidate_caches()
