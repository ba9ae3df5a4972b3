"""What holds for every built-in data set."""

import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.luna16 import LUNA16
from uasbench.datasets.adapters.radiopaedia import Radiopaedia

CARDS = {
    BTCV: ("btcv", "liver", "healthy", "none", None, None),
    LUNA16: ("luna16", "lung", "healthy", "none", None, None),
    LiTS: ("lits", "liver", "lesion", "voxel", "btcv", "hu-deviation"),
    Coronacases: ("coronacases", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    Radiopaedia: ("radiopaedia", "lung", "lesion", "voxel", "luna16", "hu-opened"),
    CovidCTMD: ("covid-ct-md", "lung", "lesion", "slice", "luna16", "hu-opened"),
}


@pytest.mark.parametrize("adapter", CARDS)
def test_cards_are_complete_and_say_where_healthy_is_a_convention(adapter):
    card = adapter.card
    assert (card.name, card.anatomy, card.role, card.truth, card.partner, card.reference) == CARDS[adapter]
    assert all((card.title, card.licence, card.citation, card.obtain, card.layout, card.roi_source))
    assert ("ealthy is a convention" in card.citation) == (card.role == "healthy")


@pytest.mark.parametrize("adapter", CARDS)
def test_an_absent_set_says_what_is_expected_and_where_to_get_it(adapter, tmp_path):
    survey = adapter().survey(tmp_path)
    assert survey.absent
    assert adapter.card.obtain in survey.problems[0]
    with pytest.raises(DataError, match="found; expected"):
        adapter().discover(tmp_path)
    assert adapter().survey(tmp_path / "nowhere").absent


@pytest.mark.parametrize("adapter", CARDS)
def test_a_case_before_discovery_is_refused(adapter):
    with pytest.raises(DataError, match=r"no case 'x' \(call discover"):
        adapter().load("x")
