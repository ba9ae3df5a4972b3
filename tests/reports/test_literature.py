"""Numbers of papers: the cards of the methods, the page that prints them and the experiments agree."""

from __future__ import annotations

from uasbench.benchmark import registry
from uasbench.benchmark.experiments import load
from uasbench.reports.literature import PUBLISHED

TABLE_III = "Yao et al. 2021, Table III"


def printed(dataset: str) -> set[tuple[str, str]]:
    """Every (metric, value as printed) of the lung paper's table."""
    rows = [row for row in PUBLISHED[dataset] if row.source == TABLE_III]
    return {pair for row in rows for pair in (("dice", row.value), ("psc", row.psc), ("sen", row.sen))}


def test_cards_quote_the_lung_paper_as_the_report_does():
    seen = 0
    for card in registry.runnable().cards().values():
        for source, dataset, metric, value, _ in card.published:
            if source == TABLE_III:
                assert (metric, value) in printed(dataset), (card.name, dataset, metric, value)
                seen += 1
    assert seen >= 15 * 6


def test_the_experiment_prints_the_whole_table():
    rows = load("lung/table3").published
    assert len(rows) == 15 * 2 * 3
    for row in rows:
        pairs = [(m, tuple(map(float, v.split(" ± ")))) for m, v in printed(row.dataset)]
        assert (row.metric, (row.value, row.std)) in pairs
