"""What two runs of the same command have in common bit for bit, and what none leaves behind."""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

# Costs, and the digest of a file that holds some.
TIMES = ("digest", "cost", "created", "fit_s", "score_s", "peak_ram_mib", "peak_gpu_mib", "environment")
NO_COUNTERPART = "(absent)"


def bits(run: Path) -> dict[str, str]:
    """Return digests of the tables, maps, masks, checkpoints and records of a run; costs and times are left out."""
    found = [p for p in (run / "tables").glob("*.csv") if p.name != "cost.csv"]
    for folder in ("maps", "fits", "records"):
        found += [p for p in (run / folder).rglob("*") if p.is_file()]
    return {p.relative_to(run).as_posix(): _digest(p) for p in sorted(found)}


def tables(run: Path) -> dict[str, str]:
    """Return digests of the tables alone."""
    return {p.name: _digest(p) for p in sorted((run / "tables").glob("*.csv")) if p.name != "cost.csv"}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the names whose content differs or that one side lacks."""
    return [n for n in sorted({*one, *other}) if one.get(n, NO_COUNTERPART) != other.get(n, NO_COUNTERPART)]


def leftovers(*folders: Path) -> list[str]:
    """Return what was to be renamed and was not: temporary files and half-written folders."""
    patterns = (".*.tmp", ".*.partial-*", ".probe-*")
    return sorted({str(p) for folder in folders for pattern in patterns for p in folder.rglob(pattern)})


def cells_sent(database: Path) -> list[str]:
    """Return the names of the active runs of cells in an MLflow database, each with its status where not finished."""
    query = """
        select n.value, r.status from runs r
        join tags n on n.run_uuid = r.run_uuid and n.key = 'mlflow.runName'
        join tags p on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId'
        left join tags m on m.run_uuid = r.run_uuid and m.key = 'uasbench.row'
        where r.lifecycle_stage = 'active' and m.value is null"""
    rows = _rows(database, query)
    return sorted(name if status == "FINISHED" else f"{name} ({status})" for name, status in rows)


def doubled_or_missing(database: Path, run: Path) -> list[str]:
    """Return the nested runs that are not the finished cells of a run folder, once each."""
    sent, expected = Counter(cells_sent(database)), len(list((run / "records").glob("*.json")))
    wrong = [name for name, times in sent.items() if times > 1 or name.endswith(")")]
    return wrong or ([] if len(sent) == expected else [f"{len(sent)} cells sent of {expected}"])


def numbers_sent(database: Path) -> set[tuple[str, float]]:
    """Return every metric of an MLflow database but the costs."""
    rows = _rows(database, "select key, value from latest_metrics")
    return {(key, value) for key, value in rows if "/" in key and not key.startswith("cost")}


def _rows(database: Path, query: str) -> Iterable[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in TIMES}
    return [_timeless(part) for part in value] if isinstance(value, list) else value
