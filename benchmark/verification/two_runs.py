"""Two runs side by side: the cells of both, whether they are of the same things, how far their numbers lie apart."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import fmean, stdev

from ...common.errors import shortened
from ..instructions import other_instructions
from ..runs.folder import RunFolder
from ..runs.records import Record
from ..scoring.metrics import METRICS, NO_PROTOCOL
from .findings import Part, Verification
from .measuring import MEASURES, other_data
from .numbers import MAPPED_AGAIN, MEASURED_AGAIN, SAME, Tolerance, apart, common, only_one

SAME_THINGS = ("method", "profile", "config", "labels")
COMPUTES = (*MEASURES, "torch", "monai", "timm")
"""Packages that training and measuring compute with."""
MEAN, SPREADS = 0.1, 3.0
TRAINED = (
    "trained with other source, packages, instructions or device, which is like another seed: means over cases and "
    f"seeds of Dice and of what needs no threshold may differ by {MEAN:g}, or by {SPREADS:g} standard deviations of "
    "the seeds"
)
Pair = tuple[Record, Record]


def compare_runs(one: RunFolder, other: RunFolder) -> Verification:
    """Compare the records of two runs.

    Raises:
        RunFolderError: a record of either cannot be read.
    """
    pairs, cells = _pairs(one, other)
    things, values = Part("identity"), Part("numbers")
    with things.timed():
        _compare_things(pairs, things)
    with values.timed():
        _compare_numbers(pairs, values)
    return Verification(f"{one.path} against {other.path}", [cells, things, values])


def _pairs(one: RunFolder, other: RunFolder) -> tuple[list[Pair], Part]:
    ours, theirs = ({record.cell: record for record in run.records()} for run in (one, other))
    part = Part("cells", {"cells in both": len(ours.keys() & theirs.keys())})
    for run, lacking in ((one, ours.keys() - theirs.keys()), (other, theirs.keys() - ours.keys())):
        part.unverified += [f"{slug}: only in {run.path}" for slug in sorted(cell.slug for cell in lacking)]
    if not part.counts["cells in both"]:
        part.unverified.append("the runs have no cell in common")
    return [(record, theirs[cell]) for cell, record in ours.items() if cell in theirs], part


def _compare_things(pairs: list[Pair], part: Part) -> None:
    """Data, splits and settings have to be the same; source, packages and machine are named where they are not."""
    said: set[str] = set()
    others: Counter[str] = Counter()
    for a, b in pairs:
        part.count("cells")
        for where, recorded, found in other_data(a.cell, a.data, b.data):
            if where not in said:
                said.add(where)
                part.differs(where, recorded, found)
        for field in SAME_THINGS:
            held, found = getattr(a, field), getattr(b, field)
            if held != found:
                part.differs(f"{a.cell.slug}, {field}", shortened(str(held), 80), shortened(str(found), 80))
        others.update(_surroundings(a, b))
    part.remarks += [f"{number} cells: {text}" for text, number in others.items()]


def _surroundings(a: Record, b: Record) -> Iterator[str]:
    """Yield in what the making of two records differs, without any being at fault."""
    if stages := [stage for stage in ("fit", "map", "measure") if getattr(a.ids, stage) != getattr(b.ids, stage)]:
        yield f"other addresses of {', '.join(stages)}: source, settings, data or numerics differ"
    before, after = map(_versions, (a, b))
    if changed := [f"{name} {before[name]} → {after[name]}" for name in COMPUTES if before[name] != after[name]]:
        yield f"other versions: {', '.join(changed)}"
    for what, held, found in (
        ("fitted and mapped on", *("; ".join(one.environment.get("made_on", [])) for one in (a, b))),
        ("device", a.cost.device, b.cost.device),
        ("threads", a.cost.threads, b.cost.threads),
        ("precision", a.cost.precision, b.cost.precision),
        ("compiled", a.cost.compiled, b.cost.compiled),
        ("isolation", a.isolation, b.isolation),
    ):
        if held != found:
            yield f"{what} {held} → {found}"
    if other := other_instructions(*(record.environment.get("instruction_set", {}) for record in (a, b))):
        yield f"measured on other instructions: {', '.join(other)}"


def _versions(record: Record) -> dict[str, str]:
    known = record.environment.get("versions", {})
    return {name: known.get(name, "not recorded") for name in COMPUTES}


def _compare_numbers(pairs: list[Pair], part: Part) -> None:
    tolerances: Counter[str] = Counter()
    largest: dict[str, tuple[float, str]] = {}
    trained: dict[str, list[Pair]] = defaultdict(list)
    for a, b in pairs:
        tolerance = _tolerance(a, b)
        tolerances[TRAINED if tolerance is None else str(tolerance)] += 1
        if tolerance is None:
            trained[f"{a.cell.method} on {a.cell.dataset} after {a.cell.train}"].append((a, b))
        else:
            for name, recorded, found in apart(a, b, tolerance):
                part.differs(f"{a.cell.slug}, {name}", recorded, found)
        part.unverified += [f"{a.cell.slug}, {name}: only in one run" for names in only_one(a, b) for name in names]
        for name, kind, x, y in common(a, b):
            if kind != "detail":
                part.count("numbers")
            if isinstance(x, float) and isinstance(y, float) and abs(x - y) > largest.get(name.metric, (0.0, ""))[0]:
                largest[name.metric] = abs(x - y), f"{a.cell.slug}, {name}"
    for who, seeds in trained.items():
        for name, x, y in _means_apart(seeds):
            part.differs(f"{who}, mean {name} over {len(seeds)} seeds", x, y)
    part.remarks += [f"{number} cells: {text}" for text, number in tolerances.items()]
    part.remarks += [f"{metric}: largest difference {size:.3g} ({where})" for metric, (size, where) in largest.items()]
    if not largest:
        part.remarks.append("no number differs")


def _tolerance(a: Record, b: Record) -> Tolerance | None:
    """Equal maps give equal numbers; None where something was trained elsewhere, which is like another seed."""
    if not any(_surroundings(a, b)):
        return SAME
    mapped = a.ids.map == b.ids.map and a.environment.get("made_on") == b.environment.get("made_on")
    if mapped and _versions(a) == _versions(b) and a.cost.device == b.cost.device:
        return MEASURED_AGAIN
    return None if a.cost.updates or b.cost.updates else MAPPED_AGAIN


def _means_apart(seeds: list[Pair]) -> Iterator[tuple[str, float, float]]:
    """Yield the metrics whose means over cases and seeds lie further apart than trainings may, with both means."""
    means = [(_means(a), _means(b)) for a, b in seeds]
    for name in sorted(set.intersection(*({*one} & {*other} for one, other in means))):
        runs = [[pair[side][name] for pair in means] for side in (0, 1)]
        spread = max((stdev(values) for values in runs if len(values) > 1), default=0.0)
        x, y = map(fmean, runs)
        if abs(x - y) > max(MEAN, SPREADS * spread):
            yield " ".join(name), x, y


def _means(record: Record) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in record.per_case:
        settled = row.metric == "dice" or row.protocol == NO_PROTOCOL  # others trade against each other at a threshold
        if settled and row.value is not None and row.metric in METRICS and METRICS[row.metric].unit == "share":
            found[row.protocol, row.metric].append(row.value)
    return {name: fmean(values) for name, values in found.items()}
