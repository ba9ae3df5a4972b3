"""Sentences and marks that tables share: what a number is not, and what a reader has to know beside it."""

from collections.abc import Container, Iterable

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
