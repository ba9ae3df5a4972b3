"""Every shipped experiment from its name to its page, at ``smoke`` on the phantom."""

import pytest
from uasbench.api import execute
from uasbench.benchmark.catalogue.registry import runnable
from uasbench.benchmark.experiments import load, names
from uasbench.benchmark.planning.options import experiment_options
from uasbench.reports.console import beside
from uasbench.reports.formats import NOT_AVAILABLE

NO_PHANTOM = {"lidc", "radiopaedia"}
"""Sets that no phantom imitates: experiments leave them out there."""
MAY_DECLINE = {
    **dict.fromkeys(("glass", "mood-unet"), "learns from 2 healthy patients or more, and btcv has 1 for training"),
    **dict.fromkeys(("nnunet", "nnunet-unseen"), "the package nnunetv2 is not installed"),
    **dict.fromkeys(("cutpaste@bmad", "patchcore@bmad"), "no pretrained weights for resnet18"),
}
"""Rows that may be skipped, and why."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", names())
def test_an_experiment_ends_in_a_page_with_all_its_rows_numbers_and_figures(name, cache, tmp_path):
    options = {"phantom": True, "profile": "smoke", "seeds": "1", "workers": 2, "cache": cache, "out": tmp_path / "run"}
    run, plan = execute(experiment_options(name, **options)), load(name)
    assert run.failures == []
    told = run.info["experiment"]
    assert (told["name"], len(told["printed"])) == (name, len(plan.printed()))

    rows = [
        *(runnable().select(plan.methods) if plan.methods else ()),
        *(f"{v.method}@{v.label}" for v in plan.variants),
    ]
    declined = {(skip.method, skip.dataset): skip.reason for skip in run.skipped}
    assert {row: reason for (row, _), reason in declined.items() if MAY_DECLINE.get(row, "n/a") not in reason} == {}
    done = {(record.cell.method, record.cell.dataset) for record in run.records}
    sets = {name.strip() for name in plan.dataset.split(",")} - NO_PHANTOM
    assert done == {(row, dataset) for row in rows for dataset in sets} - declined.keys()

    ours = beside([printed for printed in plan.printed() if (printed.row, printed.dataset) in done], run.tables)
    assert ours.loc[ours["here"] == NOT_AVAILABLE, ["row", "dataset", "metric"]].to_dict("records") == []

    page = run.folder.page_html.read_text(encoding="utf-8")
    assert plan.title.split(":")[0].split("'")[0] in page
    assert "draws it once all cells are done" not in page
    for number, figure in enumerate(plan.figures, 1):
        section = page.partition(f'id="figure-{number}"')[2].partition("</section>")[0]
        assert "<img" in section, figure.title
