"""nnU-Net trained on the other lesion sets: what labels of other hospitals are worth."""

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
        figures=NNUNet.card.figures,
        notes="As nnunet, trained on the other lesion sets of the organ in the data root and never on a case of the "
        "tested set. The paper trains on two sets and does not name the third; how many there were is in the record.",
    )
    training: ClassVar[Literal["cross-fit", "unseen"]] = "unseen"
