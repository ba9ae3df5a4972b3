"""Do the tests and intervals hold what they say? Simulated methods with random seeds and patients.

``python -m uasbench.experiments.diagnostics.inference`` prints the tables of docs/statistics.md: how often tests call
equal methods different, how often they find a difference, how often intervals hold the true mean, and what choosing the
best baseline on the data does. The numbers are fixed by ``--repeats`` and a constant seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...benchmark.crossed import NO_SPREAD, against_all, crossed_tests, mean_intervals, seed_spread
from ...benchmark.scores import Sample, ScoreKey, Scores
from ...benchmark.statistics import FloatArray, bootstrap_mean
from ...common.seeds import derive
from ...reports.trivial import cross_fitted

PATIENTS, SEEDS, LEVEL = 10, 3, 0.05
SEED_SPREADS, RESIDUALS = (0.0, 0.3, 0.5, 1.0), (0.1, 0.3, 1.0)
SHIFTS = (0.5, 1.0, 1.5)
MORE_PATIENTS = (20, 50)


class Design(NamedTuple):
    """Two methods: seeds of each, and by how much the spread of its seeds and its residual are scaled."""

    title: str
    seeds: tuple[int, int]
    scale: tuple[float, float]


DESIGNS = (
    Design("both methods with 3 seeds", (SEEDS, SEEDS), (1, 1)),
    Design("a deterministic reference", (SEEDS, 1), (1, 0)),
    Design("a reference with a tenth of the seed spread", (SEEDS, SEEDS), (1, 0.1)),
    Design("one seed each: seed spread unknown", (1, 1), (1, 1)),
)


def generator(*purpose: object) -> np.random.Generator:
    """Return the random numbers of one part of the simulation."""
    return np.random.default_rng(derive(0, "inference", *map(str, purpose)))


def differing(
    design: Design, seed_sd: float, residual: float, repeats: int, shift: float = 0.0, patients: int = PATIENTS
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield pairs of (seeds, patients) matrices; the patient differences have standard deviation 1."""
    rng = generator(design.title, seed_sd, residual, shift, patients)
    for _ in range(repeats):
        own = rng.standard_normal(patients)
        first, second = (
            scale * (seed_sd * rng.standard_normal((n, 1)) + residual * rng.standard_normal((n, patients)))
            for n, scale in zip(design.seeds, design.scale, strict=True)
        )
        yield own + first + shift, second


def rejections(pairs: Iterator[tuple[FloatArray, FloatArray]]) -> dict[str, float]:
    """Return how often each test gives p ≤ 0.05."""
    differences, one, other = [], [], []
    for first, second in pairs:
        differences.append(first.mean(axis=0) - second.mean(axis=0))
        one.append(seed_spread(first))
        other.append(seed_spread(second))
    rows = np.stack(differences)
    found = {
        "crossed": crossed_tests(differences, one, other).p,
        "paired t": np.asarray(stats.ttest_1samp(rows, 0, axis=1))[1],
        "Wilcoxon": np.asarray(stats.wilcoxon(rows, axis=1))[1],
    }
    return {name: float(np.mean(p <= LEVEL)) for name, p in found.items()}


Shape = Callable[[np.random.Generator], FloatArray]


def _normal(
    patient: float, seed: float, residual: float, patients: int = PATIENTS, seeds: int = SEEDS
) -> tuple[Shape, float]:
    def draw(rng: np.random.Generator) -> FloatArray:
        own = patient * rng.standard_normal(patients) + seed * rng.standard_normal((seeds, 1))
        return own + residual * rng.standard_normal((seeds, patients))

    return draw, 0.0


def _zero_inflated(missed: float, a: float, b: float, noise: float, patients: int = PATIENTS) -> tuple[Shape, float]:
    """Return Dice-like values: a share of the patients is missed by every seed, the others follow a beta law."""

    def draw(rng: np.random.Generator) -> FloatArray:
        seen = rng.random(patients) >= missed
        spread = rng.beta(a, b, patients) + noise * rng.standard_normal((SEEDS, 1))
        return np.where(seen, spread + noise * rng.standard_normal((SEEDS, patients)), 0.0)

    return draw, (1 - missed) * a / (a + b)


def _log_normal(sigma: float, patients: int = PATIENTS) -> tuple[Shape, float]:
    def draw(rng: np.random.Generator) -> FloatArray:
        own = np.exp(sigma * rng.standard_normal(patients))
        return own + 0.3 * own.std() * rng.standard_normal((SEEDS, patients))

    return draw, float(np.exp(sigma**2 / 2))


SHAPES: dict[str, tuple[Shape, float]] = {
    "normal 1 / 0 / 0": _normal(1, 0, 0),
    "normal 1 / 0 / 0.3": _normal(1, 0, 0.3),
    "normal 1 / 0.3 / 0.3": _normal(1, 0.3, 0.3),
    "normal 1 / 0.5 / 0.3": _normal(1, 0.5, 0.3),
    "normal 1 / 1 / 0.3": _normal(1, 1, 0.3),
    "10 % missed, else Beta(2, 3)": _zero_inflated(0.1, 2, 3, 0),
    "30 % missed, else Beta(1, 3)": _zero_inflated(0.3, 1, 3, 0),
    "30 % missed, else Beta(2, 2), seeds differ": _zero_inflated(0.3, 2, 2, 0.08),
    "50 % missed, else Beta(2, 2)": _zero_inflated(0.5, 2, 2, 0),
    "log-normal, σ 0.5": _log_normal(0.5),
    "log-normal, σ 1": _log_normal(1),
    "normal 1 / 0.3 / 0.3, 5 seeds": _normal(1, 0.3, 0.3, seeds=5),
    **{f"normal 1 / 0.3 / 0.3, {n} patients": _normal(1, 0.3, 0.3, n) for n in MORE_PATIENTS},
    **{f"normal 1 / 0.5 / 0.3, {n} patients": _normal(1, 0.5, 0.3, n) for n in MORE_PATIENTS},
    **{f"30 % missed, else Beta(1, 3), {n} patients": _zero_inflated(0.3, 1, 3, 0, n) for n in MORE_PATIENTS},
    **{f"log-normal, σ 1, {n} patients": _log_normal(1, n) for n in MORE_PATIENTS},
}


def coverage(name: str, repeats: int) -> dict[str, float]:
    """Return how often intervals of a mean hold it, and the share of samples marked as skewed."""
    draw, truth = SHAPES[name]
    rng = generator("coverage", name)
    samples = [draw(rng) for _ in range(repeats)]
    means, spreads = [s.mean(axis=0) for s in samples], [seed_spread(s) for s in samples]
    student = crossed_tests(means, spreads, [NO_SPREAD] * repeats)
    found = mean_intervals(means, spreads)
    percentile = [bootstrap_mean(s) for s in samples[: repeats // 2]]
    return {
        "bootstrap-t": float(np.mean([i.low <= truth <= i.high for i in found])),
        "Student": float(np.mean((student.low <= truth) & (truth <= student.high))),
        "percentile": float(np.mean([i.low <= truth <= i.high for i in percentile])),
        "skewed": float(np.mean([i.skewed for i in found])),
    }


Patient = tuple[NDArray[Any], NDArray[Any]]


def _slices(rng: np.random.Generator) -> Patient:
    """Draw a patient of 10 to 40 slices, a share of them with a lesion that is more or less visible."""
    slices, seen = rng.integers(10, 41), rng.normal(1.0, 0.7)
    labels = rng.random(slices) < rng.beta(2, 3)
    return labels, rng.normal(size=slices) + rng.normal(0, 0.5) + seen * labels


def _auroc(parts: Sequence[Patient]) -> float:
    labels, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    positives = int(labels.sum())
    won = stats.rankdata(scores)[labels].sum() - positives * (positives + 1) / 2
    return float(won / positives / (len(labels) - positives))


def _lesions(rng: np.random.Generator) -> Patient:
    """Draw a patient with one lesion or more, five on average, that are found with a chance of their own."""
    count = rng.geometric(0.2)
    return rng.binomial(count, rng.beta(2, 2), 1), np.array([count])


def _recall(parts: Sequence[Patient]) -> float:
    found, lesions = (np.concatenate(columns).sum() for columns in zip(*parts, strict=True))
    return float(found / lesions)


POOLED = {"slice AUROC": (_slices, _auroc), "lesion recall": (_lesions, _recall)}


def pooled_coverage(name: str, seed_sd: float, repeats: int) -> float:
    """Return how often the interval of a pooled value holds that of all patients there could be.

    The pseudo-values of patients come from leaving each out, as in a record.
    """
    rng = generator("pooled", seed_sd) if name == "slice AUROC" else generator("pooled", name, seed_sd)
    draw, value = POOLED[name]
    truth = value([draw(rng) for _ in range(4000)])
    held = 0
    for _ in range(repeats):
        parts = [draw(rng) for _ in range(PATIENTS)]
        left_out = [value(parts[:i] + parts[i + 1 :]) for i in range(PATIENTS)]
        whole = value(parts)
        pseudo = whole - (PATIENTS - 1) * (np.array(left_out) - np.mean(left_out))
        seeds = pseudo + seed_sd * rng.standard_normal((SEEDS, 1))
        (found,) = mean_intervals([seeds.mean(axis=0)], [seed_spread(seeds)])
        held += found.low <= truth <= found.high
    return held / repeats


BASELINES = {
    "five equal ones": (0.0, 0.0, 0.0, 0.0, 0.0),
    "others 0.5 and 1 worse": (0.0, -0.5, -0.5, -1.0, -1.0),
    "others far worse": (0.0, -3.0, -3.0, -3.0, -3.0),
}


def best_of_baselines(name: str, repeats: int) -> dict[str, tuple[float, float]]:
    """Return the mean difference to the best of some baselines, and how often a method is called better than it.

    The method is as good as the best of them, which is chosen on the patients that it is compared on, or for every
    patient on the others, or is not chosen: the method has to beat every baseline.
    """
    rng = generator("baselines", name)
    differences: dict[str, list[FloatArray]] = {"chosen on the same patients": [], "cross-fitted": []}
    patients, every = tuple(f"p{i}" for i in range(PATIENTS)), []
    for _ in range(repeats):
        own = rng.standard_normal(PATIENTS)
        values = {f"b{k}": own + level + rng.standard_normal(PATIENTS) for k, level in enumerate(BASELINES[name])}
        method = own + rng.standard_normal(PATIENTS)
        every.append([method - row for row in values.values()])
        best = max(values, key=lambda name: float(values[name].mean()))
        differences["chosen on the same patients"].append(method - values[best])
        rows = {name: row[None] for name, row in values.items()}
        scores = {
            name: Scores(ScoreKey(name, "", "", "val", "dice"), "patient", (0,), patients, row, PATIENTS, 0, "",
                         Sample(patients, row))
            for name, row in rows.items()
        }  # fmt: skip
        fitted = cross_fitted(scores)
        assert fitted is not None
        differences["cross-fitted"].append(method - fitted.sample.values[0])
    none = [NO_SPREAD] * repeats
    tests = {how: crossed_tests(vectors, none, none) for how, vectors in differences.items()}
    tests["all to be beaten"] = against_all(every, none, [[NO_SPREAD] * len(BASELINES[name])] * repeats, [1] * repeats)
    return {
        how: (float(test.mean.mean()), float(np.mean((test.p <= LEVEL) & (test.mean > 0))))
        for how, test in tests.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10_000)
    repeats = parser.parse_args(arguments).repeats
    for design in DESIGNS:
        print(f"\nError of the first kind at 0.05, {PATIENTS} patients, {design.title}\n")
        print("| seed / patient spread | residual | crossed | paired t | Wilcoxon |\n|---|---|---|---|---|")
        for seed_sd in SEED_SPREADS:
            for residual in RESIDUALS:
                found = rejections(differing(design, seed_sd, residual, repeats))
                print(f"| {seed_sd:g} | {residual:g} | " + " | ".join(f"{v:.3f}" for v in found.values()) + " |")
    print("\nPower of the crossed test, residual 0.3, by true difference over the patient spread\n")
    print("| design | seed / patient spread | " + " | ".join(f"{s:g}" for s in SHIFTS) + " |\n|---|---|" + "---|" * 3)
    for design in DESIGNS[:2]:
        for seed_sd in SEED_SPREADS:
            found = [rejections(differing(design, seed_sd, 0.3, repeats // 2, shift)) for shift in SHIFTS]
            print(f"| {design.title} | {seed_sd:g} | " + " | ".join(f"{f['crossed']:.2f}" for f in found) + " |")
    print(f"\nCoverage of 95 % intervals, {PATIENTS} patients × {SEEDS} seeds where nothing else is said\n")
    print("| shape | bootstrap-t | Student | percentile | marked skewed |\n|---|---|---|---|---|")
    for name in SHAPES:
        print(f"| {name} | " + " | ".join(f"{v:.3f}" for v in coverage(name, repeats).values()) + " |")
    print("\nCoverage of the intervals of pooled values, by spread of seeds\n")
    print("| value | seed spread | coverage |\n|---|---|---|")
    for name in POOLED:
        for seed_sd in (0.0, 0.03):
            print(f"| {name} | {seed_sd:g} | {pooled_coverage(name, seed_sd, repeats // 5):.3f} |")
    print("\nA method as good as the best of five baselines: mean difference, and how often it is called better\n")
    print("| baselines | the best is | mean difference | called better |\n|---|---|---|---|")
    for name in BASELINES:
        for how, (mean, share) in best_of_baselines(name, repeats // 2).items():
            print(f"| {name} | {how} | {mean:+.2f} | {share:.3f} |")


if __name__ == "__main__":
    main()
