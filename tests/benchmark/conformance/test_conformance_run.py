"""The conformance check runs in a process of its own, and says what became of it."""

import os
import time

import pytest
from uasbench import Method
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.conformance.run import NAMES, CheckResult, check_method, run_checks
from uasbench.benchmark.device import DeviceError
from uasbench.common.errors import DataError


def test_the_twenty_line_method_passes_in_a_process_of_its_own(median_residual):
    seen: list[CheckResult] = []
    results = check_method(median_residual, progress=seen.append)
    assert seen == results
    assert [r.name for r in results] == list(NAMES)
    assert not [r for r in results if r.failed]
    assert [r.name for r in results if r.skipped] == ["resumed", "own decision", "restorations", "learns"]


@pytest.mark.slow
@pytest.mark.parametrize("anatomy", ["liver", "lung"])
def test_a_trained_network_passes_and_beats_its_untrained_self(tiny_net, outcome, anatomy):
    found = outcome(list(run_checks(tiny_net, anatomy=anatomy)))
    assert {name for name, how in found.items() if how != "passed"} == {"restorations"}, found


@pytest.mark.slow
def test_a_registered_plugin_is_checked_by_name(install):
    text = (
        "import numpy as np\nfrom uasbench import Method, MethodCard\n"
        "print('hello from the plug-in')\n"
        "class P(Method):\n"
        "    card = MethodCard(name='byname', title='By name')\n"
        "    def fit(self, healthy, ctx):\n        print('fitting')\n"
        "    def score(self, case):\n        return case.image * np.float32(1)\n"
    )
    install("pkg-byname", {"byname_plugin.py": text}, methods={"byname": "byname_plugin:P"})
    assert not [r for r in check_method("byname") if r.failed]


def test_an_import_that_fails_is_a_failed_check(install):
    install("pkg-bad", {"raising_plugin.py": "1 / 0"}, methods={"raising": "raising_plugin:P"})
    results = list(run_checks("raising"))
    assert results[0].failed
    assert "ZeroDivisionError" in results[0].detail
    assert all(r.skipped for r in results[1:])


def test_impossible_requests_are_refused():
    with pytest.raises(DataError, match=r"'brain'.*known: colon, kidney, liver, lung"):
        check_method("random", anatomy="brain")
    with pytest.raises(DeviceError, match="choose auto, cpu or cuda"):
        check_method("random", device="tpu")
    with pytest.raises(registry.RegistryError, match="did you mean 'random'"):
        check_method("randm")


def hang(self: Method, *_: object) -> None:
    time.sleep(60)


def crash(self: Method, *_: object) -> None:
    print("about to crash", flush=True)
    os._exit(7)


def test_a_method_that_hangs_is_stopped(median_residual, outcome, variant):
    start = time.perf_counter()
    results = check_method(variant(median_residual, fit=hang), timeout=5)
    assert time.perf_counter() - start < 30
    found = outcome(results)
    assert "not finished within 5 s" in found["fit and score"]
    assert found["card"] == "passed"
    assert [r.name for r in results] == list(NAMES)
    assert found["learns"] == "skipped"


def test_a_method_that_kills_its_process_is_a_failed_check(median_residual, outcome, variant):
    found = outcome(check_method(variant(median_residual, fit=crash)))
    assert found["fit and score"] == "its process ended with exit status 7; about to crash"


def test_the_data_root_is_out_of_sight(median_residual, variant, monkeypatch):
    monkeypatch.setenv("UASBENCH_" + "DATA", "/somewhere")

    def fit(self, healthy, ctx):
        assert not [k for k in os.environ if k.startswith("UASBENCH_D")]

    assert not [r for r in check_method(variant(median_residual, fit=fit)) if r.failed]
