"""A number that a paper prints: how it reads, and where a run has its counterpart."""

import re

from pydantic import BaseModel

COSTS = {"s_per_slice": "Scoring, s per slice"}
"""What papers print of the columns of cost.csv, as tables call it."""
NOT_SIGNIFICANT = "none"
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?( s)?(?: (\*+))?")


class Stars(BaseModel, extra="forbid", frozen=True):
    """What the asterisks of a table say: how likely a paired t-test takes chance alone to be, against one of its rows.

    Attributes:
        against: that row.
        levels: the largest p by asterisks.
    """

    against: str
    levels: dict[str, float]

    def of(self, p: float) -> str:
        """Return the asterisks that a p has, ``none`` for one without.

        >>> Stars(against="baseline", levels={"*": 0.05, "**": 0.001}).of(0.05)
        '*'
        """
        reached = [mark for mark, level in self.levels.items() if p <= level]
        return max(reached, key=len, default=NOT_SIGNIFICANT)


class Printed(BaseModel, extra="forbid"):
    """A number that a paper prints, in per cent or what its metric is in, and where a run has its counterpart.

    A metric of ``COSTS`` has neither protocol nor unit. ``stars`` are the asterisks that follow the number where its
    table has such, ``none`` without, and ``test`` says what they mean. ``of`` is empty for a counterpart; else it says
    what the number is of, ours is no more than the nearest thing to it, and no difference is formed.
    """

    row: str
    dataset: str
    metric: str
    protocol: str = ""
    unit: str = ""
    value: float
    std: float | None = None
    stars: str = ""
    test: Stars | None = None
    of: str = ""


def parts(text: str) -> tuple[float, float | None, bool, str]:
    """Return value, spread, whether it is in seconds, and asterisks of a number as ``published.yaml`` has it.

    Raises:
        ValueError: it is no such number.

    >>> parts("30.17 ± 5.50 *"), parts("0.018 s")
    ((30.17, 5.5, False, '*'), (0.018, None, True, ''))
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no number such as '53.03 ± 1.78', '53.03 ± 1.78 **' or '0.018 s'")
    return float(found[1]), float(found[2]) if found[2] else None, bool(found[3]), found[4] or ""
