"""Which methods run on a task: patterns, variants, settings, and who declines with which reason."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..datasets.view import View
from ..methods.card import MethodCard
from ..methods.config import ConfigError, by_stage, resolve
from .options import OptionError, RunOptions, jsonable
from .records import MethodInfo, Skip
from .registry import Registry
from .stage_fit import MethodSpec


@dataclass(frozen=True)
class Candidate:
    """A configuration of a method that will run: a row of the tables."""

    label: str
    card: MethodCard
    spec: MethodSpec
    config: dict[str, Any]
    fit_config: dict[str, Any]
    score_config: dict[str, Any]
    view: View | None

    @property
    def module(self) -> str:
        """Module that defines the method."""
        return self.spec.target.partition(":")[0]

    @property
    def trainer(self) -> str:
        """Name under which the method trains; methods that share it share fits."""
        return self.card.trainer or self.card.name

    def info(self) -> MethodInfo:
        """Return what records keep of the card."""
        card = self.card
        return MethodInfo(
            name=card.name,
            title=card.title,
            family=card.family,
            supervision=card.supervision,
            uses=card.uses,
            deterministic=card.deterministic,
            trivial=card.trivial,
            year=card.year,
        )


def select(options: RunOptions, anatomy: str, dataset: str, registry: Registry) -> tuple[list[Candidate], list[Skip]]:
    """Resolve ``--methods``, ``--set`` and ``--variant`` for one task.

    Returns:
        The configurations that run, in table order, and the methods that declined.

    Raises:
        OptionError: a setting names a method that does not run, or has an unknown key or a value of the wrong type.
    """
    names = registry.select(options.methods) if options.methods.strip() else []
    everything = options.methods.strip() == "all"
    wanted: list[tuple[str, str, dict[str, Any]]] = [(n, n, options.settings.get(n, {})) for n in names]
    for variant in options.variants:
        registry.get(variant.method)
        settings = {**options.settings.get(variant.method, {}), **variant.settings}
        wanted.append((f"{variant.method}@{variant.label}", variant.method, settings))
    _check_settings(options.settings, {method for _, method, _ in wanted})
    candidates, skipped = [], []
    broken = registry.broken() if everything else {}
    skipped += [Skip(method=n, dataset=dataset, reason=reason) for n, reason in broken.items()]
    for label, name, settings in wanted:
        if name in broken:
            continue
        found = _candidate(options, registry, label, name, settings, anatomy)
        if isinstance(found, Candidate):
            candidates.append(found)
        else:
            skipped.append(Skip(method=label, dataset=dataset, reason=found))
    return candidates, skipped


def _candidate(
    options: RunOptions, registry: Registry, label: str, name: str, settings: Mapping[str, Any], anatomy: str
) -> Candidate | str:
    cls = registry.get(name)
    if anatomy not in cls.card.anatomy:
        return f"made for {', '.join(cls.card.anatomy)}, not for {anatomy}"
    missing = [package for package in cls.requires if importlib.util.find_spec(package) is None]
    if missing:
        return f"needs {', '.join(missing)}: pip install {' '.join(missing)}"
    try:
        config = resolve(cls.Config, options.profile, anatomy, settings)
    except ConfigError as error:
        raise OptionError(f"{label}: {error}") from error
    method = cls(config)
    reason = method.skip()
    if reason:
        return reason
    fit_config, score_config = (jsonable(part) for part in by_stage(config))
    spec = MethodSpec(f"{cls.__module__}:{cls.__qualname__}", options.profile, anatomy, dict(settings))
    return Candidate(label, cls.card, spec, jsonable(asdict(config)), fit_config, score_config, method.view)


def _check_settings(settings: Mapping[str, Any], chosen: set[str]) -> None:
    for name in settings:
        if name not in chosen:
            near = difflib.get_close_matches(name, sorted(chosen), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"--set {name}.…: {name!r} is not among the methods of this run.{hint}")
