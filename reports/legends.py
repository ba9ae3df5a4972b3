"""Sentences and marks that tables share: what a number is not, and what a reader has to know beside it."""

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any

from .columns import flag_set, kind_marks

BANNERS = {
    "smoke": "SMOKE profile: a few training steps; no claim about any method.",
    "quick": "QUICK profile: a plumbing test, networks have barely learned.",
    "phantom": "PHANTOM: synthetic data. No number here says anything about patients.",
    "planted": "PLANTED: synthetic lesions in healthy scans, on which settings are chosen.",
}
"""What a table says first where all its rows carry the flag, or of the phantom any."""
CAUTIONS = {
    "small-n": "Fewer than 50 patients: intervals and tests depend on the shape of the values.",
    "few-seeds": "A method with one seed or fewer than its card asks for: how its seeds differ is not known.",
}
"""What a table says where any of its numbers carries the flag."""
INTERVALS = {
    "skewed": "≈ values so skewed for the number of patients that the interval covers less than it says.",
    "seeds-only": "# the interval is over seeds alone and says nothing of new patients: the records lack values that "
    "leave a patient out; bench rescore adds them.",
}
"""What an interval is not: the marks that follow it."""


def marked(interval: str, flags: Container[str]) -> str:
    """Return an interval with the marks that its flags ask for, empty where there is none."""
    return interval and interval + "".join(sentence[0] for flag, sentence in INTERVALS.items() if flag in flags)


def interval_sentences(intervals: Iterable[str]) -> list[str]:
    """Return the sentences that explain the marks of some intervals."""
    printed = "".join(intervals)
    return [sentence for sentence in INTERVALS.values() if sentence[0] in printed]


def family(rows: Iterable[Mapping[str, Any]], p: str = "p_holm_crossed") -> str:
    """Say over how many methods Holm's correction of the column ``p`` runs, by kind; empty where none was tested.

    >>> family([{"flags": "", "p_holm": 0.1}, {"flags": "topline", "p_holm": 0.1}], "p_holm")
    'the 1 competitor and, apart, the 1 method marked §'
    """
    sizes = Counter(kind_marks(flag_set(row["flags"])) for row in rows if not math.isnan(row[p]))
    told = []
    for kind, n in sorted(sizes.items()):
        plural = "" if n == 1 else "s"
        told.append(f"{n} method{plural} marked {kind}" if kind else f"{n} competitor{plural}")
    return f"the {' and, apart, the '.join(told)}" if told else ""


def families(by_name: Mapping[str, str]) -> str:
    """Return several families as one phrase, with the names of those that have each; empty where none was tested.

    >>> families({"draem": "the 6 competitors", "†": "the 3 competitors", "‡": "the 3 competitors"})
    'the 6 competitors (draem), the 3 competitors (†, ‡)'
    """
    names: dict[str, list[str]] = {}
    for name, phrase in by_name.items():
        if phrase:
            names.setdefault(phrase, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return ", ".join(f"{phrase} ({', '.join(own)})" for phrase, own in names.items())
