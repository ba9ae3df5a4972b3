"""Where the best method fails: its worst patients, and which lesions it finds."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ..benchmark.scoring.detection import CONTRAST_BINS, VOLUME_BINS, Bin
from .columns import metric_name, records_of
from .details import detailed_protocol, lesions_of
from .formats import percent
from .headline import Headline
from .tables import Tables

WORST = 3


def shortfalls(headline: Headline, tables: Tables) -> tuple[str, ...]:
    """Return sentences on the winner; none where no voxel metric orders the table."""
    best = headline.winner
    if best is None or headline.slices_only:
        return ()
    return (*_patients(headline, tables, best.method), *_lesions(headline, tables, best.method))


def _patients(headline: Headline, tables: Tables, method: str) -> Iterator[str]:
    where = (method, headline.dataset, headline.train, *headline.verdict)
    values = next((s.by_patient for s in tables.scores if tuple(s.key) == where and s.unit == "patient"), {})
    cases = tables.cases.loc[tables.cases["dataset"] == headline.dataset, :]
    worst = sorted(values.items(), key=lambda item: (item[1], item[0]))[:WORST]
    if len(values) > WORST:
        told = [f"{patient} {percent(value)} %{_like(cases, patient)}" for patient, value in worst]
        yield f"Its worst patients, {metric_name(headline.verdict[1], headline.verdict[0])}: {'; '.join(told)}."


def _like(cases: pd.DataFrame, patient: str) -> str:
    """Say what the lesions of a patient are like, where that is known."""
    own = cases.loc[cases["patient"] == patient, :]
    ml, contrast = own["lesion_ml"].sum(min_count=1), own["contrast_hu"].mean()
    parts = [] if pd.isna(ml) else [f"{ml:.3g} ml of lesions"]
    parts += [] if pd.isna(contrast) else [f"{contrast:+.0f} HU".replace("-", "−")]
    return f" ({', '.join(parts)})" if parts else ""


def _lesions(headline: Headline, tables: Tables, method: str) -> Iterator[str]:
    protocol = detailed_protocol(headline)
    rows = records_of(
        tables.summary, dataset=headline.dataset, train=headline.train, method=method, protocol=protocol, unit="pooled"
    )
    recall = {r["metric"]: r["mean"] for r in rows if not pd.isna(r["mean"])}
    ml, contrast = lesions_of(headline, tables)
    for what, bins, values in (("by volume", VOLUME_BINS, ml), ("by contrast", CONTRAST_BINS, contrast)):
        if told := _found(bins, values, recall):
            yield f"Lesions found at the {protocol} threshold, {what}: {'; '.join(told)}."


def _found(bins: Sequence[Bin], values: np.ndarray, recall: dict[str, float]) -> list[str]:
    return [
        f"{part.title.removeprefix('contrast ').removeprefix('of ')}: {percent(share)} % of {part.holds(values).sum()}"
        for part in bins
        if (share := recall.get(f"lesion_recall_{part.id}")) is not None
    ]
