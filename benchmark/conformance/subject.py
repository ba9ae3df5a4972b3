"""A method under test, and the runs that its checks share."""

import sys
from functools import cached_property
from typing import Any

import numpy as np

from ...common.package import is_own, target_of
from ...datasets.case import Case
from ...datasets.healthy import HealthySet
from ...datasets.labelled import LabelledSet
from ...datasets.views.volume_geometry import ViewedCase
from ...datasets.views.volume_view import apply_view
from ...methods.config import resolve
from ...methods.context import FitContext
from ..stages import drive
from .phantom import healthy_cases, labelled_cases, lesion_cases

PACKAGE = __name__.partition(".")[0]
TOLERANCE = 1e-4


def importable(cls: type) -> bool:
    """Whether a new process finds the class by its name; that of a notebook or a test is forked instead."""
    module = sys.modules.get(cls.__module__)
    if cls.__module__ == "__main__" or getattr(module, cls.__qualname__, None) is not cls:
        return False
    head = cls.__module__.partition(".")[0]
    return any(finder.find_spec(head, None) for finder in sys.meta_path)


class Broken(Exception):  # noqa: N818
    """The method breaks a promise; the text says which and how to keep it."""


class NotApplicable(Exception):  # noqa: N818
    """The method makes no such promise."""


class Unavailable(NotApplicable):
    """The method declines to run here; nothing that runs it can be checked."""


class Subject:
    """A method under test with the scans that the checks use; every call gets fresh copies of them."""

    def __init__(self, cls: Any, anatomy: str, device: str) -> None:
        self.cls = cls
        self.anatomy = anatomy
        self.device = device
        self.uses = cls.card.uses
        self.target = target_of(cls) if importable(cls) else None
        self.built_in = is_own(target_of(cls))

    def config(self, profile: str = "smoke", **settings: Any) -> Any:
        return resolve(self.cls.Config, profile, self.anatomy, settings)

    def scans(self, *, filled: bool = False) -> HealthySet | LabelledSet:
        """Return the training scans: three healthy ones, or four with lesion masks for a top line."""
        if self.uses == "labels":
            return LabelledSet.from_cases(labelled_cases(self.anatomy, filled=filled))
        return HealthySet.from_cases(healthy_cases(self.anatomy, 3, filled=filled))

    def unlabelled(self, *, filled: bool = False) -> HealthySet | None:
        """Return the scans that will be scored, without their lesion masks, for a method that may see them."""
        if self.uses != "unlabelled-test":
            return None
        return HealthySet.from_cases(case for case, _ in lesion_cases(self.anatomy, filled=filled))

    def cases(self) -> list[Case]:
        """Return two scans with lesions and the healthy one that is never trained on."""
        return [case for case, _ in lesion_cases(self.anatomy)] + healthy_cases(self.anatomy)[3:]

    def context(self, seed: int, **options: Any) -> FitContext:
        return FitContext(seed=seed, device=self.device, **options)

    def train(self, seed: int = 0, config: Any = None, *, filled: bool = False, **context: Any) -> Any:
        """Train anew, at the ``smoke`` profile where no config is given."""
        config = self.config() if config is None else config
        surroundings = self.context(seed, unlabelled=self.unlabelled(filled=filled), **context)
        return drive.train(self.cls, config, self.scans(filled=filled), surroundings)[0]

    def maps(self, method: Any, cases: list[Case] | None = None) -> dict[str, np.ndarray]:
        """Return the checked maps on the grids they were made on, 0 outside the region that counts."""
        found = {}
        for case in self.cases() if cases is None else cases:
            viewed = self.view(method, case)
            scores = drive.score(method, case, viewed)
            found[case.id] = np.where(case.roi if viewed is None else viewed.support, scores, 0)
        return found

    @staticmethod
    def view(method: Any, case: Case) -> ViewedCase | None:
        """Return the case through the method's view, or None where it works on the native grid."""
        return None if method.view is None else apply_view(case, method.view)

    @cached_property
    def trained(self) -> Any:
        return self.train()

    @cached_property
    def reference(self) -> dict[str, np.ndarray]:
        """The maps of :attr:`trained`, which the other checks compare with."""
        return self.maps(self.trained)

    def same(self, other: dict[str, np.ndarray], what: str, *, exact: bool = True) -> None:
        """Compare maps with the reference: bit for bit on the CPU, within a tolerance elsewhere."""
        for name, wanted in self.reference.items():
            got = other[name]
            worst = float(np.abs(got - wanted).max()) / (float(np.abs(wanted).max()) or 1.0)
            if not np.array_equal(got, wanted) and (worst > TOLERANCE or (exact and self.device == "cpu")):
                raise Broken(f"{what}: the map of {name} differs by {worst:.2g} of its largest value")
