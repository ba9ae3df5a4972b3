"""The files of a run: are they all there, as they were written, and those that its certificate names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...common.errors import brief
from ...common.json_files import read_json
from ...common.sealed import DamagedError, check_files, is_sealed, read_sealed, seal
from ..environment import source_digest
from ..runs.certificate import FIELD, described
from ..runs.folder import RunFolder, RunFolderError
from ..runs.records import FIT_SEAL, MAP_SEAL, Record
from ..stages.measure import MeasureTask
from .findings import Part

MEASURED = ("*.map", "*.mask", "healthy/*.map")
"""What measuring opens where it lies in the folder of a cell's maps."""


@dataclass
class Kept:
    """The cells of a run as they lie in its folder.

    Attributes:
        records: those that can be read, by cell, changed ones too.
        tasks: how to measure the cells whose maps and plan are whole.
    """

    records: dict[str, Record] = field(default_factory=dict)
    tasks: dict[str, MeasureTask] = field(default_factory=dict)


def look(folder: RunFolder, part: Part, *, records_alone: bool = False) -> Kept:
    """Compare records, maps and checkpoints, or records alone, with their digests; return what can be used."""
    kept, info = Kept(), folder.info()
    failed = {failure.cell.slug for failure in folder.failures()}
    slugs = sorted({*info.get("cells", []), *(path.stem for path in folder.records_dir.glob("*.json"))})
    fits: dict[str, bool] = {}
    for slug in slugs:
        if (record := _record(folder, slug, part, certified=slug in _certified(info))) is None:
            if slug in failed:
                part.count("failed cells")
            continue
        kept.records[slug] = record
        if records_alone:
            continue
        task, whole = _task(folder, record, part), _maps(folder, record, part)
        for fit in record.ids.fits if task is None or task.fit_dirs else ():
            if fit not in fits:
                fits[fit] = _fit(folder, fit, part)
        if task is not None and whole:
            kept.tasks[slug] = task
    return kept


def compare_certificate(folder: RunFolder, records: Sequence[Record], part: Part) -> None:
    """Compare the certificate of a run with what its records say now."""
    held = folder.info().get(FIELD)
    if not isinstance(held, dict):
        part.unverified.append(
            "run.json holds no certificate: the run was interrupted, or an earlier version made it; the same "
            "'bench run' writes one"
        )
        return
    name = folder.run_json.name
    if seal(held)["digest"] != held.get("digest"):
        part.differs(f"{name}, {FIELD}", "", "was changed after it was written")
    if held.get("code") != source_digest():
        part.remarks.append("another source of uasbench made the run; tables may look otherwise for that reason alone")
    now = json.loads(json.dumps(described(folder, records)))
    for stated in (*held.get("run", {}), "data", "protocols", "isolation"):
        part.count("statements")
        before, after = (kept.get("run", {}).get(stated, kept.get(stated)) for kept in (held, now))
        if before != after:
            part.differs(f"{name}, {stated}", f"{before} in the certificate", after)
    said, found = held.get("cells", {}), now["cells"]
    for slug in sorted({*said, *found}):
        part.count("cells")
        if slug not in said:
            part.differs(f"records/{slug}.json", "", "is not in the certificate")
        for kind, digest in said.get(slug, {}).items():
            path = folder.records_dir / f"{slug}.json" if kind == "record" else folder.maps_dir / slug / MAP_SEAL
            other = found.get(slug, {}).get(kind)
            if other not in (digest, None) and digest is not None:
                part.differs(_name(folder, path), f"{digest} in the certificate", other)


def _certified(info: dict) -> dict:
    held = info.get(FIELD)
    return held.get("cells", {}) if isinstance(held, dict) else {}


def _record(folder: RunFolder, slug: str, part: Part, *, certified: bool) -> Record | None:
    """Read a record; one that was changed by hand is read all the same, so that its numbers can be told."""
    path = folder.records_dir / f"{slug}.json"
    if not path.exists():
        if certified:
            part.differs(_name(folder, path), "", "is missing")
        elif not folder.failures_dir.joinpath(f"{slug}.json").exists():
            part.unverified.append(f"{slug}: the cell has no record yet; the run is not finished")
        return None
    part.count("records")
    try:
        return folder.record(path)
    except RunFolderError as error:
        try:
            content = read_json(path)
            record = Record.model_validate(content)
        except (OSError, ValueError):
            part.differs(_name(folder, path), "", brief(error.__cause__ or error))
            return None
        part.differs(_name(folder, path), "", "was changed after it was written (its digest differs)")
        return record


def _task(folder: RunFolder, record: Record, part: Part) -> MeasureTask | None:
    """Read the plan of a cell's measuring, its paths those of this folder; nothing is written."""
    path = folder.cell_path(record.cell)
    try:
        task = MeasureTask.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        part.unverified.append(f"{_name(folder, path)}: the plan of the cell cannot be used ({brief(error)})")
        return None
    fits = tuple(folder.fit_dir(fit) for fit in (task.ids.fits if task.fit_dirs else ()))
    return task.model_copy(update={"fit_dirs": fits, **folder.measuring(record.cell)})


def _maps(folder: RunFolder, record: Record, part: Part) -> bool:
    maps = folder.map_dir(record.cell)
    if not maps.is_dir():
        part.unverified.append(f"{_name(folder, maps)}: the maps were not kept")
        return False
    about = _sealed(folder, maps / MAP_SEAL, part, "maps")
    if about is None:
        return False
    found, whole = len(part.differences), about.get("id") == record.ids.map
    if not whole:
        part.differs(_name(folder, maps / MAP_SEAL), record.ids.map, f"maps of {about.get('id')}")
    if not is_sealed(about):
        part.unverified.append(f"{_name(folder, maps)}: an earlier version made the maps, without digests")
        return whole
    # A mask that was put beside them later would be measured.
    for path in sorted(path for pattern in MEASURED for path in maps.glob(pattern)):
        if path.relative_to(maps).as_posix() not in about["files"]:
            part.differs(_name(folder, path), "", "was not made with the other maps")
    return len(part.differences) == found


def _fit(folder: RunFolder, fit: str, part: Part) -> bool:
    path = folder.fit_dir(fit)
    if not path.is_dir():
        part.unverified.append(f"{_name(folder, path)}: the fit was not kept")
        return False
    return _sealed(folder, path / FIT_SEAL, part, "checkpoints") is not None


def _sealed(folder: RunFolder, path: Path, part: Part, kind: str) -> dict | None:
    """Compare every file that a seal lists; return the seal where all of them are what was written."""
    found = len(part.differences)
    try:
        about = read_sealed(path)
    except DamagedError as error:
        part.differs(_name(folder, path), "", error.why)
        return None
    for name in about.get("files", ()):
        part.count(kind)
        try:
            check_files(path, name)
        except DamagedError as error:
            part.differs(_name(folder, error.path), "", error.why)
    return about if len(part.differences) == found else None


def _name(folder: RunFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()
