"""The package's name, its folder (the repository's root in a checkout), and classes by the names that tasks give."""

from importlib import import_module
from pathlib import Path
from typing import Any

NAME = __name__.partition(".")[0]
ROOT = Path(__file__).resolve().parents[1]


def target_of(cls: type) -> str:
    """Return ``module:attribute`` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def is_own(target: str) -> bool:
    """Tell whether ``module:attribute`` belongs to the benchmark and not to a plug-in."""
    return target.partition(":")[0].partition(".")[0] == NAME


def import_target(target: str) -> Any:
    """Import ``module:attribute``, the form in which entry points name a class."""
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
