"""Figures with one row per method: what its seeds make of it, and between which ranks it lies."""

from pathlib import Path

import pandas as pd

from .style import INK, MUTED, family_legend, look_of, new_figure, save, style


def seed_figure(seeds: pd.DataFrame, metric: str, title: str, path: Path) -> Path:
    """Draw the ``value`` of every seed of a method (``label``, ``family``) beside its ``mean`` with interval."""
    with style():
        methods = list(dict.fromkeys(seeds["method"]))
        figure = new_figure(7.2, 1.3 + 0.2 * len(methods))
        axes = figure.add_subplot()
        labels = []
        for row, method in enumerate(methods):
            part = seeds.loc[seeds["method"] == method]
            first = part.iloc[0]
            labels.append(str(first["label"]))
            colour, marker = look_of(str(first["family"]))
            low, high = 100 * part["value"].min(), 100 * part["value"].max()
            axes.plot([100 * first["ci_low"], 100 * first["ci_high"]], [row, row], color=colour, linewidth=5, alpha=0.2)
            axes.plot([low, high], [row, row], color=colour, linewidth=1.2)
            axes.plot(100 * part["value"], [row] * len(part), marker, color=colour, markersize=4.2, markeredgewidth=0)
            axes.plot(100 * first["mean"], row, "D", color="white", markeredgecolor=INK, markersize=4, zorder=4)
        axes.set_yticks(range(len(methods)), labels, fontsize=8)
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_xlabel(f"{metric}, %\n(dot: seed; thin line: from the worst to the best; diamond: mean; band: 95 %)")
        axes.set_title(title)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        family_legend(figure, set(seeds["family"]))
        return save(figure, path)


def stability_figure(ranks: pd.DataFrame, title: str, path: Path) -> Path:
    """Draw ``rank`` between ``rank_low`` and ``rank_high`` of every method, with the probability of rank 1."""
    with style():
        n = len(ranks)
        figure = new_figure(7.2, 1.2 + 0.2 * n)
        axes = figure.add_subplot()
        for row, one in enumerate(ranks.to_dict("records")):
            colour, _ = look_of(one["family"])
            axes.plot(
                [one["rank_low"], one["rank_high"]], [row, row], color=colour, linewidth=4, alpha=0.35,
                solid_capstyle="round",
            )  # fmt: skip
            axes.plot(one["rank"], row, "D", color=colour, markersize=4.5, markeredgecolor="white")
            if one["p_rank1"] >= 0.01:
                axes.text(
                    1.01, row, f"first in {100 * one['p_rank1']:.0f} %", fontsize=7.5, va="center", color=MUTED,
                    transform=axes.get_yaxis_transform(),
                )  # fmt: skip
        axes.set_yticks(range(n), [str(name) for name in ranks["method"]], fontsize=8)
        axes.set_ylim(n - 0.4, -0.6)
        axes.set_xlim(0.5, n + 0.5)
        axes.set_xlabel("rank (1 is best)")
        axes.set_title(title)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        family_legend(figure, set(ranks["family"]))
        return save(figure, path)
