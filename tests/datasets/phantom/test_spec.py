"""The specification: its hash, its sources, its distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from uasbench.datasets.phantom.spec import parse_spec, read_spec, spec_text


def test_hash_covers_every_number_and_every_source():
    text = spec_text()
    assert parse_spec(text).digest == read_spec("liver").digest
    assert parse_spec(text.replace("-850", "-851")).digest != read_spec("liver").digest
    assert parse_spec(text.replace("Murray, PNAS 1926", "Murray, PNAS 1927")).digest != read_spec("liver").digest
    assert parse_spec(text.replace("\n", "\r\n")).digest == read_spec("liver").digest


@pytest.mark.parametrize("name", ["liver", "lung"])
def test_every_number_has_a_source(name):
    with pytest.raises(ValueError, match="not listed"):
        parse_spec(spec_text(name).replace("source: murray", "source: hearsay"))


def test_the_range_that_a_calibrated_number_stays_in_has_a_source():
    with pytest.raises(ValueError, match=r"within 'hearsay' is not listed"):
        parse_spec(spec_text("lung").replace("within: ma2021", "within: hearsay"))


LIVER = read_spec("liver")
LUNG_CALIBRATED = (
    "lung.exhaled lung.coarse_sd findings.dependent_fill findings.dependent_depth_mm findings.crescent_probability "
    "findings.bands lesions.extent lesions.count lesions.steps lesions.kinds lesions.glass_fill lesions.lobule_spread "
    "lesions.fading lesions.core lesions.ring lesions.least_fill lesions.mottling"
)


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("liver", "calibrated", "tumours.count btcv.noise lits.noise"),
        ("lung", "calibrated", LUNG_CALIBRATED),
    ],
)
def test_what_was_set_with_figures_in_view_is_named(name, source, expected):
    values = read_spec(name).values
    sections = values.keys() - {"name", "version", "sources", "styles", "sizes"}
    entries = {f"{s}.{n}": e for s in sections for n, e in values[s].items()}
    entries |= {f"{s}.{n}": e for s, group in values["styles"].items() for n, e in group.items()}
    assert {name for name, entry in entries.items() if entry["source"] == source} == set(expected.split())


@pytest.mark.parametrize("name", ["tumours.radius_mm", "tumours.contrast"])
def test_quantiles_and_draws_are_the_same_distribution(name):
    rng = np.random.default_rng(0)
    drawn = [LIVER.draw(rng, name) for _ in range(2000)]
    through_quantiles = [LIVER.quantile(name, u) for u in rng.uniform(size=2000)]
    assert stats.ks_2samp(drawn, through_quantiles).pvalue > 0.01


@given(st.floats(0, 1))
def test_quantiles_stay_inside_the_clip(share):
    for name in ("tumours.radius_mm", "tumours.contrast"):
        low, high = LIVER.entry(name)["clip"]
        assert low - 1e-6 <= LIVER.quantile(name, share) <= high + 1e-6


def test_an_empty_clip_is_an_error():
    spec = parse_spec(spec_text().replace("clip: [-900, -790]", "clip: [900, 901]"))
    with pytest.raises(ValueError, match=r"hu\.lung"):
        spec.draw(np.random.default_rng(0), "hu.lung")
