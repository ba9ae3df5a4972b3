"""Two runs side by side: the cells of both, whether they are of the same things, how far their numbers lie apart."""

from collections import Counter
from collections.abc import Iterator

from ...common.errors import shortened
from ..instructions import other_instructions
from ..runs.folder import RunFolder
from ..runs.records import Record
from .findings import Part, Verification
from .measuring import MEASURES, other_data
from .numbers import MEASURED_AGAIN, SAME, TRAINED_AGAIN, Tolerance, apart, common, only_one

SAME_THINGS = ("method", "profile", "config", "labels")
COMPUTES = (*MEASURES, "torch", "monai", "timm")
"""Packages that training and measuring compute with."""


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


def _pairs(one: RunFolder, other: RunFolder) -> tuple[list[tuple[Record, Record]], Part]:
    ours, theirs = ({record.cell: record for record in run.records()} for run in (one, other))
    part = Part("cells", {"cells in both": len(ours.keys() & theirs.keys())})
    for run, lacking in ((one, ours.keys() - theirs.keys()), (other, theirs.keys() - ours.keys())):
        part.unverified += [f"{slug}: only in {run.path}" for slug in sorted(cell.slug for cell in lacking)]
    if not part.counts["cells in both"]:
        part.unverified.append("the runs have no cell in common")
    return [(record, theirs[cell]) for cell, record in ours.items() if cell in theirs], part


def _compare_things(pairs: list[tuple[Record, Record]], part: Part) -> None:
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
    for stage in ("fit", "map", "measure"):
        if getattr(a.ids, stage) != getattr(b.ids, stage):
            yield f"other address of {stage}: source, settings, data or numerics differ"
            break
    before, after = (record.environment.get("versions", {}) for record in (a, b))
    changed = [
        f"{n} {before.get(n, 'none')} → {after.get(n, 'none')}" for n in COMPUTES if before.get(n) != after.get(n)
    ]
    if changed:
        yield f"other versions: {', '.join(changed)}"
    for what, held, found in (
        ("fitted and mapped on", a.environment.get("made_on", []), b.environment.get("made_on", [])),
        ("device", a.cost.device, b.cost.device),
        ("threads", a.cost.threads, b.cost.threads),
        ("precision", a.cost.precision, b.cost.precision),
        ("isolation", a.isolation, b.isolation),
    ):
        if held != found:
            yield f"{what}: {held} → {found}"
    if other := other_instructions(*(record.environment.get("instruction_set", {}) for record in (a, b))):
        yield f"measured on other instructions: {', '.join(other)}"


def _compare_numbers(pairs: list[tuple[Record, Record]], part: Part) -> None:
    tolerances: Counter[Tolerance] = Counter()
    largest: dict[str, tuple[float, str]] = {}
    for a, b in pairs:
        tolerance = _tolerance(a, b)
        tolerances[tolerance] += 1
        for name, recorded, found in apart(a, b, tolerance):
            part.differs(f"{a.cell.slug}, {name}", recorded, found)
        part.unverified += [f"{a.cell.slug}, {name}: only in one run" for names in only_one(a, b) for name in names]
        for name, kind, x, y in common(a, b):
            if kind != "detail":
                part.count("numbers")
            if isinstance(x, float) and isinstance(y, float) and abs(x - y) > largest.get(name.metric, (0.0, ""))[0]:
                largest[name.metric] = abs(x - y), f"{a.cell.slug}, {name}"
    part.remarks += [f"{number} cells: {tolerance}" for tolerance, number in tolerances.items()]
    part.remarks += [f"{metric}: largest difference {size:.3g} ({where})" for metric, (size, where) in largest.items()]
    if not largest:
        part.remarks.append("no number differs")


def _tolerance(a: Record, b: Record) -> Tolerance:
    """Equal maps give equal numbers; what was trained or mapped elsewhere may differ more."""
    if not any(_surroundings(a, b)):
        return SAME
    mapped = a.ids.map == b.ids.map and a.environment.get("made_on") == b.environment.get("made_on")
    packages = all(
        a.environment.get("versions", {}).get(n) == b.environment.get("versions", {}).get(n) for n in COMPUTES
    )
    return MEASURED_AGAIN if mapped and packages and a.cost.device == b.cost.device else TRAINED_AGAIN
