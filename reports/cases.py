"""The table of cases: what each test case is like, whatever a method makes of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..benchmark.runs.records import Record
from ..benchmark.scoring.metrics import SLICE_LABELS_ONLY
from ..datasets.case import Trust
from .columns import CASES, flag_text, record_flags, sort_rows

NOT_DESCRIBED = "its records are of an earlier version, which described no case; 'bench rescore' does"
_INTEGERS = ("slices", "lesion_slices", "n_lesions")
_LENGTHS = ("spacing_z", "spacing_y", "spacing_x")
_FLOATS = (*_LENGTHS, "organ_ml", "lesion_ml", "noise_hu", "contrast_hu", "contrast_noise")


def cases(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per data set and case; a record that measured in the organ tells of it, where there is one."""
    told: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda r: (not r.data.facts, r.method.region != "roi")):
        for case in record.data.cases:
            told.setdefault((record.cell.dataset, case), record)
    rows = [_row(dataset, case, record) for (dataset, case), record in told.items()]
    types = dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_FLOATS, "float64")
    return sort_rows(pd.DataFrame(rows, columns=CASES).astype(types), ["dataset", "patient", "case"])


def _row(dataset: str, case: str, record: Record) -> dict:
    data = record.data
    trust, facts = data.trust.get(case, Trust()), data.facts.get(case)
    row = {
        "dataset": dataset, "case": case, "patient": data.patients[case], "spacing_source": trust.spacing_source,
        "spacing_trusted": trust.spacing_trusted, "orientation_source": trust.orientation_source,
        "flags": flag_text(record_flags(record) & {"phantom", "planted"}),
    }  # fmt: skip
    if facts is None:
        return row | {"reason": NOT_DESCRIBED}
    noise, contrast = facts.noise_hu, facts.contrast_hu
    return row | {
        **facts.model_dump(exclude={"spacing", "lesions"}),
        **dict(zip(_LENGTHS, facts.spacing, strict=True)),
        "n_lesions": None if facts.lesions is None else len(facts.lesions),
        "contrast_noise": contrast / noise if contrast is not None and noise else np.nan,
        "reason": SLICE_LABELS_ONLY if facts.lesions is None else "",
    }


def with_cases(per_case: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Return values per case beside what each case is like."""
    facts = cases.drop(columns=["patient", "flags", "reason"])
    return per_case.merge(facts, how="left", on=["dataset", "case"], validate="many_to_one")
