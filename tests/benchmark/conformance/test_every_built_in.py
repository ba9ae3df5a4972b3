"""``bench check`` of every built-in method and top line, on both organs."""

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.conformance.run import check_method

KNOWN = registry.runnable()


@pytest.mark.slow
@pytest.mark.timeout(3000)  # each of nnU-Net's trainings starts it anew
@pytest.mark.parametrize("anatomy", ["liver", "lung"])
@pytest.mark.parametrize("name", [name for name in KNOWN.names() if KNOWN.entry(name).built_in])
def test_every_check_passes_or_is_skipped_with_a_reason(name, anatomy):
    results = {result.name: result for result in check_method(name, anatomy=anatomy)}
    assert not {check: result.detail for check, result in results.items() if result.failed}
    assert results["import"].passed
    assert all(result.detail for result in results.values() if result.skipped)
