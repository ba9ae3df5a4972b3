"""What ``bench check`` asks of a method, one function per promise of the contract."""

import ast
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common import source_hash
from ...datasets.labelled import LabelledSet
from ...methods.config import PROFILES, Config, resolve
from ...methods.state import modules
from ..catalogue.outline import missing_packages, texts
from ..stages import drive
from ..stages.wall import available as available_wall
from . import walls
from .learning import learns
from .resumed import resumed
from .subject import PACKAGE, Broken, NotApplicable, Subject, Unavailable
from .thieves import PAST_PYTHON, ROUTES

TRUTH_NAMES = frozenset({"load_truth", "Truth", "TruthRef"})


def card(subject: Subject) -> str:
    """A built-in's card is complete; a plug-in's needs a name and a title."""
    card = subject.cls.card
    if not subject.built_in:
        return f"{card.name}: {card.title}"
    wanted = ("title", "year", "family", "citation", "reference")
    if missing := [name for name in wanted if getattr(card, name) in (None, "", "plug-in")]:
        raise Broken(f"the card of a built-in must be complete; fill in {', '.join(missing)}")
    return f"complete: {card.title}"


def config(subject: Subject) -> str:
    """Settings are a frozen dataclass whose profiles and anatomies resolve to what a record can hold."""
    cls = subject.cls.Config
    if not (isinstance(cls, type) and issubclass(cls, Config) and is_dataclass(cls)):
        raise Broken(f"Config must be a frozen dataclass derived from {PACKAGE}.Config")
    if "__dataclass_params__" not in vars(cls):
        raise Broken(f"{cls.__name__} has no '@dataclass(frozen=True)' above it, so that its fields are not settings")
    known = {f.name for f in fields(cls)}
    for kind in ("profiles", "anatomies"):
        for name, values in getattr(cls, kind).items():
            if unknown := sorted(set(values) - known):
                raise Broken(f"{kind}[{name!r}] sets unknown fields: {', '.join(unknown)}")
    if strange := sorted(set(cls.profiles) - set(PROFILES)):
        raise Broken(f"unknown profiles {', '.join(strange)}; they are {', '.join(PROFILES)}")
    for profile in PROFILES:
        for anatomy in (None, *subject.cls.card.anatomy):
            try:
                json.dumps(asdict(resolve(cls, profile, anatomy)))
            except TypeError as error:
                raise Broken(f"profile {profile!r}: a setting cannot be written to a record: {error}") from error
    return f"{len(known)} settings, profiles {', '.join(p for p in PROFILES if p in cls.profiles or p == 'paper')}"


def available(subject: Subject) -> str:
    """The method is made for this anatomy, what it requires is installed, and ``skip`` returns None or a reason."""
    made_for = subject.cls.card.anatomy
    if subject.anatomy not in made_for:
        raise Unavailable(f"made for {', '.join(made_for)}; check it with --anatomy {made_for[0]}")
    if missing := missing_packages(texts(subject.cls.requires)):
        raise Unavailable(missing)
    reason = subject.cls(subject.config()).skip()
    if reason is None:
        return "skip() lets it run here"
    if not isinstance(reason, str) or not reason.strip():
        raise Broken(f"skip() returned {reason!r}; return None to run, or the reason as text")
    raise Unavailable(reason)


def runs(subject: Subject) -> str:
    """Fit and score end, and maps have the right shape, type and finite values."""
    start = time.perf_counter()
    method = subject.trained
    fitted = time.perf_counter()
    ranges = [(m.min(), m.max()) for m in subject.reference.values()]
    scored = time.perf_counter()
    grid = "native grid" if method.view is None else f"view of {method.view.size}² pixels"
    span = f"{min(r[0] for r in ranges):.3g} to {max(r[1] for r in ranges):.3g}"
    return f"fit {fitted - start:.1f} s, score {scored - fitted:.1f} s; {grid}, scores {span}"


def inputs_untouched(subject: Subject) -> str:
    """Neither fit nor score writes into what it was given."""
    scans, unlabelled = subject.scans(), subject.unlabelled()
    given: list[tuple[np.ndarray, ...]] = [(case.image, case.roi) for case in unlabelled or ()]
    if isinstance(scans, LabelledSet):
        given += [(case.image, case.roi, lesion) for case, lesion in scans]
    else:
        given += [(case.image, case.roi) for case in scans]
    before = deepcopy(given)
    method, _ = drive.train(subject.cls, subject.config(), scans, subject.context(0, unlabelled=unlabelled))
    _unchanged("fit", given, before)
    case = subject.cases()[0]
    viewed = subject.view(method, case)
    arrays = [(case.image, case.roi)] + ([] if viewed is None else [(viewed.image, viewed.roi)])
    before = deepcopy(arrays)
    drive.score(method, case, viewed)
    _unchanged("score", arrays, before)
    return "fit and score leave images and regions as they were"


def _unchanged(stage: str, now: list[tuple[np.ndarray, ...]], before: list[tuple[np.ndarray, ...]]) -> None:
    for arrays, copies in zip(now, before, strict=True):
        for array, copy, what in zip(arrays, copies, ("image", "region of interest", "lesion mask"), strict=False):
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                raise Broken(f"{stage} writes into the {what} that it was given; work on a copy")


def same_seed(subject: Subject) -> str:
    """One seed gives one result, bit for bit on the CPU."""
    subject.same(subject.maps(subject.train(seed=0)), "trained twice with one seed; draw all randomness from ctx.rng()")
    return "two trainings with one seed give the same maps"


def other_seed(subject: Subject) -> str:
    """Weights follow the seed, or the map depends on none and the card may say so."""
    config = subject.config()
    first, second = (_weights(drive.construct(subject.cls, config, seed=s, device=subject.device)) for s in (0, 1))
    other = subject.train(seed=1)
    maps = subject.maps(other)
    if subject.cls.card.deterministic:
        subject.same(maps, "the card says deterministic=True, but the map follows the seed")
        return "deterministic: another seed gives the same maps"
    if first and all(np.array_equal(first[k], second[k]) for k in first):
        raise Broken(
            "initial weights do not follow the seed; create networks in build() and set no seed there: the engine has"
        )
    learned = _weights(subject.trained)
    others = _weights(other)
    if learned and all(k in others and np.array_equal(v, others[k]) for k, v in learned.items()):
        raise Broken("trained weights do not follow the seed; draw all randomness from ctx.rng()")
    if all(np.array_equal(m, maps[k]) for k, m in subject.reference.items()):
        return "the maps do not depend on the seed; deterministic=True on the card saves the repeats"
    return f"another seed gives other {'weights' if first else 'maps'}"


def _weights(method: Any) -> dict[str, np.ndarray]:
    return {
        f"{name}.{key}": value.detach().cpu().numpy().copy()
        for name, module in modules(method).items()
        for key, value in module.named_parameters()
        # Biases and norms start as zeros or ones whatever the seed.
        if value.requires_grad and value.numel() > 1 and not (value == value.flatten()[0]).all()
    }


def save_and_load(subject: Subject) -> str:
    """A saved state scores as the method that wrote it."""
    with _saved(subject.trained) as path:
        again = drive.load(subject.cls, subject.config(), path, subject.device)
        size = path.stat().st_size
    subject.same(subject.maps(again), "saved and loaded; save every attribute that score needs")
    return f"a loaded method gives the same maps; {size / 2**20:.2f} MiB"


@contextmanager
def _saved(method: Any) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.pt"
        method.save(path)
        if not path.is_file():
            raise Broken("save(path) did not write the file it was given")
        yield path


def batches(subject: Subject) -> str:
    """A map depends on its case alone: not on the cases scored before it, nor on the slices that share its batch."""
    with _saved(subject.trained) as path:
        method = drive.load(subject.cls, subject.config(), path, subject.device)
        with _batch_norm_watch(method) as live:
            backwards = subject.maps(method, subject.cases()[::-1])
        if live:
            raise Broken(f"batch normalisation is in training mode while scoring ({live[0]}); call .eval() in score")
        subject.same(backwards, "cases scored in another order")
        names = [n for n, v in asdict(subject.config()).items() if "batch" in n and type(v) is int]
        for name in names:
            config = replace(subject.config(), **{name: 1})
            alone = drive.load(subject.cls, config, path, subject.device)
            subject.same(subject.maps(alone), f"scored with {name}=1", exact=False)
    return "same maps in another order" + (f" and with {', '.join(names)} = 1" if names else "")


@contextmanager
def _batch_norm_watch(method: Any) -> Iterator[list[str]]:
    from torch.nn.modules.batchnorm import _BatchNorm

    live: list[str] = []
    handles = []
    for name, network in modules(method).items():
        for inner, module in network.named_modules():
            if isinstance(module, _BatchNorm):

                def note(m: Any, _: Any, where: str = f"{name}.{inner}") -> None:
                    if m.training:
                        live.append(where)

                handles.append(module.register_forward_pre_hook(note))
    try:
        yield live
    finally:
        for handle in handles:
            handle.remove()


def blind(subject: Subject) -> str:
    """Fit and score above ran without a label that the card does not allow; the source must not reach for one either.

    A top line gets its labels from the engine, in the set that ``fit`` is given, and reads none itself.
    """
    try:
        files = source_hash.closure_files(subject.cls.__module__)
    except source_hash.SourceError as error:
        raise NotApplicable(f"its source is not in a file: {error}") from error
    inside = f"{PACKAGE}.methods" if subject.built_in else subject.cls.__module__.partition(".")[0]
    own = {n: p for n, p in files.items() if n == inside or n.startswith(f"{inside}.")}
    for name, path in own.items():
        for node in ast.walk(ast.parse(path.read_bytes())) if path.suffix == ".py" else ():
            if used := _truth_name(node):
                where = f"{name}, line {getattr(node, 'lineno', '?')}"
                raise Broken(f"{where}: {used} reads labels, which only the scorer may")
    return f"no label reader in {len(own)} module{'s' * (len(own) != 1)}"


def _truth_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return "UASBENCH_DATA" if node.value == "UASBENCH_DATA" else None
    names = [getattr(node, "id", None), getattr(node, "attr", None)]
    if isinstance(node, ast.ImportFrom | ast.Import):
        names = [a.name.rpartition(".")[2] for a in node.names]
    return next((n for n in names if n in TRUTH_NAMES), None)


def walled_off(subject: Subject) -> str:
    """Behind the wall that stages get here no way leads to the labels, and the method itself looks for none."""
    wall = available_wall()
    led = walls.stolen(subject.anatomy, wall)
    claimed = [way for way in led if wall == "landlock" or way not in PAST_PYTHON]
    if claimed and wall != "none":
        raise Broken(f"the wall ({wall}) has holes: a thief reached the labels: {', '.join(claimed)}; please report it")
    if subject.uses == "healthy" and subject.target is not None:
        view = subject.cls(subject.config()).view
        if tried := walls.attempts(subject.anatomy, subject.target, view):
            raise Broken(
                f"it tried to open {', '.join(tried[:3])} of the run; a method gets all that it may see from ctx"
            )
    turned_away = len(ROUTES) - len(led)
    return f"{wall}: {turned_away} of {len(ROUTES)} ways to the labels are barred" + (
        f"; open: {', '.join(led)}" if led else ""
    )


def decision(subject: Subject) -> str:
    """``native_threshold`` is a finite number; ``postprocess`` returns a bool mask."""
    method = subject.trained
    own = any(hasattr(method, name) for name in ("postprocess", "postprocess_view"))
    threshold = drive.threshold_of(method)
    if not own and threshold is None:
        raise NotApplicable("no native_threshold and no postprocess: no rows under the protocol 'native'")
    shares = []
    for case in subject.cases():
        viewed = subject.view(method, case)
        scores = drive.score(method, case, viewed)
        mask = drive.decide(method, case, viewed, scores)
        if mask is None:
            assert threshold is not None
            native = scores if viewed is None else viewed.to_native(scores)
            mask = (native > threshold) & case.roi
        shares.append(float(mask[case.roi].mean()))
    rule = "postprocess" if own else f"map > {threshold:g}"
    return f"{rule} marks {min(shares):.1%} to {max(shares):.1%} of the region (smoke profile)"


def restorations(subject: Subject) -> str:
    """``restore_view`` returns finite arrays on the view's grid under the same titles for every case."""
    method = subject.trained
    if method.view is None or not hasattr(method, "restore_view"):
        raise NotApplicable("no restore_view: '--keep restorations' keeps nothing of it")
    titles: list[str] | None = None
    for case in subject.cases():
        viewed = subject.view(method, case)
        found = list(drive.restored(method, case, viewed, drive.score(method, case, viewed)))
        if titles not in (None, found):
            raise Broken(f"case {case.id} has the titles {found}, another one {titles}; use the same for all")
        titles = found
    return f"shows {', '.join(titles or []) or 'nothing'}"


CHECKS: dict[str, Callable[[Subject], str]] = {
    "card": card,
    "settings": config,
    "available": available,
    "fit and score": runs,
    "inputs untouched": inputs_untouched,
    "same seed": same_seed,
    "other seed": other_seed,
    "resumed": resumed,
    "save and load": save_and_load,
    "order and batch": batches,
    "blind to labels": blind,
    "walled off": walled_off,
    "own decision": decision,
    "restorations": restorations,
    "learns": learns,
}
ALONE = frozenset({"card", "settings", "blind to labels"})
