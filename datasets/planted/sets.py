"""Held-out patients of a healthy set with lesions planted into their scans."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...common.errors import DataError
from ...common.seeds import derive
from ..adapters.btcv import BTCV
from ..adapters.luna16 import LUNA16
from ..case import Case, Truth, warning
from ..dataset import CaseRef, Dataset, DatasetCard
from .lesions import Grown, grow

SHARE, MOST = 0.25, 8
SEED = 0


def planted_card(healthy: DatasetCard, reference: str) -> DatasetCard:
    """Return the card of a healthy set's scans with planted lesions."""
    return replace(
        healthy,
        name=f"{healthy.name}-planted",
        title=f"{healthy.title}: held-out patients with planted lesions",
        role="planted",
        citation=f"{healthy.citation}. The lesions are synthetic",
        partner=healthy.name,
        reference=reference,
        truth="voxel",
    )


class Planted(Dataset):
    """A quarter of the patients of a healthy set, one at least and eight at most, with synthetic lesions.

    It is there to choose settings without a lesion label: its patients train nothing (they are told by their slices),
    and what is reached on it says nothing about lesions of patients. Which patients, and their lesions, follow from
    their names alone. A set for another organ names its healthy set as ``healthy`` and has a :func:`planted_card`.
    """

    healthy: ClassVar[type[Dataset]]

    def __init__(self) -> None:
        self._scans = self.healthy()

    def discover(self, root: Path) -> list[CaseRef]:
        """List the cases of the chosen patients, as the healthy set names them.

        Raises:
            DataError: as the healthy set, or it has one patient.
        """
        refs = self._scans.discover(root)
        people = {ref.patient for ref in refs}
        if len(people) < 2:
            raise DataError(f"{root}: {self.card.name} needs two patients in {self.card.partner}: one has to train")
        count = min(MOST, max(1, round(SHARE * len(people))))
        chosen = sorted(people, key=lambda person: (derive(SEED, "planted", person), person))[:count]
        return [ref for ref in refs if ref.patient in chosen]

    def load(self, case_id: str) -> Case:
        """Read a healthy scan and let its lesions grow."""
        case = self._scans.load(case_id)
        note = warning("its lesions are synthetic, planted into a healthy scan")
        return replace(case, image=self._grown(case).image, notes=(*case.notes, note))

    def load_truth(self, case_id: str) -> Truth:
        """Return where the lesions grew."""
        lesion = self._grown(self._scans.load(case_id)).lesion
        return Truth(case_id, lesion, np.asarray(lesion.any(axis=(1, 2))))

    def _grown(self, case: Case) -> Grown:
        rng = np.random.default_rng(derive(SEED, "planted lesions", case.id))
        return grow(case.image, case.roi, case.spacing, rng)


class BTCVPlanted(Planted):
    """Livers of BTCV with planted lesions."""

    card = planted_card(BTCV.card, "hu-deviation")
    healthy = BTCV


class LUNA16Planted(Planted):
    """Lungs of LUNA16 with planted lesions."""

    card = planted_card(LUNA16.card, "hu-opened")
    healthy = LUNA16
