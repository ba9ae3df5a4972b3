"""What libraries say while a scan is read: a note of that scan, instead of a line on a terminal without a file name."""

import warnings
from dataclasses import replace

from ...common.errors import shortened
from ..case import Case, Note
from ..dataset import Dataset
from ..readers import printed

MOST_NOTES = 5
_FOR_PROGRAMMERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)


def loaded(dataset: Dataset, case_id: str) -> Case:
    """Load a case; Python's warnings, and what a reader process prints, become notes of it, each once.

    Raises:
        DataError: as :meth:`Dataset.load`.
    """
    printed()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case = dataset.load(case_id)
    told = [str(one.message) for one in caught if not issubclass(one.category, _FOR_PROGRAMMERS)]
    told += printed().splitlines()
    notes = dict.fromkeys(Note(f"while reading: {shortened(text, 200)}") for text in told if text.strip())
    return replace(case, notes=(*case.notes, *list(notes)[:MOST_NOTES])) if notes else case
