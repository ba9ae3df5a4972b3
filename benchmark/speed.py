"""Updates and slices per second, memory and busy share of every trained method, as a run trains and scores it.

``python -m uasbench.benchmark.speed --part 1/4 --json speed.jsonl`` measures a quarter of the methods within eight
minutes on a GPU (longer with ``--compile``: no compilation is cut off) and writes a line per method as soon as it is
done; ``--compare`` prints two such files side by side.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..common.errors import UasbenchError, summary
from ..datasets.healthy import HealthySet
from ..datasets.labelled import LabelledSet
from ..datasets.phantom.disk import Size, phantom_root
from ..methods.config import resolve
from ..methods.context import FitContext, LoopOverError
from . import device as devices
from .catalogue import registry
from .catalogue.outline import missing_packages
from .executors import gpus
from .stages import compiling, drive

PART_S = 480.0
STARTING_S = 180.0
WARM = 5
TRAINING_SHARE = 2 / 3
SCORED_CASES = 2
ELSEWHERE = ("nnunet", "nnunet-unseen")
COLUMNS = ("updates_per_s", "slices_per_s", "peak_gpu_mib", "busy")


@dataclass
class Speed:
    """What was measured of a method; None where it was not.

    ``busy`` is the share of the time that the GPU was busy while it trained, ``updates`` those that were timed.
    ``phases`` has each loop of updates in turn: its name in the curves, those timed, those wanted (``of``) and updates
    per second; ``updates_per_s`` is the mean over all that are wanted. ``compilation`` says what was ``compiled``.
    """

    method: str
    profile: str
    anatomy: str
    device: str
    precision: str
    updates_per_s: float | None = None
    slices_per_s: float | None = None
    peak_gpu_mib: float | None = None
    peak_ram_mib: float | None = None
    busy: float | None = None
    updates: int = 0
    phases: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    compiled: bool = False
    compilation: str = ""


def part_of(names: Sequence[str], part: str) -> list[str]:
    """Return the methods of part ``k/n``: every n-th one.

    Raises:
        UasbenchError: it is no such part.

    >>> part_of(["a", "b", "c", "d", "e"], "2/3")
    ['b', 'e']
    """
    number, _, of = part.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise UasbenchError(f"--part {part}: write K/N, such as 1/4")
    return list(names[int(number) - 1 :: int(of)])


def measure(
    name: str,
    profile: str,
    device: str,
    precision: str,
    seconds: float,
    size: Size = "quick",
    *,
    compiled: bool = False,
) -> Speed:
    """Train a method for two thirds of the ``seconds`` at most and score with it for the rest, on the phantom.

    Every phase of a training is cut off after half of the time that is left for it. What is raised is in
    :attr:`Speed.error`.
    """
    speed, started = Speed(name, profile, "", device, precision, compiled=compiled), time.perf_counter()
    devices.configure(device, 1)
    try:
        cls, config, speed.anatomy = configured(name, profile)
        healthy, tested = scans(speed.anatomy, size)
        method = drive.construct(cls, config, seed=0, device=device, compiled=compiled)
        with _busy(device) as sampled:
            _train(method, speed, healthy, tested, started + seconds * TRAINING_SHARE, sampled)
        if compiled:
            speed.compilation = compiling.in_words(compiling.outcome(method))
        speed.busy = statistics.fmean(sampled) if sampled else None
        with compiling.beside_updates(compiled=compiled):
            _score(method, speed, [case for case, _ in tested], started + seconds)
    except Exception as error:  # the other methods are measured all the same
        speed.error = summary(error)
    for what, value in devices.peaks(device).items():
        setattr(speed, what, value)
    return speed


def _apart(asked: Speed, seconds: float) -> Speed:
    """Measure a method in a process of its own: memory, and what a fault leaves of a GPU, are those of one method."""
    command = [sys.executable, "-P", "-m", __spec__.name, "--one", json.dumps(asdict(asked)), "--seconds", f"{seconds}"]
    try:
        done = subprocess.run(  # noqa: S603
            command, stdout=subprocess.PIPE, text=True, timeout=seconds + STARTING_S, check=False
        )
    except subprocess.TimeoutExpired:
        return replace(asked, error=f"did not end within {seconds + STARTING_S:.0f} s")
    *_, last = ["", *done.stdout.splitlines()]
    return Speed(**json.loads(last)) if done.returncode == 0 else replace(asked, error=f"status {done.returncode}")


def configured(name: str, profile: str) -> tuple[Any, Any, str]:
    """Return class, settings and organ: the first one that the method does not decline."""
    known = registry.runnable()
    if missing := missing_packages(known.outline(name).packages):
        raise UasbenchError(missing)
    cls: Any = known.get(name)
    random = {"weights": "random"} if hasattr(cls.Config(), "weights") else None
    reason = None
    for anatomy in cls.card.anatomy:
        config = resolve(cls.Config, profile, anatomy, random)
        if (reason := cls(config).skip()) is None:
            return cls, config, anatomy
    raise UasbenchError(reason or f"{name} is for no organ")


def train(
    method: Any,
    healthy: list[Any],
    tested: list[Any],
    precision: str,
    on_progress: Callable[[int, int], None],
    on_log: Callable[[int, dict[str, float]], None] = lambda *_: None,
    *,
    compiled: bool = False,
) -> None:
    """Fit a method to what its card allows it; ``on_progress`` may cut loops off."""
    uses = type(method).card.uses
    unlabelled = HealthySet.from_cases([case for case, _ in tested]) if uses == "unlabelled-test" else None
    context = FitContext(
        seed=0,
        device=method.device,
        precision=precision,
        compiled=compiled,
        on_progress=on_progress,
        on_log=on_log,
        unlabelled=unlabelled,
    )
    drive.fit(method, LabelledSet.from_cases(tested) if uses == "labels" else HealthySet.from_cases(healthy), context)


@dataclass
class _Phase:
    """A loop of updates: when it is cut off, how many it wants, and when each was done."""

    until: float
    of: int
    ended: list[float] = field(default_factory=list)

    def measured(self, name: str) -> dict[str, Any]:
        # The mean and not the median: a step that only queues its work ends long before the work does.
        timed = self.ended[WARM:] if len(self.ended) > WARM + 1 else self.ended
        updates = len(timed) - 1
        rate = updates / (timed[-1] - timed[0]) if updates else None
        return {"name": name, "updates": updates, "of": self.of, "updates_per_s": rate}


def _train(
    method: Any, speed: Speed, healthy: list[Any], tested: list[Any], until: float, sampled: list[float]
) -> None:
    phases: list[_Phase] = []
    names: dict[str, None] = {}

    def on_progress(done: int, total: int) -> None:
        now = time.perf_counter()
        if done == 1:
            phases.append(_Phase(now + (until - now) / 2, total))
        phase = phases[-1]
        over = len(phase.ended) > WARM and now > phase.until
        if over or done == total:
            _wait_for(speed.device)
        phase.ended.append(time.perf_counter())
        if len(phases) == 1 and done == WARM:
            sampled.clear()
        if over:
            raise LoopOverError

    def on_log(_: int, values: dict[str, float]) -> None:
        names.update(dict.fromkeys(key.rpartition("/")[0] for key in values))

    train(method, healthy, tested, speed.precision, on_progress, on_log, compiled=speed.compiled)
    named = zip(phases, [*names, *([""] * len(phases))], strict=False)
    speed.phases = [phase.measured(name) for phase, name in named]
    speed.updates = sum(phase["updates"] for phase in speed.phases)
    if speed.updates and all(phase["updates"] for phase in speed.phases):
        whole = sum(phase["of"] for phase in speed.phases)
        speed.updates_per_s = whole / sum(phase["of"] / phase["updates_per_s"] for phase in speed.phases)


def _score(method: Any, speed: Speed, cases: list[Any], until: float) -> None:
    from ..datasets.views.volume_view import apply_view
    from ..methods.training import autocast

    slices, spent = 0, 0.0
    seen = [(case, None if method.view is None else apply_view(case, method.view)) for case in cases[:SCORED_CASES]]
    for round_, (case, viewed) in zip(itertools.count(), itertools.cycle(seen), strict=False):
        started = time.perf_counter()
        with autocast(speed.device, speed.precision):
            drive.score(method, case, viewed)
        _wait_for(speed.device)
        if round_:  # the first one warms up
            spent += time.perf_counter() - started
            slices += int(case.roi.any(axis=(1, 2)).sum())
        if time.perf_counter() > until and (round_ or spent):
            break
    speed.slices_per_s = slices / spent if spent else None


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


@contextmanager
def _busy(device: str) -> Iterator[list[float]]:
    """Sample how busy the GPU is, as shares; nothing where there is none to ask."""
    sampled: list[float] = []
    names = gpus.visible(gpus.read()) if device.startswith("cuda") else []
    if not names:
        yield sampled
        return
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.5):
            reading = gpus.read().get(names[0])
            if reading is not None and reading.busy is not None:
                sampled.append(reading.busy)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield sampled
    finally:
        over.set()
        thread.join()


def scans(anatomy: str, size: Size) -> tuple[list[Any], list[Any]]:
    """Return healthy phantoms, and phantoms with their lesions."""
    sets = registry.datasets()
    wanted = (anatomy, "lesion", "voxel", None)
    test = next(name for name, c in sets.cards().items() if (c.anatomy, c.role, c.truth, c.wraps) == wanted)
    root = phantom_root(Path(tempfile.gettempdir()) / "uasbench-speed", anatomy=anatomy, seed=0, size=size)
    train, tested = sets.get(sets.card(test).partner or "")(), sets.get(test)()
    healthy = [train.load(scan.id) for scan in train.discover(root)]
    return healthy, [(tested.load(scan.id), tested.load_truth(scan.id).lesion) for scan in tested.discover(root)]


def compared(before: Path, after: Path) -> str:
    """Return two files of measurements side by side, as a Markdown table: what was, what is, and the ratio."""
    old, new = ({speed["method"]: speed for speed in _read(path)} for path in (before, after))
    heads = [f"{column}{part}" for column in COLUMNS for part in ("", " now", " ×")]
    lines = [f"| method | {' | '.join(heads)} | error |", "|---" * (len(heads) + 2) + "|"]
    for method in sorted({*old, *new}):
        cells = []
        for column in COLUMNS:
            was, now = (speeds.get(method, {}).get(column) for speeds in (old, new))
            cells += [_number(was), _number(now), f"{now / was:.2f}" if was and now else "–"]
        errors = {speeds[method]["error"] for speeds in (old, new) if method in speeds} - {""}
        lines.append(f"| {method} | {' | '.join(cells)} | {'; '.join(sorted(errors))} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a part of the methods, or compare two files."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--part", default="1/1", help="K/N: every N-th method from the K-th on")
    parser.add_argument("--methods", help="names with commas, instead of all trained ones")
    parser.add_argument("--json", type=Path, help="file that gets a line per method")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--profile", default="paper", help="smoke, quick, standard or paper")
    parser.add_argument("--compile", dest="compiled", action="store_true", help="train with compiled networks")
    parser.add_argument("--seconds", type=float, default=PART_S, help="for the whole part")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="print two files side by side")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        asked = Speed(**json.loads(given.one))
        size: Size = "smoke" if asked.profile == "smoke" else "quick"
        how = (asked.profile, asked.device, asked.precision, given.seconds, size)
        found = measure(asked.method, *how, compiled=asked.compiled)
        print(json.dumps(asdict(found)))
        return
    if given.compare:
        print(compared(*given.compare))
        return
    known = registry.runnable()
    every = [name for name, card in known.cards().items() if not card.trivial and name not in ELSEWHERE]
    names = part_of(given.methods.split(",") if given.methods else every, given.part)
    device = devices.resolve_device(given.device)
    precision = devices.resolve_precision("auto", device)
    ends = time.monotonic() + given.seconds
    for number, name in enumerate(names):
        share = max(0.0, ends - time.monotonic()) / (len(names) - number)
        asked = Speed(name, given.profile, "", device, precision, compiled=given.compiled)
        line = json.dumps(asdict(_apart(asked, share)))
        print(line, flush=True)
        if given.json:
            with given.json.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
