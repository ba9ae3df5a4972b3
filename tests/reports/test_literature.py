"""Numbers of papers: the cards of the methods, the page that prints them and the experiments agree, row by row."""

from __future__ import annotations

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.experiments import load
from uasbench.reports.literature import PUBLISHED

TABLE_III = "Yao et al. 2021, Table III"
ROWS_III = {
    "ae": "AE",
    "bayesian-vae": "Bayesian VAE",
    "constrained-vae": "constrained VAE",
    "context-vae": "context VAE",
    "f-anogan": "f-AnoGAN",
    "gmvae": "GMVAE",
    "kl-grad": "KL gradient",
    "nnunet": "nnU-Net, same set",
    "nnunet-unseen": "nnU-Net, other sets",
    "normnet": "NormNet",
    "normnet@no-growing": "NormNet without growing",
    "vae": "VAE",
    "vae-original": "VAE on whole images",
    "vae-restoration": "VAE restoration",
    "vae-spatial": "VAE, spatial bottleneck",
}
BMAD = {
    "cutpaste": ("59.33 ± 4.86",),
    "draem": ("69.95 ± 3.86", "87.45 ± 3.23", "79.29 ± 5.66"),
    "f-anogan": ("58.53 ± 0.21",),
    "padim": ("50.78 ± 0.61", "90.94 ± 0.84", "76.79 ± 0.41"),
    "patchcore": ("60.28 ± 0.76", "96.43 ± 0.19", "87.75 ± 0.49"),
    "reverse-distillation": ("60.38 ± 1.17", "96.01 ± 1.19", "90.29 ± 2.51"),
    "stfpm": ("61.75 ± 1.58", "91.18 ± 5.52", "90.62 ± 6.87"),
}
LIVER_DICE = {
    "asc-net": {"32.24"},
    "asc-net-post": {"50.23"},
    "draem": {"14.75 ± 14.28", "10.55"},
    "layer-decomposition": {"40.78", "41.08"},
    "layer-decomposition-finetuned": {"61.91"},
    "synthetic-tumors": {"59.77", "57.3"},
    "two-stage": {"53.03 ± 1.78", "55.6"},
}


def quoted(source: str, dataset: str) -> dict[str, dict[str, list[str]]]:
    """Method → metric → values that its card quotes of a source on a data set."""
    found: dict[str, dict[str, list[str]]] = {}
    for card in registry.runnable().cards().values():
        for origin, data, metric, value, _ in card.published:
            if data == dataset and source in origin:
                found.setdefault(card.name, {}).setdefault(metric, []).append(value)
    return found


def table_iii(dataset: str) -> dict[str, dict[str, str]]:
    """Row of ours → metric → value as printed."""
    rows = {row.method: row for row in PUBLISHED[dataset] if row.source == TABLE_III}
    assert set(rows) == set(ROWS_III.values())
    printed = {name: rows[label] for name, label in ROWS_III.items()}
    return {name: {"dice": row.value, "psc": row.psc, "sen": row.sen} for name, row in printed.items()}


@pytest.mark.parametrize("dataset", ["coronacases", "radiopaedia"])
def test_each_card_quotes_its_own_rows_of_the_lung_paper(dataset):
    wanted: dict[str, dict[str, list[str]]] = {}
    for name, row in table_iii(dataset).items():
        for metric, value in row.items():
            wanted.setdefault(name.partition("@")[0], {}).setdefault(metric, []).append(value)
    assert quoted(TABLE_III, dataset) == wanted


def test_each_card_quotes_its_own_row_of_bmad():
    metrics = ("slice_auroc", "pixel_auroc", "pro")
    assert quoted("BMAD", "lits") == {
        name: {metric: [value] for metric, value in zip(metrics, values, strict=False)} for name, values in BMAD.items()
    }


def test_each_card_quotes_its_own_dice_on_the_liver():
    assert {name: set(row["dice"]) for name, row in quoted("", "lits").items() if "dice" in row} == LIVER_DICE


def test_the_experiment_prints_the_whole_table_in_its_own_rows():
    rows = load("lung/table3").published
    assert len(rows) == len(ROWS_III) * 2 * 3
    for row in rows:
        value, std = table_iii(row.dataset)[row.row][row.metric].split(" ± ")
        assert (row.value, row.std) == (float(value), float(std))
