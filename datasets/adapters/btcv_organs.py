"""Kidneys and pancreas of BTCV: healthy sets for KiTS23 and for task 7 of the Decathlon."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ..case import Case, Truth
from ..dataset import CaseRef, DatasetCard
from ..reading.orientation import AxisFlips, flips_from_liver
from ..reading.volume_io import Labels, Volume
from .btcv import BTCV, LIVER
from .surveying import Survey

KIDNEYS, PANCREAS = frozenset({2, 3}), frozenset({11})
_LIST = (
    "the scans are those that Chen et al., Towards Generalizable Tumor Synthesis, CVPR 2024, list as healthy for this "
    "organ; how they were chosen is not published"
)


def organ_card(organ: str, labels: str) -> DatasetCard:
    """Return the card of BTCV with another organ as region of interest."""
    return replace(
        BTCV.card,
        name=f"btcv-{organ}",
        title=f"BTCV: {organ} of scans listed as healthy",
        anatomy=organ,
        citation=f"{BTCV.card.citation}; {_LIST}",
        roi_source=labels,
        wraps="btcv",
    )


class BTCVOrgan(BTCV):
    """Base of a set that shows another organ of those BTCV scans that are listed as healthy for it."""

    listed: ClassVar[frozenset[int]]

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair as BTCV does, and keep the listed scans."""
        pairs = super().pair(files, survey)
        kept = {case: both for case, both in pairs.items() if int(case.removeprefix("img")) in self.listed}
        if left := len(pairs) - len(kept):
            survey.notes.append(f"{left} of {len(pairs)} scans are not listed as healthy for this organ: left out")
        return kept

    def anatomy(self, ref: CaseRef, volume: Volume, labels: Labels | None) -> AxisFlips | None:
        """Judge the axes by the liver, which the same file labels."""
        return None if labels is None else flips_from_liver(volume.data, labels.data == LIVER)

    def inspect(self, case: Case, truth: Truth | None) -> list[str]:
        return []


class BTCVKidney(BTCVOrgan):
    """Kidneys of BTCV, right (2) and left (3)."""

    card = organ_card("kidney", "labels 2 and 3 (right and left kidney)")
    roi_labels = KIDNEYS
    listed = frozenset({2, 4, 6, 22, 26, 28, 35})


class BTCVPancreas(BTCVOrgan):
    """The pancreas (11) of BTCV."""

    card = organ_card("pancreas", "label 11 (pancreas)")
    roi_labels = PANCREAS
    listed = frozenset({2, 4, 7, *range(21, 25), 26, 27, 28, 31, 33, 40})
