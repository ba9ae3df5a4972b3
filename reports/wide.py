"""Tables of a wide run, made from its shelf, the values of one metric at a time."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import pandas as pd

from ..benchmark.long_form import in_order, scores_of
from ..benchmark.runs.folder import RunFolder, RunFolderError
from ..benchmark.scores import Scores
from ..benchmark.shelves.shelf import Shelf
from .columns import ORDER, sort_rows
from .failing import Policy, with_worst
from .gain import tuned_gain
from .paired import paired_tests, run_references
from .ranks import ranks
from .refined import refined_gain
from .summary import summary
from .tables import Tables
from .trivial import best_trivials


class WideTables(Tables):
    """The tables of a run with so many records that their values are never held at once.

    ``per_case`` is no table of it: the shelf has these values as Parquet (docs/scale.md).
    """

    NAMES = tuple(name for name in Tables.NAMES if name != "per_case")

    def __init__(self, folder: RunFolder, shelf: Shelf, policy: Policy) -> None:
        super().__init__(lambda: shelf.briefs, folder.failures(), folder.skipped(), folder.info(), policy)
        self._shelf = shelf

    @cached_property
    def scores(self) -> list[Scores]:
        """Never held.

        Raises:
            RunFolderError: always; the other tables are there.
        """
        raise RunFolderError("a run of so many cells has its values a metric at a time (docs/scale.md), not at once")

    @cached_property
    def _joined(self) -> Mapping[str, pd.DataFrame]:
        """What is made of scores, of all metrics together."""
        found: dict[str, list[pd.DataFrame]] = {name: [] for name in ORDER}
        references = run_references(self.records, self.info)
        for of_metric in self._shelf.values():
            scores = in_order(score for values in of_metric for score in scores_of(values))
            scores = scores if self.policy == "exclude" else with_worst(scores, self.missing)
            best = best_trivials(scores, self.facts)
            found["summary"].append(summary(scores, self.facts, best))
            found["paired_tests"].append(paired_tests(scores, self.facts, references, best))
            found["ranks"].append(ranks(scores, self.facts))
            found["tuned"].append(tuned_gain(scores, self.facts))
            found["refined"].append(refined_gain(scores, self.facts))
        return {name: _together(name, frames) for name, frames in found.items()}

    @cached_property
    def summary(self) -> pd.DataFrame:
        return self._joined["summary"]

    @cached_property
    def paired_tests(self) -> pd.DataFrame:
        return self._joined["paired_tests"]

    @cached_property
    def ranks(self) -> pd.DataFrame:
        return self._joined["ranks"]

    @cached_property
    def tuned(self) -> pd.DataFrame:
        return self._joined["tuned"]

    @cached_property
    def refined(self) -> pd.DataFrame:
        return self._joined["refined"]


def _together(name: str, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    full = [frame for frame in frames if len(frame)] or frames[:1]
    return sort_rows(pd.concat(full, ignore_index=True), ORDER[name])


def wide_tables(folder: RunFolder, policy: Policy, tell: Callable[[str], None]) -> WideTables:
    """Bring the shelf of a run up to date and return its tables; ``tell`` hears how far that is.

    Raises:
        RecordError: a record is damaged.
    """
    shelf = Shelf(folder)
    for error in shelf.update(tell):
        raise error
    return WideTables(folder, shelf, policy)
