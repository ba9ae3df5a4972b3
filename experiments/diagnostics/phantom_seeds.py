"""Runs of one experiment on several phantom seeds, read together: their patients are different people.

``python -m uasbench.experiments.diagnostics.phantom_seeds RUN RUN … --reference two-stage`` prints for every method its
Dice (``val``) on each phantom, the mean over all patients, the reference's lead with Student's interval over patients,
AUROC and AP as means over patients, and the mean ratio of each watched phase (docs/methods.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...benchmark.convergence import mean_ratios
from ...benchmark.long_form import collect
from ...benchmark.protocols.catalogue import VAL
from ...benchmark.runs.folder import RunFolder
from ...benchmark.runs.records import Record
from ...benchmark.scores import Scores
from ...benchmark.scoring.metrics import NO_PROTOCOL
from ...reports.columns import facts
from ...reports.paired import paired_tests

WANTED = {"dice": ("dice", VAL), "auroc": ("auroc", NO_PROTOCOL), "ap": ("ap", NO_PROTOCOL)}


def renamed(record: Record) -> Record:
    """Return a record whose cases and patients carry the phantom's seed; what is pooled over patients is left out.

    Raises:
        SystemExit: the record is not of a phantom.
    """
    if record.data.phantom is None:
        raise SystemExit(f"{record.cell.method} on {record.cell.dataset}: not a phantom, whose seeds this is about")
    seed = record.data.phantom["seed"]
    values = [
        v.model_copy(update={"case": f"{seed}:{v.case}", "patient": f"{seed}:{v.patient}"}) for v in record.per_case
    ]
    return record.model_copy(update={"per_case": values, "pooled": []})


def together(runs: Sequence[Sequence[Record]], reference: str) -> pd.DataFrame:
    """Return one row per method and data set, the best Dice first, all numbers but ratios in per cent.

    Args:
        runs: the records of each run, of phantoms of different seeds.
        reference: what ``lead``, ``low`` and ``high`` (its Dice less the method's, 95 %) compare with.

    Raises:
        SystemExit: a run is not on a phantom, or two are on the same one.
    """
    seeds = [{record.data.phantom["seed"] for record in run if record.data.phantom} for run in runs]
    if len(set[int]().union(*seeds)) < sum(map(len, seeds)):
        raise SystemExit(f"the phantom seeds of the runs are {seeds}: give each phantom once")
    records = [renamed(record) for records in runs for record in records]
    scores = collect(records)
    by_key = {(s.key.method, s.key.dataset, s.key.metric, s.key.protocol): s for s in scores if s.unit == "patient"}
    dice = [s for s in scores if (s.key.metric, s.key.protocol) == WANTED["dice"]]
    tests = paired_tests(dice, facts(records), {s.key.dataset: [reference] for s in dice})
    leads = tests[tests["unit"] == "patient"].set_index(["dataset", "method"])
    rows = []
    for dataset, method in sorted({(r.cell.dataset, r.cell.method) for r in records}):
        own = [r for r in records if (r.cell.dataset, r.cell.method) == (dataset, method)]
        row: dict[str, object] = {"dataset": dataset, "method": method, "fits": len(own)}
        for name, (metric, protocol) in WANTED.items():
            found = by_key.get((method, dataset, metric, protocol))
            row |= {} if found is None else means(name, found)
        if (dataset, method) in leads.index:
            lead = leads.loc[(dataset, method)]
            found = {"lead": lead["mean_diff"], "low": lead["ci_high"], "high": lead["ci_low"]}
            row |= {key: -100 * value for key, value in found.items()} | {"n": lead["n"]}
        ratios = mean_ratios(fit for record in own for fit in record.convergence)
        rows.append(row | {"ratios": " ".join(f"{ratio:.2f}" for ratio in ratios.values())})
    return pd.DataFrame(rows).sort_values(["dataset", "dice"], ascending=[True, False], ignore_index=True)


def means(name: str, found: Scores) -> dict[str, float]:
    """Return a metric's mean over all patients, of Dice also over those of each phantom (``dice 30``), in per cent."""
    by_patient = pd.Series(found.by_patient, dtype=float) * 100
    row = {name: by_patient.mean()}
    if name == "dice":
        row |= {f"dice {seed}": group.mean() for seed, group in by_patient.groupby(lambda p: p.split(":")[0])}
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--reference", required=True)
    options = parser.parse_args()
    table = together([RunFolder(path).records() for path in options.runs], options.reference)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}", na_rep=""))


if __name__ == "__main__":
    main()
