"""The contracts of a method and of a top line: what a contributor writes and what the engine relies on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .card import MethodCard
from .config import Config, SliceConfig
from .context import FitContext
from .pretraining import Pretraining
from .state import load_state, save_state

if TYPE_CHECKING:
    import numpy as np

    from ..datasets.case import Case, Region, Spacing
    from ..datasets.healthy import HealthySet
    from ..datasets.labelled import LabelledSet


class Method:
    """A method learns from healthy scans in :meth:`fit` and returns an anomaly map from :meth:`score`.

    A subclass declares ``card``; it may declare a ``Config``, a ``view`` and any of the optional members below. With a
    view it implements :meth:`score_view`, else :meth:`score`. The engine seeds every generator before it constructs the
    method and calls :meth:`build`, moves the networks to ``device``, then calls :meth:`fit`.

    Attributes:
        requires: packages that workers import before the method; where one is missing the method is skipped.
        needs: what else a list should name, such as a package that :meth:`skip` looks for.
        tuned: what a tuner may change: by setting a list to choose from, or the least and the largest float or whole
            number, with ``"log"`` or a step as a third entry.
        native_threshold: the method's own decision threshold on its map, where it has one.
        device: torch device string of the networks, set by the engine before fit and score.
    """

    card: ClassVar[MethodCard]
    Config: ClassVar[type[Config]] = Config
    requires: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    tuned: ClassVar[Mapping[str, list | tuple]] = {}
    native_threshold: float | None = None
    device: str = "cpu"

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @property
    def view(self) -> Any:
        """The view that the method works on, a ``View`` or a ``VolumeView``, by default that of its settings.

        None means the native grid.
        """
        return self.config.view if isinstance(self.config, SliceConfig) else None

    @property
    def members(self) -> int | tuple[int, ...] | None:
        """Number of independent trainings whose median is the map, or which of them, counted from 0.

        None is one training under the run's own seed. Member ``i`` is a fit stage of its own, seeded by the run's seed
        and ``i`` alone, so that a run with more members keeps the fits of one with fewer, and a row with single ones
        trains these alone. It may depend on settings of the score stage only.
        """
        return None

    @property
    def region(self) -> Region:
        """Where the map is measured: inside the region of interest, or in whole ``slices`` that show it.

        Every table marks the latter, whose numbers are not comparable with others. It needs a view that is not masked,
        or none, and may depend on settings of the score stage only.
        """
        return "roi"

    @property
    def pretraining(self) -> Pretraining:
        """What the weights that this configuration starts from were made of, by default what the card says.

        A row whose test set is named there is marked, and refused where masks of it were seen.
        """
        return self.card.pretraining

    @property
    def min_patients(self) -> int:
        """The fewest healthy patients that the method learns from; with fewer its row is skipped with that reason."""
        return 1

    def skip(self) -> str | None:
        """Return why the method cannot run here (a missing package, weights, an anatomy), or None."""
        return None

    def build(self) -> None:
        """Create the networks as attributes; called after seeding and before fit, and before a state is loaded."""

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Learn from healthy scans."""
        raise TypeError(f"{type(self).__name__} has no fit(healthy, ctx)")

    def score(self, case: Case) -> np.ndarray:
        """Return the anomaly map of a case on its own grid.

        Returns:
            float32, shape of ``case.image``, larger = more anomalous; only values inside ``case.roi`` count.
        """
        if self.view is None:
            raise TypeError(f"{type(self).__name__} needs score(case), or a view and score_view(array, roi, spacing)")
        from ..datasets.views.volume_view import apply_view

        seen = apply_view(case, self.view)
        spacing = getattr(seen.geometry, "spacing", case.spacing)
        return seen.to_native(self.score_view(seen.image, seen.roi, spacing))

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the anomaly map on the view's grid.

        Args:
            array: shape (slices, size, size), in the dtype of the view (floating in [0, 1] or uint8).
            roi: bool, same shape.
            spacing: voxel size in mm, order z, y, x: of the scan for slices, of the grid for a volume.

        Returns:
            float32, same shape.
        """
        raise TypeError(f"{type(self).__name__} declares a view and must implement score_view(array, roi, spacing)")

    # A method may also define ``postprocess(case, scores) -> bool mask`` on the native grid, or, with a view,
    # ``postprocess_view(array, roi, scores, spacing) -> bool mask`` on the view's grid, which is mapped back by nearest
    # voxel: its own decision, which replaces ``map > native_threshold`` under protocol ``native``.
    # With a view it may define ``restore_view(array, roi, scores, spacing) -> dict of arrays``: what it makes of a scan
    # on the way to its map or its decision, such as a restoration, by title and on the view's grid; float arrays are
    # shown like the input, bool ones as masks. They are kept and drawn with ``--keep restorations``.

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        """Return what training looks at, by title: float arrays (n, H, W) in [0, 1]; for ``bench preview``."""
        raise TypeError(f"{type(self).__name__} has no preview: it trains on plain healthy scans")

    def provenance(self) -> dict[str, str]:
        """Return what a reader should know about a fitted method's origin, such as its weights and their hash.

        It is asked after :meth:`fit`, kept in every record and shown in the report.
        """
        return {}

    def extra_identity(self) -> str:
        """Return what changes a fit beside source and settings, such as the hash of local weights.

        It is asked before :meth:`build` and enters the address of the fit.
        """
        return ""

    def search_space(self, trial: Any) -> dict[str, Any]:
        """Suggest the settings in ``tuned`` to a tuner, with Optuna's trial interface; {} means nothing to tune."""
        return {name: _suggested(trial, name, choice) for name, choice in self.tuned.items()}

    def save(self, path: Path) -> None:
        """Write the learned state: networks, tensors, arrays, numbers and plain containers of these."""
        save_state(self, path)

    def load(self, path: Path) -> None:
        """Read what :meth:`save` wrote (``weights_only``), building the networks first."""
        load_state(self, path)


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


def _suggested(trial: Any, name: str, choice: list | tuple) -> Any:
    if isinstance(choice, list):
        return trial.suggest_categorical(name, choice)
    low, high, *how = choice
    options = {"log": True} if how == ["log"] else {"step": how[0]} if how else {}
    return (trial.suggest_int if isinstance(low, int) else trial.suggest_float)(name, low, high, **options)
