"""What a run was asked for: the command's options as one validated object."""

import hashlib
import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from ...common.errors import UasbenchError, brief, did_you_mean, shortened
from ...methods.config import Profile
from ..experiments import Page, Variant, load
from ..refinement.prompts import Prompt, base_of

MOST_SEEDS = 1000
STAGE_LIMIT_S = {"smoke": 300.0, "quick": 1800.0, "standard": 6 * 3600.0, "paper": 7 * 86400.0}
_IN_THE_NAME = {"train", "settings", "only", "exclude", "calibration", "precision", "threads"}
_ASSIGNMENT = re.compile(r",(?=[A-Za-z_][\w.-]*=)")


class OptionError(UasbenchError):
    """An option has a value that cannot be used."""


class RunOptions(BaseModel, extra="forbid"):
    """Everything that ``bench run`` and :func:`uasbench.run` take, as values or as the texts that a user types.

    ``settings`` maps a method to its ``--set`` values. ``stage_limit_s`` is the longest a stage may take before it is
    stopped and reported as failed; None takes the profile's default. ``trials`` bounds each threshold study.
    ``reference`` is the row that paired tests compare with; None takes those that the data sets' cards name. ``keep``
    says what else than maps stays of a run: ``restorations`` are what methods make of a scan on the way to its map.
    ``page`` is that of an experiment. ``queue`` are the settings of the executor, and with ``require_same_node_kind``
    stages fail on other kinds of nodes than the first one of the run. With ``allow_overlap`` methods whose weights were
    trained on masks of the test set run, and are marked. ``refine`` adds to every row METHOD the rows METHOD+PROMPT,
    whose masks SAM draws with the weights of the file ``sam_weights``.
    With ``compiled`` the networks of trainings are compiled. Trainings and maps that a run would make and one of the
    run folders ``reuse`` holds are taken from there.
    """

    methods: str = "all"
    datasets: list[str] = Field(min_length=1)
    train: str | None = None
    data_root: Path | None = None
    phantom: bool = False
    phantom_seed: int = 0
    profile: Profile = "paper"
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    workers: Annotated[int, Field(ge=1)] | Literal["pack"] | None = None
    threads: int = Field(default=1, ge=1)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compiled: bool = False
    executor: str = "local"
    queue: dict[str, Any] = Field(default_factory=dict)
    require_same_node_kind: bool = False
    out: Path | None = None
    name: str | None = None
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    variants: list[Variant] = Field(default_factory=list)
    only: list[str] = Field(default_factory=list)
    exclude: list[str] = Field(default_factory=list)
    calibration: Literal["held-out", "none"] = "held-out"
    allow_overlap: bool = False
    refine: list[Prompt] = Field(default_factory=list)
    sam_weights: Path | None = None
    reference: str | None = None
    reuse: list[Path] = Field(default_factory=list)
    keep: list[Literal["restorations"]] = Field(default_factory=list)
    page: Page | None = None
    trials: int | None = Field(default=None, ge=1, le=40)
    stage_limit_s: float | None = Field(default=None, gt=0)
    tracking_uri: str | None = None
    cache: Path | None = None
    command: str = ""

    @field_validator(
        "methods", "datasets", "workers", "seeds", "settings", "variants", "keep", "queue", "refine", mode="before"
    )
    @classmethod
    def _typed(cls, value: Any, info: ValidationInfo) -> Any:
        return _TYPED[str(info.field_name)](value)

    @field_validator("datasets", "seeds", "variants", "refine")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        names = [f"{v.method}@{v.label}" if isinstance(v, Variant) else str(v) for v in values]
        if twice := sorted(name for name, times in Counter(names).items() if times > 1):
            raise ValueError(f"{', '.join(twice)} named twice")
        return values

    @field_validator("variants")
    @classmethod
    def _unlike_refined(cls, values: list[Variant]) -> list[Variant]:
        if wrong := [v.label for v in values if base_of(f"{v.method}@{v.label}") is not None]:
            raise ValueError(f"{wrong[0]} ends as the rows of --refine do; choose another label")
        return values

    @field_validator("out", "cache", "data_root", "sam_weights")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().resolve()

    @field_validator("reuse", mode="before")
    @classmethod
    def _absolute_runs(cls, values: Any) -> list[Path]:
        runs = [values] if isinstance(values, str | Path) else values
        return [Path(run).expanduser().resolve() for run in runs]

    @property
    def limit_s(self) -> float:
        """The stage limit in force, in seconds."""
        return self.stage_limit_s or STAGE_LIMIT_S[self.profile]

    @property
    def study_trials(self) -> int:
        """Trials of each threshold study: 40, fewer where a profile makes no claim."""
        return self.trials or {"smoke": 6, "quick": 16, "standard": 40, "paper": 40}[self.profile]

    @property
    def keeps_restorations(self) -> bool:
        """Whether what methods make of a scan is kept and drawn."""
        return "restorations" in self.keep

    def folder(self) -> Path:
        """Return the run folder: ``--out``, else a name that the same command always gives.

        Methods and seeds do not enter the name, so that a later command adds cells to the same run.
        """
        if self.out is not None:
            return self.out
        parts = [self.name or "-".join(self.datasets), *(["phantom"] if self.phantom else []), self.profile]
        chosen = self.model_dump(mode="json", include=_IN_THE_NAME) | {"source": self.source()}
        plain = RunOptions(datasets=self.datasets, phantom=self.phantom)
        if self.compiled:
            chosen["compiled"] = True
        if chosen != plain.model_dump(mode="json", include=_IN_THE_NAME) | {"source": "phantom 0"}:
            parts.append(hashlib.blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=3).hexdigest())
        return (Path("runs") / "-".join(parts)).resolve()

    def source(self) -> str:
        """Return where the scans come from: a phantom seed, or the data root in force."""
        if self.phantom:
            return f"phantom {self.phantom_seed}"
        root = self.data_root or os.environ.get("UASBENCH_DATA")
        return str(Path(root).expanduser().resolve()) if root else "nowhere"


def parse_seeds(text: str) -> list[int]:
    """``3`` means 0, 1, 2; a comma makes a list.

    Raises:
        OptionError: it is neither, names a seed twice, or asks for more than can be meant.

    >>> parse_seeds("3"), parse_seeds("5,7"), parse_seeds("4,")
    ([0, 1, 2], [5, 7], [4])
    """
    said = f"--seeds {shortened(text)!r}"
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] == 0):
        raise OptionError(f"{said}: give a number of seeds (3) or a list (0,1,2)")
    if "," not in text and numbers[0] > MOST_SEEDS:
        raise OptionError(f"{said}: at most {MOST_SEEDS}; a list names seeds beyond (0,5000)")
    seeds = numbers if "," in text else list(range(numbers[0]))
    if len(set(seeds)) != len(seeds):
        raise OptionError(f"{said}: a seed is named twice")
    return seeds


def parse_settings(items: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Turn ``METHOD.KEY=VALUE`` items into settings by method.

    >>> parse_settings(["ae.lr=1e-3", "ae.size=64"])
    {'ae': {'lr': '1e-3', 'size': '64'}}
    """
    settings: dict[str, dict[str, Any]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        method, dot, key = name.partition(".")
        if not (equals and dot and method and key):
            raise OptionError(f"--set {item!r}: write METHOD.KEY=VALUE, for instance ae.lr=1e-3")
        settings.setdefault(method, {})[key] = value
    return settings


def parse_queue(items: Iterable[str]) -> dict[str, Any]:
    """Turn ``KEY=VALUE`` items and names of TOML files into settings of an executor; the last word counts.

    Raises:
        OptionError: an item is neither, or the file is no TOML.

    >>> parse_queue(["partition=gpu", "submit=bsub -q=long {command}"])
    {'partition': 'gpu', 'submit': 'bsub -q=long {command}'}
    """
    settings: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if equals and key.isidentifier():
            settings[key] = value
            continue
        if not item.endswith(".toml"):
            raise OptionError(f"--queue {shortened(item)!r}: write KEY=VALUE, or name a TOML file")
        try:
            settings |= tomllib.loads(Path(item).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise OptionError(f"--queue {item}: {brief(error)}") from error
    return settings


def parse_variant(text: str) -> Variant:
    """Turn ``LABEL:METHOD.KEY=VALUE,KEY=VALUE`` into a variant.

    >>> parse_variant("tp:draem.two_phase=on,window=-100,200").settings
    {'two_phase': 'on', 'window': '-100,200'}
    """
    label, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", label):
        raise OptionError(f"--variant {text!r}: write LABEL:METHOD.KEY=VALUE,KEY=VALUE")
    method = ""
    settings: dict[str, Any] = {}
    for item in _ASSIGNMENT.split(rest):
        name, equals, value = item.partition("=")
        owner, dot, key = name.rpartition(".")
        if not equals or not key or (dot and method and owner != method) or not (method or owner):
            raise OptionError(f"--variant {text!r}: write LABEL:METHOD.KEY=VALUE,KEY=VALUE with one method")
        method = method or owner
        settings[key] = value
    return Variant(label=label, method=method, settings=settings)


def _listed(value: str | Iterable[str]) -> list[str]:
    return [part.strip() for part in (value.split(",") if isinstance(value, str) else value) if part.strip()]


_TYPED: dict[str, Callable[[Any], Any]] = {
    "methods": lambda value: value if isinstance(value, str) else ",".join(value),
    "datasets": _listed,
    "refine": _listed,
    "workers": lambda value: None if value == "auto" else value,
    "seeds": lambda value: parse_seeds(str(value)) if isinstance(value, int | str) else list(value),
    "settings": lambda value: dict(value) if isinstance(value, Mapping) else parse_settings(value),
    "queue": lambda value: dict(value) if isinstance(value, Mapping) else parse_queue(value),
    "keep": lambda value: [value] if isinstance(value, str) else list(value),
    "variants": lambda value: [parse_variant(item) if isinstance(item, str) else item for item in value],
}
"""What users type, turned into what an option holds."""


_ASKED_AS = {
    "compiled": "compile",
    "datasets": "dataset",
    "settings": "set",
    "stage_limit_s": "stage-limit",
    "variants": "variant",
}
"""Options that are asked for by another name than that of their field."""


def validated(**values: Any) -> RunOptions:
    """Build options, with a wrong value reported in one line.

    Raises:
        OptionError: an option has a value that cannot be used.
    """
    try:
        return RunOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        given = str(first["loc"][0]) if first["loc"] else "options"
        if first["type"] == "extra_forbidden":
            known = [_ASKED_AS.get(name, name) for name in RunOptions.model_fields]
            hint = did_you_mean(given, known) or f"; there are {', '.join(known)}"
            raise OptionError(f"there is no option {given!r}{hint}") from error
        name = _ASKED_AS.get(given, given).replace("_", "-")
        raise OptionError(f"--{name} {first['input']!r}: {first['msg']}") from error


def experiment_options(name: str, **given: Any) -> RunOptions:
    """Turn an experiment into run options; what is given explicitly wins."""
    plan = load(name)
    fields = ("methods", "train", "only", "profile", "seeds", "variants", "calibration", "reference", "keep")
    planned = {field: getattr(plan, field) for field in fields} | {"datasets": plan.dataset}
    shown = Path(name).with_suffix("").as_posix().strip("./")
    planned |= {"name": shown.replace("/", "-"), "page": plan.page(shown)}
    return validated(**planned | given)
