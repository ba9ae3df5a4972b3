"""Method settings: a frozen dataclass, its profiles, and ``--set`` values turned into field types."""

import ast
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from ..common.errors import UasbenchError, did_you_mean
from ..datasets.views.slice_view import View

Profile = Literal["smoke", "quick", "standard", "paper"]
PROFILES = get_args(Profile)
C = TypeVar("C", bound="Config")


class ConfigError(UasbenchError):
    """A setting has an unknown key or a value of the wrong type."""


@dataclass(frozen=True)
class Config:
    """Base of a method's settings; field defaults are the ``paper`` profile.

    ``profiles`` and ``anatomies`` map a name to the fields it changes. A field belongs to fit unless its metadata says
    ``{"stage": "score"}``; changing a score field never retrains.
    """

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    anatomies: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def profiles_with(cls, **changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the profiles with some fields changed, by profile: what a subclass declares."""
        return {name: {**cls.profiles.get(name, {}), **changes.get(name, {})} for name in {**cls.profiles, **changes}}


SOFT_ORGANS: Mapping[str, Mapping[str, Any]] = {
    "kidney": {"window": (-100.0, 300.0)},
    "pancreas": {"window": (-100.0, 240.0)},
}
"""Windows of organs whose other settings are those of the liver: as in ``anatomies.yaml``, with the sources there."""


@dataclass(frozen=True)
class SliceConfig(Config):
    """Settings of a method on axial slices, masked to the organ.

    Attributes:
        size: side of the view in pixels.
        window: HU range mapped to [0, 1].
        field_of_view: side in mm of the square around the organ that slices are cut to; none shows them whole.
    """

    size: int = 256
    window: tuple[float, float] = (-200.0, 250.0)
    field_of_view: float | None = None

    anatomies: ClassVar[Mapping[str, Mapping[str, Any]]] = {"lung": {"window": (-800.0, 100.0)}, **SOFT_ORGANS}

    @property
    def view(self) -> View:
        """Masked slices with fixed grey bounds, the same in training and test."""
        return View(size=self.size, window=self.window, field_of_view=self.field_of_view)


# At 128² a pixel of a whole slice is 3 mm wide or more, at 2 mm about as wide as in the papers.
STANDARD_SLICES: Mapping[str, Any] = {"size": 128, "field_of_view": 256.0}


def in_force(cls: type[Config], profile: str) -> str:
    """Return the profile whose settings a config takes.

    It is the one asked for, but where a class declares ``quick`` and no ``standard``, ``standard`` is ``quick`` too:
    the settings of the ``paper`` profile, which stand behind every other gap, would train for days.
    """
    return "quick" if profile == "standard" and "quick" in cls.profiles and profile not in cls.profiles else profile


def complete(config: Config, values: Mapping[str, Any]) -> None:
    """Give the settings that are None these values; for ``__post_init__``."""
    for name, value in values.items():
        if getattr(config, name) is None:
            object.__setattr__(config, name, value)


def resolve(
    cls: type[C], profile: str = "paper", anatomy: str | None = None, settings: Mapping[str, Any] | None = None
) -> C:
    """Build a config: defaults, then the profile, then the anatomy, then explicit settings.

    Raises:
        ConfigError: unknown profile or key, value of the wrong type.
    """
    if profile not in PROFILES:
        raise ConfigError(f"unknown profile {profile!r}; choose one of {', '.join(PROFILES)}")
    known = {f.name: f for f in fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {**cls.profiles.get(in_force(cls, profile), {}), **cls.anatomies.get(anatomy or "", {})}
    for key, value in (settings or {}).items():
        if key not in known:
            hint = did_you_mean(key, known) or "."
            raise ConfigError(f"unknown setting {key!r}{hint} Known: {', '.join(known) or 'none'}")
        values[key] = coerce(key, value, hints[key])
    return cls(**values)


def by_stage(config: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a config into its fit fields and its score fields."""
    if not is_dataclass(config) or isinstance(config, type):
        return {}, {}
    values = asdict(config)
    score = {f.name for f in fields(config) if f.metadata.get("stage") == "score"}
    return {k: v for k, v in values.items() if k not in score}, {k: v for k, v in values.items() if k in score}


def coerce(key: str, value: Any, hint: Any) -> Any:
    """Turn command-line text into the type of a field; other values are checked and passed through.

    >>> coerce("lr", "1e-4", float), coerce("window", "-200,250", tuple[float, float]), coerce("p", "none", int | None)
    (0.0001, (-200.0, 250.0), None)
    """
    if get_origin(hint) in (typing.Union, types.UnionType):
        options = get_args(hint)
        if type(None) in options and (value is None or str(value).lower() == "none"):
            return None
        for option in (o for o in options if o is not type(None)):
            try:
                return coerce(key, value, option)
            except ConfigError:
                continue
        raise ConfigError(f"{key}={value!r}: expected {hint}")
    if get_origin(hint) is Literal:
        for option in get_args(hint):
            if value == option or str(value) == str(option):
                return option
        raise ConfigError(f"{key}={value!r}: choose one of {', '.join(map(str, get_args(hint)))}")
    if get_origin(hint) is tuple:
        items = (
            [v.strip() for v in value.strip("()[] ").split(",") if v.strip()] if isinstance(value, str) else list(value)
        )
        kinds = get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            kinds = (kinds[0],) * len(items)
        if len(kinds) != len(items):
            raise ConfigError(f"{key}={value!r}: expected {len(kinds)} values")
        return tuple(coerce(key, item, kind) for item, kind in zip(items, kinds, strict=True))
    return _scalar(key, value, hint)


def _scalar(key: str, value: Any, hint: Any) -> Any:
    if hint is bool:
        words = {**dict.fromkeys(("true", "on", "yes", "1"), True), **dict.fromkeys(("false", "off", "no", "0"), False)}
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise ConfigError(f"{key}={value!r}: expected on or off")
    if hint in (int, float):
        try:
            number = ast.literal_eval(value) if isinstance(value, str) else value
        except (ValueError, SyntaxError):
            number = None
        if isinstance(number, bool) or not isinstance(number, int | float) or (hint is int and number != int(number)):
            raise ConfigError(f"{key}={value!r}: expected {'a whole number' if hint is int else 'a number'}")
        return hint(number)
    if hint is str:
        return str(value)
    return value
