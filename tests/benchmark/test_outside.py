"""A lesion that leaves the region of interest is remarked on, because that part of it is never measured."""

import numpy as np
import pytest
from uasbench.benchmark.scoring.cases import ArrayCase
from uasbench.benchmark.stages.measure import outside_note
from uasbench.datasets.case import Case, Truth


@pytest.mark.parametrize(
    ("lesion", "outside", "note"),
    [
        (100, 0, ""),
        (95, 5, ""),
        (94, 6, "6 % of the lesion"),
        (0, 100, "100 % of the lesion"),
        (0, 0, ""),
        (None, 0, ""),
    ],
)
def test_more_than_five_per_cent_outside_is_noted(lesion, outside, note):
    roi = np.zeros((1, 2, 100), bool)
    roi[0, 0] = True
    mask = np.zeros_like(roi)
    mask[0, 0, : lesion or 0] = True
    mask[0, 1, :outside] = True
    scan = Case("c", "p", np.zeros(roi.shape, np.float32), (1, 1, 1), roi)
    truth = Truth("c", None if lesion is None else mask)
    found = outside_note(ArrayCase(scan, np.zeros(roi.shape, np.float32), truth))
    assert (found or "").startswith(note)
    assert bool(found) == bool(note)
