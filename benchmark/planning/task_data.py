"""The data of a task: a test set and its healthy partner, discovered, prepared, checked for twins and split."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.errors import DataError
from ...datasets.case import Trust
from ...datasets.dataset import CaseRef, DatasetCard
from ...datasets.patients import overlapping
from ...datasets.phantom.disk import phantom_of
from ...datasets.splits import HealthySplit, split_healthy
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ...datasets.views.volume_view import AnyView
from ..catalogue.registry import Registry
from ..runs.records import DataInfo
from ..stages.task import ZRange
from .options import OptionError, RunOptions
from .scans import OtherLesions, ScanSource, joined, key, other_lesions, people

SPLIT_SEED = 0


@dataclass
class TaskData:
    """Prepared data of one (test set, train set) pair, with the card of the test set.

    ``other_lesions`` are labelled cases of other sets, prepared where a top line learns from them; ``refs`` are the
    files of the test cases.
    """

    dataset: str
    train: str
    card: DatasetCard
    test: list[PreparedCase]
    truths: dict[str, TruthRef]
    healthy: list[PreparedCase]
    split: HealthySplit
    only: list[str]
    excluded: list[str]
    warnings: list[str]
    phantom: dict[str, Any] | None = None
    other_lesions: OtherLesions = field(default_factory=OtherLesions)
    test_voxels: int = 0
    calibration_voxels: int = 0
    refs: dict[str, CaseRef] = field(default_factory=dict)

    def training(self) -> list[tuple[PreparedCase, ZRange]]:
        by_id = {case.id: case for case in self.healthy}
        return [(by_id[case], z) for case, z in self.split.train]

    def calibrating(self) -> list[tuple[PreparedCase, ZRange]]:
        """Return the healthy cases that are held out for calibration, with their slice ranges."""
        by_id = {case.id: case for case in self.healthy}
        return [(by_id[case], z) for case, z in self.split.calibration]

    def entries(self, view: AnyView | None) -> Iterator[Path]:
        """Give the entries of the store that stages open for a method with this view."""
        others = self.other_lesions.cases
        for case in (*self.test, *self.healthy, *(case for case, _ in others)):
            yield case.path
            if view is not None:
                yield case.view_path(view)
        yield from (truth.path for truth in (*self.truths.values(), *(truth for _, truth in others)))

    def info(self) -> DataInfo:
        everyone = [*self.test, *self.healthy]
        return DataInfo(
            anatomy=self.card.anatomy,
            cases={case.id: case.fingerprint for case in self.test},
            patients={case.id: case.patient for case in self.test},
            truth={case: ref.fingerprint for case, ref in self.truths.items()},
            train_cases={case.id: case.fingerprint for case in self.healthy},
            split={**self.split.manifest, "hash": self.split.hash},
            roi_source=self.card.roi_source,
            roi_sources={case.id: case.roi_source for case in everyone if case.roi_source},
            only=self.only,
            excluded=self.excluded,
            notes={case.id: [str(note) for note in case.notes] for case in everyone if case.notes},
            trust={case.id: case.trust for case in everyone if case.trust != Trust()},
            phantom=self.phantom,
            planted=self.card.role == "planted",
        )


def task_pairs(options: RunOptions, registry: Registry) -> list[tuple[str, str]]:
    """Return the (test set, train set) pairs that the options ask for.

    Raises:
        OptionError: a healthy set is named as test set, or a train set of another anatomy.
    """
    pairs = []
    for name in options.datasets:
        card = registry.card(name)
        if card.role == "healthy":
            partners = [
                n for n, c in registry.cards().items() if (c.partner, c.role, c.wraps) == (name, "lesion", None)
            ]
            raise OptionError(
                f"--dataset {name}: {name} is a healthy set; test on {' or '.join(partners) or 'a lesion set'}"
            )
        train = options.train or card.partner
        if train is None:
            raise OptionError(f"--dataset {name}: it has no usual partner; name a healthy set with --train")
        other = registry.card(train)
        if other.role != "healthy" or other.anatomy != card.anatomy:
            raise OptionError(
                f"--train {train}: {name} needs a healthy {card.anatomy} set, {train} is {other.role} {other.anatomy}"
            )
        pairs.append((name, train))
    return pairs


def prepare_task(options: RunOptions, pair: tuple[str, str], source: ScanSource, *, others: bool = False) -> TaskData:
    """Prepare and split the two sets of a task, and the other lesion sets of the organ where asked for.

    Raises:
        DataError: files that cannot be used, whole volumes that occur twice, nothing left to train or test on.
    """
    for name in source.chosen.sets - set(pair):
        source.registry.card(name)
    scans = [source.scans(pair[0], truth=True), source.scans(pair[1], truth=False)]
    (test, healthy), twins = joined(*(found.cases for found in scans))
    leaks = overlapping(people(healthy), people(test))
    healthy = [case for case in healthy if key(case) not in leaks]
    if not healthy:
        raise DataError(f"every case of {pair[1]} belongs to a patient who is tested; nothing is left to train on")
    split = split_healthy(
        {c.id: c.patient for c in healthy},
        {c.id: c.roi_slices() for c in healthy},
        SPLIT_SEED,
        "none" if options.calibration == "none" else "patients",
    )
    calibrates = {case for case, _ in split.calibration}
    other = OtherLesions()
    if others:
        patients = {case.patient for case in healthy if case.id in calibrates}
        other = other_lesions(pair[0], source, test, [case for case in healthy if case.patient in patients])
    notes = [note for found in scans for note in (*found.notes, *found.case_notes)]
    looked_at = (*pair, *other.looked_for)
    return TaskData(
        dataset=pair[0],
        train=pair[1],
        card=source.registry.card(pair[0]),
        test=test,
        truths=scans[0].truths,
        healthy=healthy,
        split=split,
        only=[text for text in options.only if text.partition(":")[0] in looked_at],
        excluded=[
            *(text for text in options.exclude if text.partition(":")[0] in looked_at),
            *(text for found in scans for text in found.left_out),
            *other.left_out,
        ],
        warnings=[*notes, *twins, *leaks.values(), *other.warnings],
        phantom=phantom_of([ref.image for found in scans for ref in found.refs]),
        other_lesions=other,
        test_voxels=sum(c.roi_voxels() for c in test),
        calibration_voxels=sum(c.roi_voxels() for c in healthy if c.id in calibrates),
        refs={ref.id: ref for ref in scans[0].refs},
    )
