"""The organs of the tasks: ``anatomies.yaml`` beside this file, and the entry-point group ``uasbench.anatomies``."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar

from ..common.errors import DataError, did_you_mean
from ..common.foreign import contained
from ..common.rehearsal import rehearse_import

GROUP = f"{__name__.partition('.')[0]}.anatomies"
HuRange = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """Mean HU of an organ, its bright and dark tubes and its surroundings, noise (sd), one lesion contrast per case.

    The tubes (vessels; ducts or airways) are further from the organ than the lesions, so that being bright or dark is
    no anomaly: a network without training, which sees little else, finds few lesions.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    organ: float
    bright: float
    dark: float
    outside: float
    noise: float
    lesions: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What the engine must know of an organ; all numbers in HU.

    Attributes:
        window: shown as black and white in pictures.
        median_hu: where the median inside the organ lies in a sound scan; ``bench data check`` warns beyond.
        phantom: module that writes its synthetic scans (:class:`.phantom.disk.Maker`).
        segmenter: module that finds the organ where a set has no mask of it; the file that its ``weights()`` gives, if
            any, counts in the address of prepared scans.
        tissue: of the tiny scans of ``bench check``; None where a method cannot be checked on it.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: str
    title: str
    window: HuRange
    median_hu: HuRange | None = None
    phantom: str | None = None
    segmenter: str | None = None
    tissue: Tissue | None = None

    def __post_init__(self) -> None:
        for what in ("window", "median_hu"):
            bounds = getattr(self, what)
            if bounds is not None and not (len(bounds) == 2 and bounds[0] < bounds[1]):
                raise DataError(f"anatomy {self.name!r}: {what} {bounds!r}; give two HU, the lower first")


def anatomy_names() -> list[str]:
    """Return the names of all anatomies, sorted; nothing of a plug-in is imported."""
    return sorted({*_built_in(), *_plugged_in()})


@cache
def find_anatomy(name: str) -> Anatomy:
    """Return an anatomy by name, in any process: that of a plug-in is imported here.

    Raises:
        DataError: unknown name, with the known ones; or a plug-in's entry that is no anatomy of this name.
    """
    own, targets = _built_in().get(name), sorted(_plugged_in().get(name, ()))
    if len(targets) + (own is not None) > 1:
        claims = " and ".join([*(["the benchmark"] if own else []), *targets])
        raise DataError(f"anatomy {name!r} is registered twice: {claims}; rename or uninstall one of them")
    if own is not None:
        return own
    if not targets:
        known = anatomy_names()
        raise DataError(
            f"unknown anatomy {name!r}{did_you_mean(name, known) or ';'} known: {', '.join(known)}; "
            f"another one is an Anatomy under the entry-point group {GROUP}"
        )
    try:
        with contained():
            rehearse_import(targets[0])
            found = EntryPoint(name, targets[0], GROUP).load()
    except Exception as error:
        raise DataError(f"anatomy {name!r} ({targets[0]}) cannot be imported: {error}") from error
    if not isinstance(found, Anatomy) or found.name != name:
        raise DataError(f"anatomy {name!r}: {targets[0]} is {found!r}, not an Anatomy of that name")
    return found


def refresh() -> None:
    """Forget what packages brought, for processes that install one while they run."""
    _plugged_in.cache_clear()
    find_anatomy.cache_clear()


@cache
def _plugged_in() -> dict[str, set[str]]:
    """Return name → targets; one package may stand on the path twice."""
    found: dict[str, set[str]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, set()).add(point.value)
    return found


@cache
def _built_in() -> dict[str, Anatomy]:
    """Read the file; being no Python, another entry in it trains and measures nothing again."""
    import yaml
    from pydantic import TypeAdapter

    entries = yaml.safe_load(Path(__file__).with_name("anatomies.yaml").read_text(encoding="utf-8"))
    read = TypeAdapter(Anatomy).validate_python
    return {name: read({"name": name, **entry}) for name, entry in entries.items()}
