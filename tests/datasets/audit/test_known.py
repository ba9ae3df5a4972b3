from uasbench.benchmark.catalogue.registry import datasets
from uasbench.datasets.audit.known import findings, told_of


def test_findings_are_of_sets_that_exist_and_have_a_source():
    known = datasets().names()
    for finding in findings():
        assert finding.set in known
        assert finding.source
        assert finding.advice != "keep" or finding.cases


def test_a_finding_of_some_cases_is_told_where_one_of_them_is_there():
    everything = [told.finding for told in told_of("lits", ["volume-30", "volume-31", "volume-99"])]
    (some,) = [told for told in told_of("lits", ["volume-30", "volume-99"]) if told.finding.cases]
    assert some.cases == ("volume-30",)
    assert [told.finding for told in told_of("lits", ["volume-1"])] == [f for f in everything if not f.cases]
    assert told_of("nobody", ["a"]) == []


def test_the_strictest_choice_is_told_even_where_none_of_it_is_there():
    (strict,) = [told for told in told_of("btcv", ["img0001"]) if told.finding.advice == "keep"]
    assert strict.cases == ()
