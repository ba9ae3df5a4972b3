"""A factory of small records with known values, shared by the tests of reports."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uasbench.benchmark.runs import records as kept
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import CellKey, Failure, Record, Skip

TRIVIAL = ("hu-deviation", "hu-threshold", "hu-opened", "local-residual", "random", "roi-area")
PROTOCOLS = ("native", "healthy-q95", "healthy-q99", "val", "oracle")
SHIFT = {"native": -0.1, "healthy-q95": -0.05, "healthy-q99": -0.08, "val": 0.0, "oracle": 0.06}


def left_out_around(value: float, patients: set[str]) -> dict[str, float]:
    """Return values without each patient, evenly spread; none for a single patient."""
    offsets = np.linspace(-0.02, 0.02, len(patients)) * value if len(patients) > 1 else []
    return {p: float(value + offset) for p, offset in zip(sorted(patients), offsets, strict=False)}


def build_record(
    method: str = "ae",
    *,
    seed: int = 0,
    dice: Mapping[str, float | None] | None = None,
    patients: Sequence[str] = ("p1", "p2", "p3", "p4", "p5", "p6"),
    dataset: str = "lits",
    train: str = "btcv",
    protocols: Sequence[str] = PROTOCOLS,
    level: float = 0.3,
    phantom: bool = False,
    profile: str = "paper",
    **method_info: Any,
) -> Record:
    """Return a record whose Dice per case is ``dice`` (case → value) or drawn around ``level``."""
    name = method.partition("@")[0]
    rng = np.random.default_rng([seed, *method.encode()])
    if dice is None:
        hard = np.linspace(-0.15, 0.15, len(patients))
        dice = {
            f"{p}-c": float(np.clip(level + h + rng.normal(0, 0.05), 0, 1)) for p, h in zip(patients, hard, strict=True)
        }
        owners = {f"{p}-c": p for p in patients}
    else:
        owners = {case: case.partition("-")[0] for case in dice}
    per_case, pooled = [], []

    def add(case: str, protocol: str, metric: str, value: float | None, offset: float) -> float | None:
        number = None if value is None else float(np.clip(value + offset, 0, 1))
        why = "no lesion" if number is None else None
        where = {"case": case, "patient": owners[case], "protocol": protocol}
        per_case.append(kept.CaseValue(**where, metric=metric, value=number, reason=why))
        return number

    for protocol in protocols:
        values = [add(case, protocol, "dice", value, SHIFT.get(protocol, 0.0)) for case, value in dice.items()]
        for case, value in zip(dice, values, strict=True):
            add(case, protocol, "psc", value, 0.05)
            add(case, protocol, "sen", value, -0.05)
        defined = [v for v in values if v is not None]
        mean = float(np.mean(defined)) if defined else None
        left_out = {} if mean is None else left_out_around(mean, set(owners.values()))
        row = {"protocol": protocol, "metric": "dice", "unit": "pooled", "value": mean, "left_out": left_out}
        pooled.append(kept.PooledValue.model_validate(row))
    for case, value in dice.items():
        add(case, "none", "auroc", value, 0.4)
        add(case, "none", "ap", value, 0.02)
    area = 0.7 if name == "roi-area" else 0.5 + level / 2
    left_out = left_out_around(area, set(owners.values()))
    pooled.append(kept.PooledValue(protocol="none", metric="slice_auroc", unit="slice", value=area, left_out=left_out))
    info = {
        "name": name, "title": method.replace("-", " ").capitalize(), "year": 2024, "uses": "healthy",
        "family": "trivial" if name in TRIVIAL else "reconstruction", "supervision": "none",
        "deterministic": name in TRIVIAL and name != "random", "trivial": name in TRIVIAL,
    } | method_info  # fmt: skip
    return Record(
        cell=CellKey(method=method, dataset=dataset, train=train, seed=seed),
        method=kept.MethodInfo(**info),
        profile=profile,
        config={"width": 16},
        ids=kept.StageIds(fit=f"fit-{name}-{seed}", map=f"map-{name}-{seed}", measure=f"measure-{name}-{seed}"),
        data=kept.DataInfo(
            anatomy="liver",
            cases={case: f"{i:08x}" for i, case in enumerate(dice)},
            patients=dict(owners),
            truth={case: f"{i:08x}" for i, case in enumerate(dice)},
            train_cases={"0001": "aa11", "0002": "bb22"},
            split={"hash": "5f1e", "calibration": ["0002"], "train": ["0001"]},
            roi_source="label >= 1",
            phantom={"seed": 1, "spec": "0123abcd", "size": "quick"} if phantom else None,
        ),
        thresholds=[kept.Threshold(protocol="val", fold=0, threshold=0.42, patients=sorted(set(owners.values())))],
        per_case=per_case,
        pooled=pooled,
        error_bounds={"dice": 1e-5},
        cost=kept.Cost(
            fit_s=0.0 if name in TRIVIAL else 20.0 + 3 * seed, score_s=1.5, measure_s=0.4,
            s_per_slice=0.002 if name in TRIVIAL else 0.018, peak_ram_mib=512.25, peak_gpu_mib=None,
            params=0 if name in TRIVIAL else 1_234_567, device="cpu", threads=1, precision="fp32",
            updates={} if name in TRIVIAL else {"fit": 300},
        ),
        environment={"python": "3.11", "versions": {"numpy": "2"}},
        created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def build_run(
    path: Path,
    records: Sequence[Record] = (),
    failures: Sequence[Failure] = (),
    skipped: Sequence[Skip] = (),
    **info: Any,
) -> RunFolder:
    """Write records and ``run.json`` as the engine does."""
    folder = RunFolder(path)
    for record in records:
        kept.write_json(folder.record_path(record.cell), record)
    for failure in failures:
        kept.write_json(folder.failure_path(failure.cell), failure)
    values = {
        "command": "bench run --methods all --dataset lits --phantom", "references": {"lits": "hu-deviation"},
        "profile": "quick", "phantom": None, "skipped": [s.model_dump() for s in skipped],
    }  # fmt: skip
    folder.update_info(**(values | info))
    return folder


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    return build_record


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunFolder]:
    return build_run


@pytest.fixture(scope="session")
def liver_records() -> list[Record]:
    """Four trivial baselines, three methods with three seeds; ``ae`` lies below the best trivial baseline."""
    records = [build_record(m, level=v) for m, v in (("hu-deviation", 0.3), ("hu-threshold", 0.2), ("roi-area", 0.05))]
    records += [build_record("random", level=0.03, seed=s) for s in range(3)]
    for method, level in (("ae", 0.22), ("draem", 0.35), ("two-stage", 0.5)):
        records += [build_record(method, level=level, seed=s) for s in range(3)]
    return records
