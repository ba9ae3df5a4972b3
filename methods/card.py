"""What a table needs to know about a method."""

import re
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from ..common.errors import printable
from .pretraining import NONE, Pretraining

SliceScore = str | tuple[str, int]
Figure = tuple[str, str, str]
FIGURE_NAMES = ("parameters", "input", "network", "loss", "optimiser", "length")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """Describes a method; a plug-in needs ``name`` and ``title``, a built-in fills in everything.

    Attributes:
        name: registry name, lower case with dashes.
        supervision: ``none`` for methods that learn from healthy scans alone, ``full`` for top lines.
        family: trivial, reconstruction, pseudo-anomaly, normalcy, features, diffusion, transductive, supervised or
            plug-in.
        uses: what fitting may see: ``healthy``; ``unlabelled-test`` (transductive); ``labels`` (top lines).
        trainer: training name shared with another method, so that both use one fit; default the method's own name.
        min_seeds: seeds below which its mean says little; tables mark a run with fewer.
        near_chance: anatomies on which its map is close to chance in the literature, as the notes say; tables mark it.
        undertrained: anatomies on which its quick profile is not better than its untrained network, as the notes say;
            tables of the smaller profiles mark it.
        deterministic: the map does not depend on the seed, so one seed is run and no spread is printed.
        slice_score: how a map becomes a slice score: ``max``, ``mean``, ``top1%`` or ``("meanpool", k)``.
        anatomy: organs on which the method's assumptions hold, by name; default those with annotated sets here.
        trivial: learns nothing; the best of these is marked in every table.
        pretraining: what the weights that it starts from were made of, by default; :attr:`.method.Method.pretraining`
            of a configuration counts.
        labels_elsewhere: data sets whose masks of lesions or other anomalies it learned from; tables mark it.
        published: numbers of a plug-in's paper, as printed: (source, data set, metric, value, comparability); those of
            built-in methods stand in ``benchmark/catalogue/published.yaml``.
        figures: (what, in the reference, here) of the ``paper`` profile, as short phrases; ``what`` follows
            :data:`FIGURE_NAMES`. The reference is the paper or its released code, ``n/p`` where neither is known to
            say; parameters are counted and stay empty here, and are added where a card leaves them out.
    """

    name: str
    title: str
    year: int | None = None
    supervision: Literal["none", "full"] = "none"
    family: str = "plug-in"
    citation: str = ""
    reference: str = ""
    uses: Literal["healthy", "unlabelled-test", "labels"] = "healthy"
    trainer: str | None = None
    min_seeds: int = 3
    near_chance: tuple[str, ...] = ()
    undertrained: tuple[str, ...] = ()
    deterministic: bool = False
    slice_score: SliceScore = "max"
    anatomy: tuple[str, ...] = ("liver", "lung", "kidney", "pancreas")
    trivial: bool = False
    pretraining: Pretraining = NONE
    labels_elsewhere: tuple[str, ...] = ()
    published: tuple[tuple[str, str, str, str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        if self.figures and self.figures[0][0] != "parameters":
            object.__setattr__(self, "figures", (("parameters", "n/p", ""), *self.figures))
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"method name {self.name!r}: use lower-case letters, digits and single dashes")
        for field in ("title", "family", "citation", "reference", "notes"):
            text = getattr(self, field)
            if not isinstance(text, str) or printable(text) != text:
                raise ValueError(f"{field} {text!r:.60}: expected text without control characters")
        for field in ("anatomy", "near_chance", "undertrained"):
            named = getattr(self, field)
            if not isinstance(named, str | tuple | list) or not all(isinstance(name, str) for name in named):
                raise ValueError(f"{field} {named!r:.60}: expected names of organs")
        if not isinstance(self.pretraining, Pretraining):
            raise ValueError(f"pretraining {self.pretraining!r:.60}: expected a Pretraining")
        elsewhere = self.labels_elsewhere
        if not isinstance(elsewhere, tuple) or not all(isinstance(name, str) and name.strip() for name in elsewhere):
            raise ValueError(f"labels_elsewhere {elsewhere!r:.60}: expected a tuple of names of data sets")
        for field in ("supervision", "uses"):
            choices = get_args(get_type_hints(MethodCard)[field])
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} {getattr(self, field)!r:.60}: expected {' or '.join(choices)}")
        if type(self.min_seeds) is not int or self.min_seeds < 1:
            raise ValueError(f"min_seeds {self.min_seeds!r:.60}: expected a whole number of at least 1")
        pooled = isinstance(self.slice_score, tuple) and self.slice_score[:-1] == ("meanpool",)
        pooled = pooled and type(self.slice_score[-1]) is int and self.slice_score[-1] >= 1
        if self.slice_score not in ("max", "mean", "top1%") and not pooled:
            raise ValueError(f"slice_score {self.slice_score!r}: expected max, mean, top1% or ('meanpool', k)")


def same(what: str, phrase: str) -> Figure:
    """Return a figure that is here what it is in the reference."""
    return what, phrase, phrase
