"""A lesion that leaves the region of interest is remarked on, because that part of it is never measured."""

import numpy as np
import pytest
from uasbench.benchmark.scoring.cases import ArrayCase
from uasbench.benchmark.stages.measure import outside_note
from uasbench.datasets.case import Case, Truth


@pytest.mark.parametrize(
    ("outside", "note"), [(0, None), (5, None), (6, "6 % of the lesion"), (100, "100 % of the lesion")]
)
def test_more_than_five_per_cent_outside_is_noted(outside, note):
    roi = np.zeros((1, 2, 100), bool)
    roi[0, 0] = True
    lesion = np.zeros_like(roi)
    lesion[0, 0, outside:] = True
    lesion[0, 1, :outside] = True
    scan = Case("c", "p", np.zeros(roi.shape, np.float32), (1, 1, 1), roi)
    found = outside_note(ArrayCase(scan, np.zeros(roi.shape, np.float32), Truth("c", lesion)))
    assert found is None if note is None else str(found).startswith(note)


@pytest.mark.parametrize("lesion", [None, np.zeros((1, 2, 100), bool)])
def test_no_lesion_no_note(lesion):
    roi = np.ones((1, 2, 100), bool)
    scan = Case("c", "p", np.zeros(roi.shape, np.float32), (1, 1, 1), roi)
    assert outside_note(ArrayCase(scan, np.zeros(roi.shape, np.float32), Truth("c", lesion))) is None
