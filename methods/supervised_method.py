"""The contract of a top line: a method that learns from lesion labels, under rules that the engine enforces."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from .context import FitContext
from .method import Method

if TYPE_CHECKING:
    from ..datasets.labelled import LabelledSet


class SupervisedMethod(Method):
    """Learns from lesion masks; its card says ``supervision="full"`` and ``uses="labels"``.

    It is registered in the entry-point group ``uasbench.toplines``, is never part of ``all``, and every table marks it.

    Attributes:
        training: ``cross-fit`` trains one model per fold of the test set's patients, and each case is mapped by the
            model that saw none of its patient's scans; ``unseen`` trains one model on the other lesion sets of the data
            root that show the same organ, and on no case of the test set.
    """

    training: ClassVar[Literal["cross-fit", "unseen"]] = "cross-fit"

    def fit(self, labelled: LabelledSet, ctx: FitContext) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Learn from scans with lesion masks."""
        raise TypeError(f"{type(self).__name__} has no fit(labelled, ctx)")
