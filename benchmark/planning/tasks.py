"""The tasks of a command: their data, and the configurations that run on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.atomic import of_the_cache
from ...common.errors import DataError
from ...common.json_files import read_json
from ...datasets.looking import look
from ...datasets.patients import ChosenCases
from ...datasets.phantom.disk import INFO, Size, phantom_of, phantom_root
from ...datasets.phantom.predicted import lay_masks
from ...datasets.readers import Readers
from ...datasets.splits import hold_out
from ...datasets.storing.entries import remove_damaged
from ...datasets.storing.prepared import ShowProgress
from ...datasets.storing.store import Store, UnusableViewError
from ...datasets.views.volume_view import AnyView
from ..catalogue.registry import datasets, runnable
from ..locations import cache_root, data_root
from ..runs.records import Skip
from ..stages.wall import WALL, exposed
from .fits import trainable
from .options import OptionError, RunOptions
from .overlap import permitted
from .plan import PlanError
from .refinement import check_refinement, refinement_skips
from .scans import Scans, ScanSource, joined
from .selection import Selection, said, select
from .task_data import SPLIT_SEED, TaskData, prepare_task, task_pairs

PHANTOM_SIZE: dict[str, Size] = {"smoke": "smoke", "quick": "quick", "standard": "standard", "paper": "full"}


@dataclass(kw_only=True)
class Planned(Selection):
    """A task of the present command: its data, and who runs on it."""

    data: TaskData


def whole_tasks(options: RunOptions, workers: int, progress: ShowProgress | None = None) -> list[Planned]:
    """Return :func:`planned_tasks` after everything prepared was compared with its digests, and made again if damaged.

    Raises:
        UasbenchError: as :func:`planned_tasks`.
    """
    tasks = planned_tasks(options, workers, progress)
    seen = {(i, c.view) for i, task in enumerate(tasks) for c in task.candidates}
    damaged = remove_damaged(dict.fromkeys(path for i, view in seen for path in tasks[i].data.entries(view)))
    return planned_tasks(options, workers, progress) if damaged else tasks


def planned_tasks(options: RunOptions, workers: int, progress: ShowProgress | None = None) -> list[Planned]:
    """Select methods and prepare data for every task of the options.

    Of an experiment on a phantom the sets that no phantom imitates are left out, with a warning. In place of a healthy
    set that it does not imitate the phantom's own trains, with a warning, too.

    Raises:
        UasbenchError: no method can run on a task, or its data cannot be used.
    """
    check_refinement(options)
    sets, known = datasets(), runnable()
    pairs = task_pairs(options, sets)
    selections = [select(options, sets.card(test).anatomy, test, known) for test, _ in pairs]
    for selection, (test, _) in zip(selections, pairs, strict=True):
        _refuse_nobody(selection, test)
    asked = [(*_placed(options, pair), chosen) for pair, chosen in zip(pairs, selections, strict=True)]
    _refuse_exposed([*(root for _, root, _ in asked), cache_root(options.cache), options.folder()])
    missing = []
    if options.phantom and options.page is not None:
        missing = [pair[0] for pair, root, _ in asked if look(sets.get(pair[0])(), root).absent]
    if len(missing) == len(asked):
        missing = []
    with Readers(workers) as readers:
        tasks = [
            _planned(options, pair, root, chosen, readers, progress)
            for pair, root, chosen in asked
            if pair[0] not in missing
        ]
    played = {train: pair[1] for (_, train), (pair, *_) in zip(pairs, asked, strict=True) if train != pair[1]}
    tasks[0].data.warnings += [f"{name}: no phantom imitates it; {own} trains instead" for name, own in played.items()]
    tasks[0].data.warnings += [f"{name}: of this experiment, and no phantom imitates it; left out" for name in missing]
    return tasks


def _planned(
    options: RunOptions,
    pair: tuple[str, str],
    root: Path,
    chosen: Selection,
    readers: Readers,
    progress: ShowProgress | None,
) -> Planned:
    data = _prepared(options, pair, root, chosen, readers, progress)
    chosen.candidates, untrained = trainable(chosen.candidates, data)
    chosen.candidates, seen = permitted(chosen.candidates, data.card, allowed=options.allow_overlap)
    chosen.skipped += [*untrained, *seen, *refinement_skips(options, data, chosen.candidates)]
    if smaller := [c.label for c in chosen.candidates if c.spec.profile != options.profile]:
        data.warnings.append(
            f"{', '.join(smaller)}: declares no profile {options.profile} and runs with its quick settings, as its "
            "rows say"
        )
    _refuse_nobody(chosen, pair[0])
    return Planned(data=data, **vars(chosen))


def _prepared(
    options: RunOptions,
    pair: tuple[str, str],
    root: Path,
    chosen: Selection,
    readers: Readers,
    progress: ShowProgress | None,
) -> TaskData:
    """Prepare a task; whoever looks through a view that cannot be computed is out, and the scans are not to blame."""
    while True:
        views = list(dict.fromkeys(c.view for c in chosen.candidates if c.view is not None))
        source = _source(options, root, views, readers, progress)
        try:
            return prepare_task(options, pair, source, others=any(c.training == "unseen" for c in chosen.candidates))
        except UnusableViewError as error:
            chosen.broken += [(c.label, said(error)) for c in chosen.candidates if c.view == error.view]
            chosen.candidates = [c for c in chosen.candidates if c.view != error.view]
            _refuse_nobody(chosen, pair[0])


def _refuse_nobody(selection: Selection, dataset: str) -> None:
    if not selection.candidates:
        declined = [(s.method, s.reason) for s in selection.skipped] + selection.broken
        reasons = "; ".join(f"{label}: {reason}" for label, reason in declined)
        raise PlanError(f"no method can run on {dataset}: {reasons}")


def screening_tasks(
    options: RunOptions, name: str, folds: int, workers: int, progress: ShowProgress | None = None
) -> list[Planned]:
    """Prepare a healthy set once per fold: those who are not held out train, those who are stand as calibration.

    Methods that learn from healthy scans take part; those that learn nothing, or from labels or test scans, do not.

    Raises:
        UasbenchError: the set is none of healthy scans, its data cannot be used, or no method can run.
    """
    card = datasets().card(name)
    if card.role != "healthy":
        raise OptionError(f"{name}: its scans have lesions; only sets of healthy scans are screened")
    chosen = select(options, card.anatomy, name, runnable())
    learning = [c for c in chosen.candidates if c.card.uses == "healthy" and not c.card.trivial]
    left = [c.label for c in chosen.candidates if c not in learning]
    chosen.skipped += [Skip(method=label, dataset=name, reason="does not learn from healthy scans") for label in left]
    chosen.candidates = learning
    _refuse_nobody(chosen, name)
    views = list(dict.fromkeys(c.view for c in learning if c.view is not None))
    with Readers(workers) as readers:
        root = _root(options, (name,))
        scans = _source(options, root, views, readers, progress).scans(name, truth=False)
    (cases,), twins = joined(scans.cases)
    tasks = []
    for split in hold_out({case.id: case.patient for case in cases}, folds, SPLIT_SEED):
        data = TaskData(
            dataset=name,
            train=name,
            card=card,
            test=[],
            truths={},
            healthy=cases,
            split=split,
            only=[text for text in options.only if text.partition(":")[0] == name],
            excluded=[*(text for text in options.exclude if text.partition(":")[0] == name), *scans.left_out],
            warnings=[*scans.notes, *scans.case_notes, *twins],
            phantom=phantom_of([ref.image for ref in scans.refs]),
            calibration_voxels=sum(c.roi_voxels() for c in cases) // folds,
        )
        kept, refused = trainable(learning, data)
        tasks.append(Planned(data=data, candidates=kept, skipped=[*chosen.skipped, *refused], broken=chosen.broken))
    return tasks


def plain_task(options: RunOptions, readers: Readers) -> TaskData:
    """Prepare the data of the one task of the options as they are, through no view; what is damaged is made again.

    Raises:
        UasbenchError: the data cannot be used.
    """
    (asked,) = task_pairs(options, datasets())
    pair, root = _placed(options, asked)
    source = _source(options, root, [], readers, None)
    data = prepare_task(options, pair, source)
    return prepare_task(options, pair, source) if remove_damaged(data.entries(None)) else data


def scan_alone(options: RunOptions, case: str, readers: Readers) -> Scans:
    """Prepare one test case of the one task of the options, with its truth and its files.

    Raises:
        UasbenchError: the data cannot be used, or have no such case.
    """
    (pair,) = task_pairs(options, datasets())
    named = options.model_copy(update={"only": [f"{pair[0]}:{case}"], "exclude": []})
    return _source(named, _root(options, pair), [], readers, None).scans(pair[0], truth=True)


def _source(
    options: RunOptions, root: Path, views: Sequence[AnyView], readers: Readers, progress: ShowProgress | None
) -> ScanSource:
    store = Store(cache_root(options.cache) / "store")
    chosen = ChosenCases.of(options.only, options.exclude, phantom=options.phantom)
    return ScanSource(datasets(), root, store, views, chosen, readers, progress)


def _refuse_exposed(folders: Sequence[Path]) -> None:
    if found := exposed(folders):
        folder, place = found
        raise DataError(
            f"{folder} lies in {place}, which every method may read, so that no wall would hide labels there; move it"
            f" ({WALL}=none runs without a wall, and every record says so)"
        )


def _placed(options: RunOptions, pair: tuple[str, str]) -> tuple[tuple[str, str], Path]:
    """Return a pair and its data root; the phantom's own healthy set stands for one that it does not imitate."""
    root = _root(options, pair)
    if not options.phantom:
        return pair, root
    patients = read_json(root / INFO)["patients"]
    made, cards = dict.fromkeys(row.get("set") for row in patients), datasets().cards()
    own = [name for name in made if name in cards and cards[name].role == "healthy"]
    return (pair if pair[1] in made or not own else (pair[0], own[0])), root


def _root(options: RunOptions, names: Sequence[str]) -> Path:
    cards = [datasets().card(name) for name in names]
    if not options.phantom:
        return data_root(options.data_root, cards)
    if options.data_root is not None:
        raise PlanError("--phantom and --data-root exclude each other: synthetic and real numbers never share a run")
    cache, size = cache_root(options.cache) / "phantom", PHANTOM_SIZE[options.profile]
    with of_the_cache():
        root = phantom_root(cache, anatomy=cards[0].anatomy, seed=options.phantom_seed, size=size)
        lay_masks(root, [datasets().get(names[0])])
    return root
