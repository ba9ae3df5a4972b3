"""The scans that a record on a phantom was measured on, made again from their seed."""

from collections.abc import Iterator

import numpy as np

from ...benchmark.catalogue import registry
from ...benchmark.locations import cache_root
from ...benchmark.runs.records import Record
from ...datasets.case import Case
from ...datasets.phantom.disk import phantom_root


def lesion_cases(record: Record) -> Iterator[tuple[Case, np.ndarray]]:
    """Yield the cases of a record with their lesions inside the organ.

    Raises:
        SystemExit: the record was not made on a phantom.
    """
    phantom = record.data.phantom
    if phantom is None:
        raise SystemExit(f"{record.cell.dataset} is no phantom")
    root = phantom_root(
        cache_root() / "phantom", anatomy=record.data.anatomy, seed=phantom["seed"], size=phantom["size"]
    )
    tests = registry.datasets().get(record.cell.dataset)()
    for scan in tests.discover(root):
        case = tests.load(scan.id)
        yield case, tests.load_truth(scan.id).lesion & case.roi
