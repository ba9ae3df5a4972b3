"""What ``run.json`` says about a run, and whether a folder may go on with the present command."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ...common.garbage import uncollected
from ...common.sealed import DamagedError
from ..environment import commit, environment
from ..instructions import other_instructions
from ..runs.certificate import REVOKED
from ..runs.folder import RecordError, RunFolder
from ..runs.records import SCHEMA_VERSION, CellKey
from ..shelves.shelf import Shelf, heads, wide
from ..stages.task import Numerics
from .options import RunOptions
from .plan import PlanError, Recorded, address
from .tasks import Planned


def check_source(folder: RunFolder, options: RunOptions) -> None:
    """Refuse to mix scans of two sources in one run.

    Raises:
        PlanError: the folder holds a run on other scans.
    """
    before = folder.info().get("source") if folder.run_json.exists() else None
    if before not in (None, options.source()):
        raise PlanError(
            f"{folder.path} holds a run on {before}, this command reads {options.source()}; choose another --out"
        )


def made_again(damaged: Sequence[DamagedError]) -> list[str]:
    """Say which files were not what was written."""
    return [f"WARNING {error.path} was damaged ({error.why}) and is made again" for error in damaged]


def retire_damaged(folder: RunFolder) -> list[str]:
    """Move records that are damaged, or were changed by hand, out of the tables; return what to say about each."""
    if wide(folder):
        damaged = Shelf(folder).update()
    else:
        damaged = [error for path in sorted(folder.records_dir.glob("*.json")) if (error := _damage(folder, path))]
    for error in damaged:
        folder.retire(error.path)
    return [f"WARNING {error}; it is in stale/ now" for error in damaged]


def _damage(folder: RunFolder, path: Path) -> RecordError | None:
    try:
        folder.record(path)
    except RecordError as error:
        return error
    return None


def recorded(folder: RunFolder, tasks: Sequence[Planned]) -> Recorded:
    """Return what cells have a record; outdated are those on other scans, labels, patients or splits than the present.

    Raises:
        RecordError: a record is damaged.
    """
    present = {(t.data.dataset, t.data.train): t.data.info() for t in tasks}
    fields = ("cases", "patients", "truth", "train_cases", "phantom")
    found, outdated = dict[CellKey, str](), list[CellKey]()
    with uncollected():
        for head in heads(folder):
            now = present.get((head.cell.dataset, head.cell.train))
            found[head.cell] = address(head.ids) if head.digest else ""
            if now is not None and any(getattr(now, f) != getattr(head.data, f) for f in fields):
                outdated.append(head.cell)
    return Recorded(found, outdated)


def version_warnings(folder: RunFolder) -> list[str]:
    """Say which packages, and which instructions of the processor, changed since the run was started.

    Results are kept, because neither is hashed.
    """
    before = folder.info().get("environment", {}) if folder.run_json.exists() else {}
    now = environment()
    old, new = before.get("versions", {}), now["versions"]
    changed = [f"{name} {old[name]} → {new[name]}" for name in new if old.get(name, new[name]) != new[name]]
    warnings = [f"this run was started with other versions: {', '.join(changed)}"] if changed else []
    known = before.get("instruction_set", now["instruction_set"])
    if other := other_instructions(known, now["instruction_set"]):
        what = "cells made from now on may differ from earlier ones in their last bits, and the report says which"
        warnings.append(f"this run was started on another instruction set ({', '.join(other)}): {what}")
    return warnings


def write_info(
    folder: RunFolder,
    options: RunOptions,
    numerics: Numerics,
    workers: int,
    tasks: Sequence[Planned],
    slugs: list[str],
    damaged: Sequence[str] = (),
    taken: Mapping[Path, Path] | None = None,
) -> None:
    """Write what the present command adds to ``run.json``; earlier cells, tasks and skips are kept.

    ``taken`` has the seals in other runs of what becomes a folder of this one.
    """
    old = folder.info() if folder.run_json.exists() else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    command = options.command or f"uasbench.run(**{options.model_dump(mode='json', exclude_defaults=True)})"
    data = [t.data for t in tasks]
    skipped = [s.model_dump() for t in tasks for s in t.skipped]
    planned = {(t.data.dataset, c.label) for t in tasks for c in t.candidates}
    planned |= {(s["dataset"], s["method"]) for s in skipped}
    kept = [s for s in old.get("skipped", []) if (s["dataset"], s["method"]) not in planned]
    rows = [{"dataset": d.dataset, "train": d.train, "anatomy": d.card.anatomy} for d in data]
    rows += [row for row in old.get("tasks", []) if row not in rows]
    found = {out.relative_to(folder.path).as_posix(): str(seal.parent) for out, seal in (taken or {}).items()}
    folder.update_info(
        schema=SCHEMA_VERSION,
        command=command,
        commands=[*old.get("commands", []), {"at": now, "command": command}],
        options=options.model_dump(mode="json", exclude={"command", "page"}),
        created=old.get("created", now),
        source=options.source(),
        profile=options.profile,
        phantom=next((d.phantom for d in data if d.phantom), None),
        tasks=rows,
        references={**old.get("references", {}), **{d.dataset: options.reference or d.card.reference for d in data}},
        seeds=options.seeds,
        numerics=numerics.model_dump(),
        workers=workers,
        cells=sorted({*old.get("cells", []), *slugs}),
        skipped=[*kept, *skipped],
        warnings=sorted({w for d in data for w in d.warnings} | {*version_warnings(folder), *damaged}),
        environment={**environment(), "commit": commit()},
        **({"taken": {**old.get("taken", {}), **found}} if found else {}),
        **({} if options.page is None else {"experiment": options.page.model_dump(mode="json")}),
        **REVOKED,
    )


def write_timing(folder: RunFolder, *, wall_s: float, workers: int, stage_s: dict[str, float], work_s: float) -> None:
    """Add the seconds of a call: the harness's share is what the workers did beside fitting and scoring, and waited."""
    if not any(stage_s.values()):
        return
    busy = sum(stage_s.values())
    entry = {
        "wall_s": round(wall_s, 3),
        "workers": workers,
        "stage_s": {name: round(value, 3) for name, value in stage_s.items()},
        "fit_and_score_s": round(work_s, 3),
        "harness_share": round(max(0.0, 1 - work_s / (wall_s * workers)), 4),
        "idle_share": round(max(0.0, 1 - busy / (wall_s * workers)), 4),
    }
    folder.update_info(timing=[*folder.info().get("timing", []), entry])
