"""The watched trainings in the report: a small curve per method and phase, and whether it had flattened."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..benchmark.convergence import mean_ratios, verdict_on
from ..benchmark.runs.records import Convergence, Record

WIDTH, HEIGHT = 120, 26
NOTE = (
    "The loss on healthy patients who are not learned from, with the method's own synthetic lesions where it has such: "
    "before training and at its end, means over fits (seeds, members). Ratio: last fifth of the curve to the fifth "
    "before, their mean; below 0.95 it is still falling. Curves are logarithmic where the loss is above 0."
)


@dataclass(frozen=True)
class WatchedTraining:
    """A phase of a method over all fits of a section; ``lines`` are points of an SVG polyline in WIDTH × HEIGHT."""

    method: str
    phase: str
    start: str
    last: str
    ratio: str
    verdict: str
    lines: tuple[str, ...]


def watched_trainings(records: Sequence[Record]) -> tuple[list[WatchedTraining], list[str]]:
    """Return the watched phases by method, in order of training, and the methods that trained without being watched."""
    found: dict[tuple[str, str], list[Convergence]] = {}
    for record in sorted(records, key=lambda r: (r.cell.method, r.cell.seed)):
        for phase in record.convergence:
            found.setdefault((record.cell.method, phase.phase), []).append(phase)
    seen = {method for method, _ in found}
    others = {r.cell.method for r in records if r.cost.updates} - seen
    return [_row(method, phase, fits) for (method, phase), fits in found.items()], sorted(others)


def _row(method: str, phase: str, fits: Sequence[Convergence]) -> WatchedTraining:
    counts = Counter(fit.verdict for fit in fits).most_common()
    ratio = mean_ratios(fits).get(phase)
    verdict = "not watched" if ratio is None else verdict_on(ratio)
    if len(counts) > 1:
        verdict += f" ({', '.join(f'{name} {n} of {len(fits)}' for name, n in counts)})"
    ends = [[fit.points[i][1] for fit in fits] for i in (0, -1)]
    start, last = (f"{sum(values) / len(values):.3g}" for values in ends)
    shown = "" if ratio is None else f"{ratio:.2f}"
    return WatchedTraining(method, phase, start, last, shown, verdict, _lines([fit.points for fit in fits]))


def _lines(curves: Sequence[Sequence[tuple[int, float]]]) -> tuple[str, ...]:
    values = [value for curve in curves for _, value in curve]
    scale = math.log if min(values) > 0 else float
    low, high = scale(min(values)), scale(max(values))
    left = min(curve[0][0] for curve in curves)
    right = max(curve[-1][0] for curve in curves)

    def at(step: int, value: float) -> str:
        x = (step - left) / ((right - left) or 1) * WIDTH
        y = (high - scale(value)) / ((high - low) or 1) * HEIGHT
        return f"{x:.1f},{y:.1f}"

    return tuple(" ".join(at(*point) for point in curve) for curve in curves)
