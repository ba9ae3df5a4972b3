"""The file of rates, what is wrong with one, and rates from a finished run."""

import math

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.rates import FILE, RatesError, Source, harness, measured, rates, read

HEAD = "sources:\n  here: {about: a machine}\nrates:\n"
LINE = "  - [ae, quick, liver, cpu, 8.1, 0.003, 200, here]\n"


def test_the_file_names_methods_and_organs_that_exist():
    known = registry.runnable()
    assert all(rate.anatomy in known.card(rate.method).anatomy for rate in rates().rows)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINE, "line 5: ae, quick, liver, cpu stands twice"),
        (LINE.replace("quick", "fast"), "line 5: profile 'fast'"),
        (LINE.replace("8.1", "long").replace("ae", "dae"), "line 5: fit_s 'long'"),
        (LINE.replace("here", "there").replace("ae", "dae"), "line 5: no source 'there'"),
        ("  - [dae, quick]\n", "line 5: zip"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path, line, said):
    path = tmp_path / "rates.yaml"
    path.write_text(HEAD + LINE + line)
    with pytest.raises(RatesError, match=said):
        read(path)


def test_a_finished_run_gives_lines_that_read_back(small_run, tmp_path):
    records = small_run.records()
    found = {rate.method: rate for rate in measured(records, "here")}
    (own,) = [record for record in records if record.cell.method == "hu-deviation"]
    cost = own.cost
    assert found["hu-deviation"].hours * 3600 == pytest.approx(cost.threads * (cost.fit_s + cost.score_s), rel=0.01)
    path = tmp_path / "rates.yaml"
    path.write_text(HEAD + "\n".join(rate.line() for rate in found.values()))
    again = read(path)
    assert {rate.method for rate in again.rows} == {"hu-deviation", "random"}
    assert again.hours("random", "cpu") == (None, None, None)  # smoke is no profile that a user waits for
    assert FILE.exists()


def test_compiled_fits_give_no_rates(small_run):
    compiled = {"cost": small_run.records()[0].cost.model_copy(update={"compiled": True})}
    assert not list(measured([record.model_copy(update=compiled) for record in small_run.records()], "here"))


def test_a_finished_run_tells_what_the_harness_takes(small_run):
    records, timing = small_run.records(), small_run.info()["timing"]
    found = Source.model_validate({"about": "a machine", **harness(records, timing)})
    assert 0 < found.stage_s < 60
    assert found.measure_s is not None
    assert 0 <= found.measure_s < 60e6
    work = {"fit": 30.0, "map": 10.0, "measure": 12.0}
    known = harness(records, [{"stage_s": work, "fit_and_score_s": 28.0}])
    stages = len(records) + len({fit for record in records for fit in record.ids.fits})
    cases = [case for record in records for case in record.data.facts.values()]
    voxels = sum(1e3 * case.organ_ml / math.prod(case.spacing) for case in cases)
    assert known["stage_s"] == pytest.approx(12 / stages, rel=0.01)
    assert known["measure_s"] == pytest.approx((12 - len(records) * 12 / stages) / voxels * 1e6, rel=0.05)
