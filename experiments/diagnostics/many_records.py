"""What tables of many cells cost: ``python -m uasbench.experiments.diagnostics.many_records RUN --cells 10000``.

The records of a run are written again and again as those of other settings and seeds, their values moved a little, into
a new folder; then its tables are made, and made once more after a hundredth of the records has changed.
"""

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_json

from ...benchmark.runs.folder import RunFolder
from ...benchmark.runs.records import CellKey
from ...common.garbage import uncollected
from ...common.json_files import read_json
from ...common.sealed import with_digest
from ...reports.build import build
from .many_cells import told

SPREAD = 0.01


def write(like: RunFolder, run: RunFolder, cells: int, seeds: int) -> None:
    """Write ``cells`` records, ``seeds`` of every setting, after those of the run ``like``, on all cores."""
    found = [
        {name: value for name, value in read_json(path).items() if name != "digest"}
        for path in sorted(like.records_dir.glob("*.json"))
    ]
    templates = list({record["cell"]["method"].partition("@")[0]: record for record in found}.items())
    run.records_dir.mkdir(parents=True)
    chosen = []
    for setting in range(-(-cells // seeds)):
        again, which = divmod(setting, len(templates))
        method, template = templates[which]
        name = f"{method}@v{again}" if again else method
        chosen.append((run, template, name, setting * seeds, min(seeds, cells - setting * seeds)))
    with ProcessPoolExecutor() as processes:
        slugs = [slug for some in processes.map(_write, chosen) for slug in some]
    run.update_info(**like.info() | {"cells": slugs})


def _write(of_setting: tuple[RunFolder, dict[str, Any], str, int, int]) -> list[str]:
    """Write the records of one setting: those of all its seeds."""
    run, template, method, first, seeds = of_setting
    slugs = []
    with uncollected():
        for seed in range(seeds):
            record = moved(template, np.random.default_rng(first + seed))
            cell = CellKey(**record["cell"] | {"method": method, "seed": seed})
            text = to_json({**record, "cell": cell.model_dump()}, indent=1).decode()
            run.record_path(cell).write_bytes(with_digest(text))
            slugs.append(cell.slug)
    return slugs


def moved(record: dict[str, Any], by: np.random.Generator) -> dict[str, Any]:
    """Return a record with other values."""
    count = len(record["per_case"]) + sum(1 + len(value.get("left_out", ())) for value in record["pooled"])
    steps = iter(by.normal(0, SPREAD, count).tolist())

    def near(value: float | None) -> float | None:
        return None if value is None else value + next(steps)

    per_case = [value | {"value": near(value["value"])} for value in record["per_case"]]
    pooled = [
        value | {"value": near(value["value"]), "left_out": {p: near(v) for p, v in value.get("left_out", {}).items()}}
        for value in record["pooled"]
    ]
    return {**record, "per_case": per_case, "pooled": pooled}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what each part costs."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--at", type=Path, help="folder for the records")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.at) as folder:
        run = RunFolder(Path(folder, "run"))
        run.path.mkdir()
        with told(f"writing {given.cells} records"):
            write(RunFolder.open(given.run), run, given.cells, given.seeds)
        with told("tables of all"):
            build(run)
        for path in islice(sorted(run.records_dir.iterdir()), max(1, given.cells // 100)):
            path.touch()
        with told("tables after a hundredth has changed"):
            build(run)


if __name__ == "__main__":
    main()
