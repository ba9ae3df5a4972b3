"""The report in Debian's Firefox, opened from disk: the viewer loads its scripts there and says what the tables say."""

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

driver = pytest.importorskip("marionette_driver", reason="marionette_driver is not installed (extra 'browser')")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
if FIREFOX is None:
    pytest.skip("Firefox is not installed", allow_module_level=True)
PANELS = "return [...document.querySelectorAll('.panel[data-dice]')].map((panel) => ({...panel.dataset}))"


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    log = tmp_path_factory.mktemp("firefox") / "log"
    opened = driver.marionette.Marionette(bin=FIREFOX, headless=True, gecko_log=str(log))
    opened.start_session()
    yield opened
    opened.quit()
    opened.cleanup()


@pytest.fixture
def page(firefox, viewed) -> Iterator[Callable[[str], Any]]:
    """Return ``page(script)``: what JavaScript on the opened report answers."""
    firefox.navigate(viewed.folder.report_html.as_uri())
    yield lambda script: firefox.execute_script(script, sandbox=None)
    with firefox.using_context("chrome"):
        heard = firefox.execute_script("return Services.console.getMessageArray().map(String)")
    assert [message for message in heard if 'file: "file:' in message] == []


def panels(firefox, page) -> list[dict[str, str]]:
    from marionette_driver import Wait

    firefox.find_element("css selector", ".viewer > button").click()
    Wait(firefox, timeout=60).until(lambda _: len(page(PANELS)) == 3)
    return page(PANELS)


def test_the_table_sorts_and_filters(firefox, page):
    shown = "return [...document.querySelectorAll('.explorer tbody tr')].filter((r) => !r.hidden).length"
    assert page(shown) == 5
    firefox.find_element("css selector", ".explorer [name=text]").send_keys("hu-")
    assert page(shown) == 2
    firefox.find_element("css selector", ".explorer thead button").click()
    assert page("return document.querySelector('[aria-sort=ascending]').textContent") == "Method"


def test_the_viewer_shows_the_dice_of_the_table_and_keys_turn_slices(firefox, page, viewed):
    records = {record.cell.method: record for record in viewed.records}
    seen = panels(firefox, page)
    for panel in seen:
        known = {(v.protocol, v.case): v.value for v in records[panel["method"]].per_case if v.metric == "dice"}
        assert json.loads(panel["dice"]) == known[panel["protocol"], panel["case"]]
    grid = firefox.find_element("css selector", ".panels")
    grid.send_keys("\ue011")  # Home
    assert [panel["z"] for panel in page(PANELS)] == ["0", "0", "0"]
    grid.send_keys("\ue015")  # ArrowDown
    assert [panel["z"] for panel in page(PANELS)] == ["1", "1", "1"]
    grid.send_keys("[" * 80)
    assert {panel["edge"] for panel in page(PANELS)} == {"0"}
