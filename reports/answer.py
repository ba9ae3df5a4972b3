"""The answer of a section: who won, by how much over what, and whether that is more than chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, deciding
from ..benchmark.scoring.metrics import needs_voxels, sign
from ..benchmark.statistics import ALPHA
from .columns import KINDS, flag_set, metric_name, records_of
from .formats import bracket, counted, p_value, percent, points
from .grid import reference_order
from .headline import NO_COMPETITOR, Headline, HeadlineRow, compared
from .legends import marked
from .paired import SECOND_REFERENCE
from .trivial import BEST_TRIVIAL

_TITLES = {
    "transductive": "Transductive method",
    "overlap": "Weights that had seen the test set",
    "labels-elsewhere": "Trained on masks of other sets",
    "topline": "Supervised top line",
    "whole-slices": "In whole slices",
}


@dataclass(frozen=True)
class Bar:
    """A mean with its interval in percent, as the small figure draws it; ``text`` is what it says in words."""

    label: str
    role: str
    mean: float
    low: float
    high: float
    text: str
    winner: bool


@dataclass(frozen=True)
class Verdict:
    """By how much the winner leads a reference, whether that is more than chance in plain words, and by what."""

    lead: str
    plain: str
    told: str

    @property
    def sentence(self) -> str:
        return f"{self.lead}: {self.plain} {self.told}"


@dataclass(frozen=True)
class Answer:
    """What a reader is told first.

    Attributes:
        first: who won with what value; empty where nothing is defined.
        verdicts: one per reference.
        others: what else a reader should know of: baselines, references that are no competitors.
        tests: the numbers behind the verdicts.
        bars: winner, references and the best trivial baseline.
        axis: name of the metric.
    """

    first: str = ""
    verdicts: tuple[Verdict, ...] = ()
    others: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()
    axis: str = ""

    @property
    def winner(self) -> str:
        return next((bar.label for bar in self.bars if bar.winner), "the best method")

    @property
    def top(self) -> int:
        """Where the axis of the bars ends: the next ten above them."""
        return min(100, 10 * math.ceil(max((bar.high for bar in self.bars), default=10) / 10) or 10)

    @property
    def sentences(self) -> list[str]:
        """Everything that is said, in reading order."""
        return [*filter(None, [self.first]), *(one.sentence for one in self.verdicts), *self.others, *self.tests]


def answer(headline: Headline, summary: pd.DataFrame, tests: pd.DataFrame) -> Answer:
    """Return the answer of a (dataset, train) pair."""
    protocol, metric = headline.verdict
    name = metric_name(metric, protocol)
    where = {"dataset": headline.dataset, "train": headline.train, "protocol": protocol, "metric": metric}
    unit = "patient" if needs_voxels(metric) else "slice"
    values = {r["method"]: r for r in records_of(summary, **where, unit=unit) if not pd.isna(r["mean"])}
    rows = [row for row in headline.rows if row.method in values]
    learned = [row for row in rows if not row.flags & NO_COMPETITOR]
    trivial = next((row for row in rows if "best-trivial" in row.flags), None)  # none with a single patient
    highest = next((row for row in rows if "trivial" in row.flags), None)
    best = headline.winner
    if best is None or best.method not in values:
        return Answer()
    n = counted(best.n_patients, "patient") if best.n_patients else counted(best.n_cases, "case")
    if not learned:
        first = f"No method that learns; {best.method} is the best trivial baseline"
    elif highest is not None and sign(metric) * (values[highest.method]["mean"] - values[best.method]["mean"]) > 0:
        first = f"{best.method} is the best method that learns, below the trivial baseline {highest.method}"
    else:
        first = f"{best.method} is best"
    first += f": {name} {_value(values[best.method])}, {n}, {counted(best.n_seeds, 'seed')}."
    pairs = [pair for (method, _), pair in compared(headline, tests).items() if method == best.method and learned]
    shown = sorted(pairs, key=lambda pair: reference_order(pair["reference"]))
    verdicts = [_verdict(pair, trivial) for pair in shown if pair["reference"] != SECOND_REFERENCE]
    others = []
    if trivial is not None and learned:
        beaten = [row for row in learned if "below-best-trivial" not in row.flags]
        others.append(f"The best trivial baseline, {trivial.method}, reaches {_value(values[trivial.method])}.")
        verb = "is" if len(beaten) == 1 else "are"
        others.append(f"{len(beaten)} of {counted(len(learned), 'learning method')} {verb} shown to beat it.")
    others += _without_labels(headline, summary, best.method)
    for flag, title in _TITLES.items():
        named = [row.method for row in rows if flag in row.flags and "refined" not in row.flags]
        others += [f"{title} {method}: {_value(values[method])}." for method in named]
    fixed = [pair["reference"] for pair in shown if pair["reference"] != SECOND_REFERENCE]
    return Answer(
        first,
        tuple(verdicts),
        tuple(others),
        tuple(_tested(pair) for pair in shown),
        _bars(
            best, bool(learned), [reference for reference in fixed if reference in values], trivial or highest, values
        ),
        name,
    )


def _without_labels(headline: Headline, summary: pd.DataFrame, best: str) -> list[str]:
    """Say who is first at a threshold that needs no lesion label, where the one that orders the table sees some."""
    protocol, metric = headline.verdict
    if protocol not in PROTOCOLS or PROTOCOLS[protocol].sees_labels == "no":
        return []
    free = next(name for name in deciding() if PROTOCOLS[name].sees_labels == "no")
    where = {"dataset": headline.dataset, "train": headline.train, "protocol": free, "metric": metric}
    rows = [r for r in records_of(summary, **where, unit="patient") if not pd.isna(r["mean"])]
    kinds = {row.method: row.flags for row in headline.rows}
    rows = [r for r in rows if not kinds[r["method"]] & {*KINDS}]
    if not rows:
        return []
    first = max(rows, key=lambda r: sign(metric) * r["mean"])
    told = f"Thresholds of {protocol} see labels {PROTOCOLS[protocol].sees_labels}. At {free}, without any, "
    own = next((f"; {best} has {_value(r)}" for r in rows if r["method"] == best != first["method"]), "")
    return [f"{told}{first['method']} is first with {_value(first)}{own}."]


def _value(row: dict) -> str:
    interval = marked(bracket(row["ci_low"], row["ci_high"]), flag_set(row["flags"]))
    return " ".join(filter(None, [f"{percent(row['mean'])} %", interval]))


def _verdict(pair: dict, trivial: HeadlineRow | None) -> Verdict:
    if pair["reference"] == BEST_TRIVIAL:
        named = "the best trivial baseline" + (f" ({trivial.method})" if trivial else "")
    else:
        named = f"{pair['reference']}, the reference fixed beforehand"
    gain = pair["mean_diff"]
    lead = f"{points(-gain)[1:]} points below {named}" if gain < 0 else f"{points(gain)} points over {named}"
    if pair["reference"] == BEST_TRIVIAL and gain <= 0:
        return Verdict(lead, "no gain", "to test.")
    p, patients = pair["p_holm_crossed"], counted(pair["n"], "patient")
    if pd.isna(p):
        return Verdict(lead, "not tested", f"({pair['reason'] or 'undefined'}).")
    told = f"(p {_equals(p)} after correction for {counted(pair['n_family'], 'competitor')})"
    if p <= ALPHA:
        return Verdict(lead, f"significantly {'better' if gain > 0 else 'worse'}", f"{told}.")
    least = pair["detectable_crossed"]
    limit = f"can show differences of {percent(least)} points and more" if least <= 1 else "cannot show any difference"
    return Verdict(lead, "not significant", f"{told}; {patients} with this spread {limit}.")


def _tested(pair: dict) -> str:
    """Return the numbers of one test."""
    against = "the best trivial" if pair["reference"] == BEST_TRIVIAL else pair["reference"]
    led = f"{pair['method']} against {against}: {points(pair['mean_diff'])} points"
    if pd.isna(pair["p_holm_crossed"]):
        return f"{led}, no test ({pair['reason'] or 'undefined'})."
    alone = f"p {_equals(pair['p_crossed'])}"
    if shown := bracket(pair["crossed_low"], pair["crossed_high"], signed=True):
        alone = f"interval {shown}, {alone}"
    return (
        f"{led}, {counted(pair['n'], 'patient')}; alone {alone}; among {counted(pair['n_family'], 'competitor')} "
        f"p {_equals(pair['p_holm_crossed'])} after Holm."
    )


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _bars(
    best: HeadlineRow, learned: bool, references: Sequence[str], trivial: HeadlineRow | None, values: dict[str, dict]
) -> tuple[Bar, ...]:
    roles = {best.method: "best that learns" if learned else "best"}
    roles |= {name: "reference" for name in references if name not in roles}
    if trivial is not None and trivial.method != best.method:
        known = roles.get(trivial.method)
        roles[trivial.method] = f"{known}, best trivial" if known else "best trivial"
    found = []
    for name, role in sorted(roles.items(), key=lambda item: -values[item[0]]["mean"]):
        row = values[name]
        mean, low, high = (100 * float(row[key]) for key in ("mean", "ci_low", "ci_high"))
        low, high = (mean if pd.isna(bound) else bound for bound in (low, high))
        first = name == best.method
        found.append(Bar(name, role, mean, max(0.0, low), min(100.0, high), _value(row), first))
    return tuple(found)
