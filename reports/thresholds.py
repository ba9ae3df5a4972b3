"""The thresholds of a run as a frame."""

from collections.abc import Sequence

import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS
from ..benchmark.runs.records import Record, Threshold

CELL = ["dataset", "train", "method", "seed"]
THRESHOLDS = [*CELL, *Threshold.model_fields]


def thresholds(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per cell and threshold, in reading order of the protocols.

    The columns are the names of the cell, then those of :class:`..benchmark.runs.records.Threshold`; ``patients``,
    ``tuned_on`` and ``drawn`` hold tuples of names.
    """
    rows = []
    for record in records:
        for threshold in record.thresholds:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in threshold.model_dump().items()}
            rows.append(record.cell.model_dump(include={*CELL}) | values)
    frame = pd.DataFrame(rows, columns=THRESHOLDS)
    frame["fold"] = frame["fold"].astype("Int64")
    for name in ("threshold", "quantile", "value"):
        frame[name] = frame[name].astype("float64")
    order = {protocol: place for place, protocol in enumerate(PROTOCOLS)}
    place = frame["protocol"].map(lambda name: order.get(name, len(order)))
    return (
        frame.assign(place=place)
        .sort_values([*CELL, "place", "fold"], kind="stable")
        .drop(columns="place")
        .reset_index(drop=True)
    )
