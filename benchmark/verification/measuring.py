"""The scans and labels behind a run looked up again, and its cells measured again from their maps."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import Any

from ...common.errors import UasbenchError, shortened
from ...datasets.readers import Readers
from ..executors.contract import Event, Job, Place, find_executor, run_jobs
from ..instructions import other_instructions
from ..planning import ids
from ..planning.again import Key, Source, key_of, options_again
from ..planning.options import STAGE_LIMIT_S
from ..planning.task_data import TaskData
from ..planning.tasks import plain_task
from ..runs.folder import RunFolder
from ..runs.records import CellKey, DataInfo, Record
from ..stages.measure import MeasureTask
from ..stages.task import ELSEWHERE
from .findings import Part
from .kept import Kept
from .numbers import MEASURED_AGAIN, SAME, Tolerance, apart, only_one, rest

OF_CASES = {"cases": "scan", "truth": "labels", "patients": "patient", "train_cases": "healthy scan"}
MEASURES = ("numpy", "scipy", "numba", "optuna")
"""Packages that measuring computes with."""


def compare_data(
    info: Mapping[str, Any], records: Iterable[Record], source: Source, readers: Readers, part: Part
) -> dict[Key, TaskData]:
    """Prepare the scans and labels of a run from their files and compare them with what its records say.

    Returns the data that could be read, by key.
    """
    groups: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        groups[key_of(record)].append(record)
    found: dict[Key, TaskData] = {}
    for key, group in groups.items():
        try:
            data = plain_task(options_again(info, key, source), readers)
        except UasbenchError as error:
            what = f"scans and labels of {key[0]} and {key[1]}"
            part.unverified.append(f"{what} cannot be read from their files: {shortened(str(error))}")
            continue
        found[key] = data
        part.count("scans", len(data.test) + len(data.healthy))
        part.count("label files", len(data.truths))
        part.count("splits")
        said: set[str] = set()
        for record in group:
            for where, recorded, now in other_data(record.cell, record.data, data.info()):
                if where not in said:
                    said.add(where)
                    part.differs(where, recorded, now)
    return found


def other_data(cell: CellKey, recorded: DataInfo, now: DataInfo) -> Iterator[tuple[str, str, str]]:
    """Yield in what two statements about the data of a cell differ: where, and the two values."""
    for field, what in OF_CASES.items():
        held, found = getattr(recorded, field), getattr(now, field)
        for case in sorted({*held, *found}):
            if held.get(case) != found.get(case):
                dataset = cell.train if field == "train_cases" else cell.dataset
                yield f"{dataset} {case}, {what}", held.get(case, "not there"), found.get(case, "not there")
    if recorded.split != now.split:
        hashes = recorded.split.get("hash"), now.split.get("hash")
        held, found = hashes if hashes[0] != hashes[1] else (recorded.split, now.split)
        yield f"{cell.dataset} after {cell.train}, split", str(held), str(found)
    if recorded.phantom != now.phantom:
        yield f"{cell.dataset} after {cell.train}, phantom", str(recorded.phantom), str(now.phantom)


def measure_again(
    kept: Kept, data: Mapping[Key, TaskData], workers: int, part: Part, done: Callable[[int, int], object]
) -> dict[str, Record]:
    """Measure every cell again whose maps, plan and data are at hand, and compare every number.

    It is done as a run does it, but for the folder. Returns, by cell, the records with the numbers that were measured,
    where these are not those recorded.
    """
    others: dict[str, Record] = {}
    tolerances: Counter[Tolerance] = Counter()
    with TemporaryDirectory(prefix="uasbench-") as scratch:
        elsewhere, jobs = RunFolder(scratch), {}
        for slug, record in kept.records.items():
            if slug not in kept.tasks:
                part.unverified.append(f"{slug}: its maps or its plan are not whole")
            elif isinstance(task := _on(kept.tasks[slug], data.get(key_of(record))), str):
                part.unverified.append(f"{slug}: {task}")
            else:
                away = {**elsewhere.measuring(record.cell), "maps": task.maps, "gallery": None}
                jobs[f"measure-{slug}"] = task.model_copy(update=away)

        def listen(event: Event) -> None:
            record = kept.records[event.job.id.removeprefix("measure-")]
            if event.kind == "failed":
                part.unverified.append(f"{record.cell.slug}: cannot be measured: {shortened(str(event.value))}")
            if event.kind != "done":
                return
            again = elsewhere.record(elsewhere.record_path(record.cell))
            part.count("cells")
            done(part.counts["cells"], len(jobs))
            tolerance = _tolerance(record, again, jobs[event.job.id])
            tolerances[tolerance] += 1
            if not _compare(record, again, tolerance, part):
                cost = again.cost.model_copy(update={"measure_s": record.cost.measure_s})
                moment = {"cost": cost, "environment": record.environment, "created": record.created}
                others[record.cell.slug] = again.model_copy(update=moment)

        place, waiting = Place(elsewhere, workers), [Job(name, task, name) for name, task in jobs.items()]
        run_jobs(find_executor("local")(place), waiting, listen, STAGE_LIMIT_S["paper"])
    part.remarks += [f"{number} cells: {tolerance}" for tolerance, number in tolerances.items()]
    return others


def _on(task: MeasureTask, data: TaskData | None) -> MeasureTask | str:
    """Return a measuring on the scans and labels that were looked up, or on the prepared ones that its plan names."""
    if data is None:
        return task
    test, healthy = ({case.id: case for case in cases} for cases in (data.test, data.healthy))
    wanted = [(case, test, data.truths[case.id].fingerprint if case.id in data.truths else None) for case in task.cases]
    for case, there, truth in (*wanted, *((case, healthy, None) for case, _ in task.healthy)):
        known = case.id in there and there[case.id].fingerprint == case.fingerprint
        if not known or (truth is not None and truth != task.truths[case.id].fingerprint):
            return f"the scan or the labels of {case.id} are not those of the record"
    return task.model_copy(
        update={
            "cases": tuple(test[case.id] for case in task.cases),
            "truths": {case: data.truths[case] for case in task.truths},
            "healthy": tuple((healthy[case.id], z) for case, z in task.healthy),
        }
    )


def _tolerance(record: Record, again: Record, task: MeasureTask) -> Tolerance:
    """Numbers of the same source, packages and instructions have to be equal.

    Imported maps were measured in the process of their import, with as many threads as its libraries liked.
    """
    then, now = record.environment, again.environment
    same = ids.addressed(task).ids.measure == record.ids.measure and task.numerics != ELSEWHERE
    same &= all(now["versions"].get(name) == then.get("versions", {}).get(name) for name in MEASURES)
    same &= not other_instructions(then.get("instruction_set", {}), now["instruction_set"])
    return SAME if same else MEASURED_AGAIN


def _compare(record: Record, again: Record, tolerance: Tolerance, part: Part) -> bool:
    """Note what differs between a record and the same cell measured again; return whether nothing does."""
    slug, before = record.cell.slug, len(part.differences)
    part.count("numbers", len(record.per_case) + len(record.pooled))
    part.count("thresholds", len(record.thresholds))
    for name, recorded, found in apart(record, again, tolerance):
        part.differs(f"{slug}, {name}", recorded, found)
    gone, new = only_one(record, again)
    if tolerance.exact:
        for name in (*gone, *new):
            part.differs(f"{slug}, {name}", *(("not there", "measured") if name in new else ("recorded", "not there")))
    elif gone:
        part.unverified.append(f"{slug}: {len(gone)} numbers that this version does not measure, {gone[0]} first")
    held, found = rest(record), rest(again)
    for name in held:
        if held[name] != found[name] and not (name == "ids" and not tolerance.exact):
            part.differs(f"{slug}, {name}", shortened(str(held[name]), 80), shortened(str(found[name]), 80))
    return len(part.differences) == before
