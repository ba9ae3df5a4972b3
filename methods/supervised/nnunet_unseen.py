"""nnU-Net trained on the other lesion sets: what labels of other hospitals are worth."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..card import MethodCard
from .nnunet import NNUNet


class NNUNetUnseen(NNUNet):
    """Trains nnU-Net on all lesion sets of the organ but the one that it is tested on."""

    card = MethodCard(
        name="nnunet-unseen",
        title="nnU-Net-Unseen",
        year=2021,
        supervision="full",
        family="supervised",
        citation=NNUNet.card.citation,
        reference=NNUNet.card.reference,
        uses="labels",
        published=(
            ("Yao et al. 2021, Table III", "coronacases", "dice", "77.1 ± 10.2", "version 1, two other sets"),
            ("Yao et al. 2021, Table III", "coronacases", "psc", "81.1 ± 11.0", "version 1, two other sets"),
            ("Yao et al. 2021, Table III", "coronacases", "sen", "75.9 ± 15.9", "version 1, two other sets"),
            ("Yao et al. 2021, Table III", "radiopaedia", "dice", "73.9 ± 9.45", "version 1, two other sets"),
            ("Yao et al. 2021, Table III", "radiopaedia", "psc", "66.9 ± 13.4", "version 1, two other sets"),
            ("Yao et al. 2021, Table III", "radiopaedia", "sen", "85.3 ± 9.85", "version 1, two other sets"),
        ),
        figures=NNUNet.card.figures,
        notes="As nnunet, trained on the other lesion sets of the organ in the data root and never on a case of the "
        "tested set. The paper trains on two sets and does not name the third; how many there were is in the record.",
    )
    training: ClassVar[Literal["cross-fit", "unseen"]] = "unseen"
