"""The figures of one headline table: what each draws, and what the report says below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.protocols.catalogue import PROTOCOLS
from ...benchmark.scores import Scores
from ...benchmark.scoring.metrics import sign
from ...benchmark.statistics import rank_methods
from ..columns import Facts, MethodOnData, flag_text, kind_marks, metric_name, records_of
from ..details import detailed_protocol
from ..headline import Headline
from ..tables import Tables
from .case_plots import MOST_LEADING, case_map, difficulty_figure
from .cost_plot import cost_figure, pareto_front
from .froc import MOST_NAMED, FrocCurve, froc_figure
from .interval_plots import seed_figure, stability_figure
from .pair_plot import all_pairs, pair_figure
from .picture import Picture, Pictures, Spot, write_data
from .score_plots import MethodPoints, patient_figure, rank_figure
from .threshold_plots import (
    SHARES,
    at_shares,
    histogram_frame,
    roc_figure,
    roc_points,
    score_figure,
    sweep_figure,
    thresholds_of,
)

FIGURE_MARKS = "◆†§¶ºª¤"
NO_HISTOGRAM = (
    "{}: no figures of scores and thresholds: its records are of an earlier version, which kept no histograms; 'bench "
    "rescore' measures their maps again"
)
NOT_DESCRIBED = (
    "{}: no figure of Dice against lesion volume and contrast: its records are of an earlier version, which described "
    "no case; 'bench rescore' does"
)


@dataclass(frozen=True)
class Scene:
    """One headline table and what its figures are drawn from."""

    pictures: Pictures
    target: Path
    tables: Tables
    headline: Headline

    @property
    def where(self) -> tuple[str, str]:
        return self.headline.dataset, self.headline.train

    @property
    def name(self) -> str:
        """The metric that orders the table, with its protocol."""
        protocol, metric = self.headline.verdict
        return metric_name(metric, protocol)

    @cached_property
    def by_method(self) -> dict[str, Scores]:
        """The values per patient of that metric, in the order of the table; none where it is not of patients."""
        wanted = (*self.where, *self.headline.verdict)
        found = {
            s.key.method: s for s in self.tables.scores if s.unit == "patient" and s.key[1:] == wanted and s.by_patient
        }
        return {row.method: found[row.method] for row in self.headline.rows if row.method in found}

    @cached_property
    def labels(self) -> dict[str, str]:
        """Every method with those of its marks that figures show."""
        return {
            row.method: f"{row.method} {''.join(m for m in row.marks if m in FIGURE_MARKS)}".rstrip()
            for row in self.headline.rows
        }

    @cached_property
    def best_trivial(self) -> str:
        return next((row.method for row in self.headline.rows if "best-trivial" in row.flags), "")

    @cached_property
    def leading(self) -> list[str]:
        """The first methods of the table and the best trivial baseline, in its order."""
        first = [m for m in self.by_method if m != self.best_trivial][: MOST_LEADING - 1]
        return [m for m in self.by_method if m in first or m == self.best_trivial]

    def facts(self, method: str) -> Facts:
        return self.tables.facts[MethodOnData(method, *self.where)]

    def family(self, method: str) -> str:
        return self.facts(method).method.family

    def competes(self, method: str) -> bool:
        """Whether it takes part in ranks and comparisons: a reference among them would shift everybody's rank."""
        return not kind_marks(self.facts(method).flags)

    def title(self, what: str) -> str:
        phantom = " (phantom)" if "phantom" in self.headline.flags else ""
        return f"{what}, {self.where[0]} after {self.where[1]}{phantom}"

    def add(
        self, group: str, what: str, data: pd.DataFrame, draw: Callable[[str, Path], Path], caption: str = "",
        method: str = "", spots: Iterable[Spot] = (),
    ) -> None:  # fmt: skip
        """Draw a figure, of one ``method`` where named, with its title and path, and write its numbers beside it.

        ``spots`` are read after the figure was drawn.
        """
        title, name = self.title(what), f"{group}-{self.headline.name}.svg"
        if method:
            name = f"{group}/{method.replace('/', '-')}-{self.headline.name}.svg".replace(":", "-")
        path = draw(title, self.target / name)
        plain = {label: method for method, label in self.labels.items()}
        if "method" in data and "flags" not in data:
            flags = {row.method: flag_text({*row.flags}) for row in self.headline.rows}
            names = [plain.get(str(one), str(one)) for one in data["method"]]
            data = data.assign(method=names, flags=[flags.get(name, "") for name in names])
        data_path = write_data(path, data)
        named = tuple(replace(spot, method=plain.get(spot.method, spot.method)) for spot in spots)
        self.pictures.found.append(
            Picture(group, *self.where, title, path, caption, method, data=data_path, spots=named)
        )


def draw_scores(pictures: Pictures, target: Path, tables: Tables, headline: Headline) -> None:
    """Draw every figure of a headline table."""
    scene = Scene(pictures, target, tables, headline)
    if scene.by_method:
        points = _points(scene)
        for draw in (_draw_patients, _draw_cost):
            draw(scene, points)
        for draw in (_draw_ranks, _draw_stability, _draw_seeds, _draw_cases, _draw_difficulty, _draw_pairs):
            draw(scene)
    draw_froc(scene)
    draw_thresholds(scene)


def _points(scene: Scene) -> list[MethodPoints]:
    cost = scene.tables.cost
    spent = cost.loc[(cost["dataset"] == scene.where[0]) & (cost["train"] == scene.where[1]), :]
    means = spent.groupby("method")[["s_per_slice", "fit_s"]].mean()
    return [
        MethodPoints(
            label=scene.labels[method],
            family=scene.family(method),
            values=list(scores.by_patient.values()),
            s_per_slice=float(np.asarray(means.loc[method, "s_per_slice"])),
            fit_s=round(float(np.asarray(means.loc[method, "fit_s"])), 1),  # less is what a call takes
            best_trivial=method == scene.best_trivial,
        )
        for method, scores in scene.by_method.items()
        if method in means.index
    ]


def _draw_patients(scene: Scene, points: list[MethodPoints]) -> None:
    rows = [
        {"method": method, "family": scene.family(method), "patient": patient, "value": value}
        for method, scores in scene.by_method.items()
        for patient, value in scores.by_patient.items()
    ]
    scene.add(
        "patients", f"{scene.name} per patient", pd.DataFrame(rows),
        lambda title, path: patient_figure(points, scene.name, title, path),
    )  # fmt: skip


def _draw_cost(scene: Scene, points: list[MethodPoints]) -> None:
    means = [p.mean for p in points]
    fronts = {x: pareto_front([getattr(p, x) for p in points], means) for x in ("s_per_slice", "fit_s")}
    rows = [
        {
            "number": i + 1, "method": p.label, "family": p.family, "mean": p.mean / 100, "s_per_slice": p.s_per_slice,
            "fit_s": p.fit_s, **{f"on_front_{x}": i in front for x, front in fronts.items()},
        }
        for i, p in enumerate(points)
    ]  # fmt: skip
    spots: list[Spot] = []

    def draw(title: str, path: Path) -> Path:
        spots.extend(cost_figure(points, scene.name, title, path))
        return path

    scene.add(
        "cost", f"Cost and {scene.name}", pd.DataFrame(rows), draw,
        "Grey line: methods that no other one beats in both, which are named; numbers are places in the table. Costs "
        "are means over seeds on this machine.",
        spots=spots,
    )  # fmt: skip


def _draw_ranks(scene: Scene) -> None:
    rivals = {m: s for m, s in scene.by_method.items() if scene.competes(m)}
    table = pd.DataFrame({m: pd.Series(s.by_patient) for m, s in rivals.items()})
    ranking = rank_methods(table, lower_is_better=sign(scene.headline.verdict[1]) < 0)
    if len(ranking.ranks) < 2:
        return
    families = {m: scene.family(m) for m in rivals}
    friedman = "" if np.isnan(ranking.p_friedman) else f" Friedman test: p = {ranking.p_friedman:.2g}."
    dropped = f" {ranking.n_dropped} patients without a value of every method left out." if ranking.n_dropped else ""
    frame = pd.DataFrame({"method": ranking.ranks.index, "average_rank": ranking.ranks.to_numpy(dtype=float)})
    scene.add(
        "ranks", f"Average ranks by {scene.name}",
        frame.assign(critical_difference=ranking.critical_difference, n_patients=ranking.n),
        lambda title, path: rank_figure(ranking, families, title, path),
        f"1 is best; {ranking.n} patients, averaged over seeds. Bars join methods whose ranks differ by less than "
        f"Nemenyi's critical difference at 0.05.{friedman}{dropped}",
    )  # fmt: skip


def _draw_stability(scene: Scene) -> None:
    protocol, metric = scene.headline.verdict
    where = {"dataset": scene.where[0], "train": scene.where[1], "protocol": protocol, "metric": metric}
    rows = [r for r in records_of(scene.tables.ranks, **where, unit="patient") if not np.isnan(r["p_rank1"])]
    if not rows:
        return
    frame = pd.DataFrame(rows).assign(family=[scene.family(r["method"]) for r in rows])
    scene.add(
        "stability", f"How surely methods are ranked by {scene.name}", frame,
        lambda title, path: stability_figure(frame, title, path),
        "Diamond: rank by the mean over patients; bar: where 95 % of its ranks lie when patients and seeds are drawn "
        "again; right: how often it is first.",
    )  # fmt: skip


def _draw_seeds(scene: Scene) -> None:
    protocol, metric = scene.headline.verdict
    where = {"dataset": scene.where[0], "train": scene.where[1], "protocol": protocol, "metric": metric}
    summary = {r["method"]: r for r in records_of(scene.tables.summary, **where, unit="patient")}
    rows = [
        {
            "method": method, "label": scene.labels[method], "family": scene.family(method), "seed": seed,
            "value": value, **{key: summary[method][key] for key in ("mean", "ci_low", "ci_high")},
        }
        for method, scores in scene.by_method.items()
        for seed, value in scores.by_seed().items()
    ]  # fmt: skip
    if len({row["seed"] for row in rows}) < 2:
        return
    frame = pd.DataFrame(rows)
    scene.add(
        "seeds", f"{scene.name} per seed", frame, lambda title, path: seed_figure(frame, scene.name, title, path),
        "Dot: mean over patients of one seed; diamond: mean over patients and seeds with its 95 % interval for new "
        "patients and seeds. Methods without chance have one dot.",
    )  # fmt: skip


def _values_of_cases(scene: Scene) -> pd.DataFrame:
    """Return the mean over seeds of every case of the methods in the table."""
    protocol, metric = scene.headline.verdict
    where = {"dataset": scene.where[0], "train": scene.where[1], "protocol": protocol, "metric": metric}
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in records_of(scene.tables.per_case, **where):
        if row["method"] in scene.by_method and not np.isnan(row["value"]):
            values.setdefault((row["method"], row["case"], row["patient"]), []).append(row["value"])
    rows = [(*key, float(np.mean(seeds))) for key, seeds in values.items()]
    return pd.DataFrame(rows, columns=["method", "case", "patient", "value"])


def _draw_cases(scene: Scene) -> None:
    frame = _values_of_cases(scene)
    wide = frame.pivot_table(index="method", columns="case", values="value").reindex(list(scene.by_method))
    if min(wide.shape) < 2:
        return
    wide = wide.reindex(columns=wide.mean().sort_values(kind="stable").index)
    scene.add(
        "cases", f"{scene.name} of every case", wide.reset_index(),
        lambda title, path: case_map(wide.rename(index=scene.labels), scene.name, title, path),
        "Means over seeds. Cases from hard to easy by the mean over methods; white: no value.",
    )  # fmt: skip


def _draw_difficulty(scene: Scene) -> None:
    cases = scene.tables.cases
    cases = cases.loc[cases["dataset"] == scene.where[0], ["case", "lesion_ml", "contrast_hu", "contrast_noise"]]
    frame = _values_of_cases(scene).merge(cases, on="case", how="inner").dropna(subset="lesion_ml")
    frame = frame.loc[frame["lesion_ml"] > 0]
    if frame.empty:
        scene.pictures.notes.append(NOT_DESCRIBED.format(scene.where[0]))
        return
    frame = frame.assign(contrast=frame["contrast_noise"].abs())
    scene.add(
        "difficulty", f"{scene.name} by lesion volume and contrast", frame,
        lambda title, path: difficulty_figure(frame, scene.leading, scene.labels, scene.name, title, path),
        "Dots: cases, means over seeds; lines: means over neighbouring cases. The first methods of the table and the "
        "best trivial baseline in colour, all others grey. Volume of all lesions of a case; contrast of its lesions to "
        "the organ around them, without its sign, in units of the organ's noise.",
    )  # fmt: skip


def _draw_pairs(scene: Scene) -> None:
    rivals = {m: s for m, s in scene.by_method.items() if scene.competes(m) and s.sample is not None}
    found = all_pairs(rivals, sign(scene.headline.verdict[1]))
    if not (tested := int(np.isfinite(found["p_holm"].to_numpy(dtype=np.float64)).sum()) // 2):
        return
    scene.add(
        "pairs", f"All pairs by {scene.name}", found,
        lambda title, path: pair_figure(found, scene.labels, title, path),
        f"Crossed test of every pair (patients and seeds random), two-sided, Holm over all {tested} "
        "of them: stricter than the tables of tests against one reference.",
    )  # fmt: skip


def draw_froc(scene: Scene) -> None:
    """Draw the curves of all methods under the protocol of the tables of lesions; sets without voxels have none."""
    protocol = detailed_protocol(scene.headline)
    own = [r for r in scene.tables.records if (r.cell.dataset, r.cell.train) == scene.where]
    curves = []
    for row in scene.headline.rows:
        points = [np.array(curve) for r in own if r.cell.method == row.method and (curve := r.froc.get(protocol))]
        points = [curve for curve in points if np.array_equal(curve[:, 0], points[0][:, 0])]
        if points:
            rates, recall = np.mean(points, axis=0).T.tolist()
            curves.append(FrocCurve(scene.labels[row.method], scene.family(row.method), rates, recall))
    if not curves:
        return
    rows = [
        {"method": curve.label, "family": curve.family, "false_components_per_scan": rate, "lesions_found": recall}
        for curve in curves
        for rate, recall in zip(curve.rates, curve.recall, strict=True)
    ]
    scene.add(
        "froc", f"FROC at the {protocol} threshold", pd.DataFrame(rows),
        lambda title, path: froc_figure(curves, title, path),
        "Components of the mask, called from the highest score down, against lesions matched one to one; means over "
        f"seeds. A line is level where the mask holds nothing more. Of many, the {MOST_NAMED} highest are named.",
    )  # fmt: skip


def draw_thresholds(scene: Scene) -> None:
    """Draw the scores of every method with its thresholds, and Dice against the threshold of all of them."""
    own = [r for r in scene.tables.records if (r.cell.dataset, r.cell.train) == scene.where]
    kept = [(r, r.histogram) for r in own if r.histogram is not None]
    if not kept and scene.by_method:
        scene.pictures.notes.append(NO_HISTOGRAM.format(scene.where[0]))
    shown = [id_ for id_, protocol in PROTOCOLS.items() if protocol.grid is None]
    curves, rocs = [], []
    for row in scene.headline.rows:
        found = [(r, h) for r, h in kept if r.cell.method == row.method]
        if not found:
            continue
        record, histogram = found[0]
        thresholds = thresholds_of(record, shown)
        scene.add(
            "scores", f"Scores of {row.method}, seed {record.cell.seed}", histogram_frame(histogram),
            partial(score_figure, histogram, thresholds), method=row.method,
        )  # fmt: skip
        points = [roc_points(h) for _, h in found]
        value = np.mean([one["value"] for one in points], axis=0)
        if not np.isnan(value).all():
            rocs.append(points[0].assign(method=row.method, value=value))
        dice = [at_shares(h) for _, h in found if h.dice]
        if dice:
            curves.append(pd.DataFrame({"method": row.method, "healthy_above": SHARES, "dice": np.mean(dice, axis=0)}))
    if curves:
        frame = pd.concat(curves, ignore_index=True)
        scene.add(
            "thresholds", "Dice against the threshold", frame,
            lambda title, path: sweep_figure(frame, scene.leading, scene.labels, title, path),
            "Mean over patients of their Dice when one threshold without smoothing serves all, means over seeds; "
            "dotted: 5 and 1 % of these voxels, near which the quantiles of healthy scans lie where their scores are "
            "alike. The first methods of the table and the best trivial baseline in colour, all others grey.",
        )  # fmt: skip
    if rocs:
        both = pd.concat(rocs, ignore_index=True)
        scene.add(
            "roc", "ROC and precision–recall curves", both,
            lambda title, path: roc_figure(both, scene.leading, scene.labels, title, path),
            "Voxels of all cases pooled, means over seeds at the same share or sensitivity; AUROC and AP of the table "
            "are means over patients. Dotted: scores that know nothing. Colours as above.",
        )  # fmt: skip
