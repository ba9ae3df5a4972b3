"""The masks that protocols make of a case on the native grid, as they were measured."""

from collections.abc import Iterable, Iterator

import numpy as np

from ..runs.records import Threshold
from ..scoring.cases import CroppedCase, ScoredCase
from .catalogue import NATIVE, PROTOCOLS


def predicted_masks(
    case: ScoredCase, map_: np.ndarray, counted: np.ndarray, thresholds: Iterable[Threshold]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the protocols that predict on the native grid with their masks, bool (z, y, x).

    ``map_`` (float32) and ``counted`` (bool) are the native map of the case and the region in which it is measured. A
    protocol without a threshold for the patient of the case, or with a grid of its own, has no mask.
    """
    cropped, own = CroppedCase.of(case.id, map_, counted, case.spacing), case.native_mask()
    for threshold in thresholds:
        if case.patient not in threshold.patients or PROTOCOLS[threshold.protocol].grid is not None:
            continue
        if threshold.protocol == NATIVE and own is not None:
            yield NATIVE, own & counted
        elif threshold.threshold is not None:
            mask = np.zeros(counted.shape, bool)
            mask[cropped.box] = cropped.binarise(threshold)
            yield threshold.protocol, mask
