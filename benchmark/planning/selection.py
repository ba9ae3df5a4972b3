"""Which methods run on a task: patterns, variants, settings, and who declines with which reason."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ...common.errors import DataError, UasbenchError, did_you_mean, shortened, summary
from ...common.foreign import contained
from ...common.package import import_target, target_of
from ...common.rehearsal import rehearse_class
from ...common.source_hash import closure_hash
from ...datasets.case import Region
from ...datasets.views.volume_view import AnyView
from ...methods.card import MethodCard
from ...methods.config import ConfigError, in_force, resolve
from ...methods.method import Method
from ...methods.pretraining import NONE, Level, Pretraining
from ..catalogue.outline import CONSTRUCTION_S, missing_packages, time_limit
from ..catalogue.registry import Registry
from ..runs.records import MethodInfo, Skip
from ..stages.fit import MethodSpec
from . import answers
from .options import OptionError, RunOptions

IDENTITY_S = 3600.0
"""How long a plug-in may look for its weights, which may have to be downloaded."""


@dataclass(frozen=True)
class Candidate:
    """A configuration of a method that will run: a row of the tables.

    ``training`` says how a top line learns from labels (``SupervisedMethod.training``); None for every other method.
    """

    label: str
    card: MethodCard
    spec: MethodSpec
    config: dict[str, Any]
    fit_config: dict[str, Any]
    score_config: dict[str, Any]
    view: AnyView | None
    members: tuple[int, ...] | None = None
    region: Region = "roi"
    min_patients: int = 1
    packages: tuple[str, ...] = ()
    training: str | None = None
    extra_identity: str = ""
    pretraining: Pretraining = NONE

    def info(self, anatomy: str, overlap: Level = "none") -> MethodInfo:
        """Return what a record says of the method on an organ, and how much of the test set its weights have seen."""
        of_the_row = {"min_seeds", "near_chance", "undertrained", "region", "overlap", "pretraining"}
        card, names = self.card, MethodInfo.model_fields.keys() - of_the_row
        return MethodInfo(
            **{name: getattr(card, name) for name in names},
            min_seeds=1 if card.deterministic or card.trivial else card.min_seeds,
            near_chance=anatomy in card.near_chance,
            undertrained=anatomy in card.undertrained,
            region=self.region,
            pretraining=str(self.pretraining),
            overlap=overlap,
        )


@dataclass
class Selection:
    """Who runs on a task, who declined, and whose code broke before anything was computed (label and reason)."""

    candidates: list[Candidate] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)


def select(options: RunOptions, anatomy: str, dataset: str, registry: Registry) -> Selection:
    """Resolve ``--methods``, ``--set`` and ``--variant`` for one task.

    Raises:
        OptionError: a setting names a method that does not run, or has an unknown key or a value of the wrong type.
    """
    names = registry.select(options.methods) if options.methods.strip() else []
    wanted: list[tuple[str, str, dict[str, Any]]] = [(n, n, options.settings.get(n, {})) for n in names]
    for variant in options.variants:
        registry.get(variant.method)
        settings = {**options.settings.get(variant.method, {}), **variant.settings}
        wanted.append((f"{variant.method}@{variant.label}", variant.method, settings))
    running = sorted({method for _, method, _ in wanted})
    for name in options.settings:
        if name not in running:
            hint = did_you_mean(name, running).replace("; d", " D", 1)
            raise OptionError(f"--set {name}.…: {name!r} is not among the methods of this run.{hint}")
    chosen = Selection()
    if options.methods.strip() == "all":
        broken = {n: why for n, why in registry.broken().items() if not registry.is_topline(n)}
        chosen.skipped += [Skip(method=n, dataset=dataset, reason=why) for n, why in broken.items()]
    for label, name, settings in wanted:
        try:
            with contained():
                cls = registry.get(name)
                asked = (options.profile, anatomy, settings)
                _rehearse(cls, *asked)
                with time_limit():
                    found = _candidate(cls, label, *asked)
                if not isinstance(found, str):
                    candidate, method = found
                    try:  # weights may have to be downloaded, which the hub's client shows
                        chosen.candidates.append(replace(candidate, extra_identity=answers.identity_of(method)))
                    except DataError as error:
                        found = shortened(str(error), 1000)
        except OptionError:
            raise
        except Exception as error:
            chosen.broken.append((label, said(error)))
            continue
        if isinstance(found, str):
            chosen.skipped.append(Skip(method=label, dataset=dataset, reason=found))
    return chosen


def said(error: Exception) -> str:
    """Return an error in a method's own code as one line for its row."""
    return shortened(str(error), 1000) if isinstance(error, UasbenchError) else summary(error)


def _rehearse(cls: type[Method], profile: str, anatomy: str, settings: Mapping[str, Any]) -> None:
    """Ask a plug-in in another process what it will be asked in this one."""
    plain = json.loads(json.dumps(dict(settings), default=str))
    rehearse_class(cls, CONSTRUCTION_S, ask, profile, anatomy, plain, False)
    if cls.extra_identity is not Method.extra_identity:
        rehearse_class(cls, IDENTITY_S, ask, profile, anatomy, plain, True)


def ask(target: str, profile: str, anatomy: str, settings: Mapping[str, Any], identity: bool) -> None:
    """Have a class say all that its configuration is made of, or what it may have to download something for as well."""
    found = _candidate(import_target(target), "", profile, anatomy, settings)
    if identity and not isinstance(found, str):
        answers.identity_of(found[1])


def _abbreviated(settings: Mapping[str, Any], config: type) -> str:
    """Return a hint where an unknown setting spells out a known one.

    >>> from ...methods.config import SliceConfig
    >>> _abbreviated({"view_size": 1}, SliceConfig), _abbreviated({"field_of_vew": 1}, SliceConfig)
    ("; did you mean 'size'?", '')
    """
    known = {f.name for f in fields(config)}
    for key in settings.keys() - known:
        words = key.split("_")
        if len(words) > 1 and (found := known & {"".join(word[:1] for word in words), *words}):
            return f"; did you mean {min(found)!r}?"
    return ""


def _candidate(
    cls: type[Method], label: str, profile: str, anatomy: str, settings: Mapping[str, Any]
) -> tuple[Candidate, Method] | str:
    """Return a configuration and its method, not yet built, or why it does not run."""
    if anatomy not in cls.card.anatomy:
        return f"made for {', '.join(cls.card.anatomy)}, not for {anatomy}"
    packages = answers.requirements_of(cls)
    if missing := missing_packages(packages):
        return missing
    try:
        config = resolve(cls.Config, profile, anatomy, settings)
    except ConfigError as error:
        if not settings:
            raise
        raise OptionError(f"{label}: {error}{_abbreviated(settings, cls.Config)}") from error
    method = cls(config)
    if reason := answers.refusal_of(method):
        return reason
    whole, fit_config, score_config = answers.settings_of(config)
    closure_hash(cls.__module__)  # every address needs it; a module without a source is this method's trouble alone
    candidate = Candidate(
        label=label,
        card=cls.card,
        spec=MethodSpec(
            target=target_of(cls), profile=in_force(cls.Config, profile), anatomy=anatomy, settings=dict(settings)
        ),
        config=whole,
        fit_config=fit_config,
        score_config=score_config,
        view=answers.view_of(method),
        members=answers.members_of(method),
        region=answers.region_of(method),
        min_patients=answers.min_patients_of(method),
        packages=packages,
        pretraining=answers.pretraining_of(method),
        training=getattr(cls, "training", "cross-fit") if cls.card.uses == "labels" else None,
    )
    return candidate, method
