"""The shipped experiments: they name what exists, and print what the papers print."""

import itertools

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.printed import COSTS
from uasbench.benchmark.experiments import ExperimentError, load, names
from uasbench.benchmark.planning.options import experiment_options
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.benchmark.scoring.metrics import METRICS
from uasbench.methods.config import PROFILES, resolve
from uasbench.reports.columns import COST, UNITS


@pytest.mark.parametrize("name", names())
def test_every_row_exists_and_every_printed_number_belongs_to_one(name):
    plan = load(name)
    known = registry.runnable()
    chosen = known.select(plan.methods) if plan.methods else []
    rows = {*chosen, *(f"{row.method}@{row.label}" for row in plan.variants)}
    for row, profile in itertools.product(plan.variants, PROFILES):
        resolve(known.get(row.method).Config, profile, settings=row.settings)
    assert plan.reference is None or plan.reference in rows
    datasets = plan.dataset.split(",")
    assert set(datasets) <= set(registry.datasets().names())
    for printed in plan.printed():
        assert printed.row in rows
        assert printed.dataset in datasets
        assert printed.test is None or printed.test.against == plan.reference
        if printed.metric in COSTS:
            assert printed.metric in COST
            continue
        assert printed.metric in METRICS
        assert printed.protocol in PROTOCOLS
        assert printed.unit in UNITS


def test_an_experiment_of_several_sets_becomes_one_run():
    options = experiment_options("lung/table3", seeds="2")
    assert options.datasets == ["coronacases", "radiopaedia"]
    assert options.profile == "paper"
    assert experiment_options("liver/bmad10").only == [f"lits:volume-{n}" for n in range(1, 11)]
    assert (options.reference, experiment_options("liver/table2").reference) == (None, "two-stage@baseline")


def test_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: t\ndataset: lits\nmethods: ae\npublished: [{row: ae, value: 3}]\n")
    with pytest.raises(ExperimentError, match="published"):
        load(str(path))


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 5000, b"a: &a [*a", b"\0", b"- 1\n", b"seeds: !!python/object/apply:os.getcwd []"]
)
def test_files_that_are_no_experiment_are_refused_in_few_words(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ExperimentError, match=r"mine\.yaml is not a valid experiment") as refused:
        load(str(path))
    assert len(str(refused.value)) < 600
