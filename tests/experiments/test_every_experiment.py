"""Every shipped experiment from its name to its page, at ``smoke`` on the phantom."""

import pytest
from uasbench.api import execute
from uasbench.benchmark.experiments import load, names
from uasbench.benchmark.planning.options import experiment_options


@pytest.fixture(scope="module")
def run_at_smoke(cache, tmp_path_factory):
    """Runs an experiment with one seed; those of one organ share a folder, and so their trainings."""
    folders = {}

    def run(name):
        organ = "lung" if "coronacases" in load(name).dataset else "liver"
        calibration = load(name).calibration
        folder = folders.setdefault((organ, calibration), tmp_path_factory.mktemp(organ) / "run")
        options = {"phantom": True, "profile": "smoke", "seeds": "1", "workers": 2, "cache": cache, "out": folder}
        return execute(experiment_options(name, **options))

    return run


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", names())
def test_an_experiment_ends_in_a_page_with_all_its_figures(run_at_smoke, name):
    run, plan = run_at_smoke(name), load(name)
    assert run.failures == []
    told = run.info["experiment"]
    assert (told["name"], len(told["printed"])) == (name, len(plan.printed()))
    rows = {f"{row.method}@{row.label}" for row in plan.variants}
    done = {record.cell.method for record in run.records} | {skip.method for skip in run.skipped}
    assert rows <= done
    page = run.folder.page_html.read_text(encoding="utf-8")
    assert plan.title.split(":")[0].split("'")[0] in page
    assert "draws it once all cells are done" not in page
    for number, figure in enumerate(plan.figures, 1):
        section = page.partition(f'id="figure-{number}"')[2].partition("</section>")[0]
        assert "<img" in section, figure.title
