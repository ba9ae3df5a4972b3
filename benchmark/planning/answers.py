"""What a method says about itself when a run is planned: asked in one place, and checked before it is used."""

import json
from dataclasses import asdict
from numbers import Integral
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ...common.errors import UasbenchError, shortened
from ...datasets.case import Region
from ...datasets.views.slice_geometry import ViewError
from ...datasets.views.slice_view import View
from ...datasets.views.volume_view import AnyView, VolumeView, check_view
from ...methods.config import by_stage
from ...methods.method import Method
from ...methods.pretraining import Pretraining

MOST_MEMBERS = 100
Settings = dict[str, Any]


class AnswerError(UasbenchError):
    """A method says something about itself that cannot be used."""


def view_of(method: Method) -> AnyView | None:
    """Return the view of a method.

    Raises:
        AnswerError: it is no view, or none that can be computed of any scan.
    """
    view = method.view
    if view is None:
        return None
    kind = next((kind for kind in (View, VolumeView) if isinstance(view, kind)), None)
    if kind is None:
        raise AnswerError(f"its view is {_shown(view)}; return a View, a VolumeView or None")
    for field, hint in get_type_hints(kind).items():
        try:
            TypeAdapter(hint).validate_python(getattr(view, field), strict=True)
        except ValidationError as error:
            wrong = f"its view has {field}={_shown(getattr(view, field))}"
            raise AnswerError(f"{wrong}: {error.errors()[0]['msg'].lower()}") from error
    try:
        hash(view)
        check_view(view)
    except (TypeError, ViewError) as error:
        raise AnswerError(f"its view cannot be used: {shortened(str(error))}") from error
    return view


def members_of(method: Method) -> tuple[int, ...] | None:
    """Return which members of an ensemble are trained, None for one plain training.

    Raises:
        AnswerError: neither a number of members nor a tuple of different ones.
    """
    value: Any = method.members
    if value is None:
        return None
    members: Any = tuple(range(value)) if _whole(value, 1, MOST_MEMBERS) else value
    listed = isinstance(members, tuple | list) and 1 <= len(members) <= MOST_MEMBERS
    if not listed or not all(_whole(member, 0) for member in members) or len(set(members)) < len(members):
        raise AnswerError(
            f"its members is {_shown(value)}; return None, a number from 1 to {MOST_MEMBERS}, or a tuple of different "
            "members, counted from 0"
        )
    return tuple(map(int, members))


def min_patients_of(method: Method) -> int:
    """Return the fewest healthy patients that a method learns from.

    Raises:
        AnswerError: it is no number of patients.
    """
    value = method.min_patients
    if not _whole(value, 0):
        raise AnswerError(f"its min_patients is {_shown(value)}; return a whole number, 1 or more")
    return int(value)


def region_of(method: Method) -> Region:
    """Return where the map of a method is measured.

    Raises:
        AnswerError: there is no such region.
    """
    if method.region not in get_args(Region):
        raise AnswerError(f"its region is {_shown(method.region)}; return {' or '.join(get_args(Region))}")
    return method.region


def pretraining_of(method: Method) -> Pretraining:
    """Return what the weights of a method were made of.

    Raises:
        AnswerError: it is no such description.
    """
    value: Any = method.pretraining
    if not isinstance(value, Pretraining):
        raise AnswerError(f"its pretraining is {_shown(value)}; return a Pretraining")
    return value


def requirements_of(cls: type[Method]) -> tuple[str, ...]:
    """Return the packages that a class requires; a text is one package.

    Raises:
        AnswerError: they are no names.
    """
    value: Any = cls.requires
    packages = (value,) if isinstance(value, str) else value
    named = isinstance(packages, tuple | list) and all(isinstance(name, str) and name.strip() for name in packages)
    if not named:
        raise AnswerError(f"its requires is {_shown(value)}; give a tuple with the names of packages")
    return tuple(packages)


def refusal_of(method: Method) -> str | None:
    """Return why a method declines, as one line, or None."""
    reason = method.skip()
    return shortened(str(reason), 1000) if reason else None


def identity_of(method: Method) -> str:
    """Return what changes a fit beside source and settings.

    Raises:
        AnswerError: it is no text, and what it is may differ from process to process.
    """
    value = method.extra_identity()
    if not isinstance(value, str):
        raise AnswerError(f"its extra_identity() returned {_shown(value)}; return text")
    return value


def settings_of(config: Any) -> tuple[Settings, Settings, Settings]:
    """Return all settings, those of a fit and those of scoring, as a record and a hash hold them.

    Raises:
        AnswerError: they cannot be written down.
    """
    try:
        whole, fit, score = (json.loads(json.dumps(dict(part))) for part in (asdict(config), *by_stage(config)))
    except (TypeError, ValueError, RecursionError) as error:
        raise AnswerError(f"its settings cannot be written to a record: {shortened(str(error))}") from error
    return whole, fit, score


def _whole(value: Any, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def _shown(value: Any) -> str:
    return shortened(repr(value), 60)
