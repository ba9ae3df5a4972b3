"""The report in Debian's Chromium, opened from disk: what its controls, keys and links say they do, they do."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from uasbench import api
from uasbench.benchmark.runs.records import write_json

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'browser')")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)
WIDTHS = (1400, 900, 400)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, viewed) -> Iterator[Callable[..., Any]]:
    contexts, heard = [], []

    def opened(width=1400, scheme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        found = context.new_page()
        found.on("console", lambda message: heard.append(message.text))
        found.on("pageerror", lambda error: heard.append(str(error)))
        found.on("request", lambda request: heard.append(request.url) if request.url.startswith("http") else None)
        found.goto(viewed.folder.report_html.as_uri())
        return found

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


def names(page) -> list[str]:
    rows = page.locator(".explorer tbody tr:visible th")
    return [text.split("\n")[0].split(" ")[0] for text in rows.all_inner_texts()]


def heads(page) -> list[str]:
    return [text.split("\n")[0] for text in page.locator(".explorer thead th:visible").all_inner_texts()]


def test_columns_sort_by_what_they_hold_and_chance_stays_below(page, viewed):
    seen = page()
    summary = viewed.table("summary").query("protocol == 'none' and metric == 'ap' and unit == 'patient'")
    expected = summary.sort_values(["mean"], ascending=False)["method"].tolist()
    seen.get_by_role("button", name="AP", exact=True).click()
    assert names(seen) == [*expected, "chance"]
    assert seen.locator("th[aria-sort=descending]").inner_text().startswith("AP")
    seen.get_by_role("button", name="AP", exact=True).click()
    assert names(seen) == [*expected[::-1], "chance"]


def test_sets_families_and_protocols_change_what_is_shown(page):
    seen = page()
    assert heads(seen)[:2] == ["Method", "Dice val"]
    seen.select_option("[name=set]", "cost")
    assert "Peak RAM" in heads(seen)
    assert not any(head.startswith("Dice") for head in heads(seen))
    seen.select_option("[name=set]", "compact")
    seen.select_option(".explorer [name=protocol]", "healthy-q95")
    assert heads(seen)[1] == "Dice healthy-q95"
    seen.select_option("[name=family]", "reconstruction")
    assert names(seen) == ["ae"]
    assert seen.locator(".explorer output").inner_text() == "1 of 5 rows"
    seen.select_option("[name=family]", "")
    seen.fill(".explorer [name=text]", "hu-")
    assert sorted(names(seen)) == ["hu-deviation", "hu-opened"]


def test_what_is_copied_is_what_is_shown(page):
    seen = page()
    seen.fill(".explorer [name=text]", "hu-opened")
    for kind, row in (
        ("CSV", r'^"hu-opened.*"'),
        ("Markdown", r"^\| hu-opened.*\|$"),
        ("LaTeX", r"^hu-opened.* \\\\$"),
    ):
        seen.get_by_role("button", name=kind, exact=True).click()
        text = seen.locator(".explorer textarea").input_value()
        lines = [line for line in text.splitlines() if re.search(row, line)]
        assert len(lines) == 1, text
        assert "local-residual" not in text
    assert text.count("&") % (len(heads(seen)) - 1) == 0
    assert "◆" not in text


def test_a_name_leads_to_its_method_which_opens(page):
    seen = page()
    seen.get_by_role("link", name=re.compile("^ae")).first.click()
    part = seen.locator("details.method[open]")
    part.wait_for()  # following a link is told to the page a moment after the click
    assert part.count() == 1
    text = part.inner_text()
    assert all(title in text for title in ("Settings", "Thresholds of the first seed", "Cost", "Learned from"))


def test_a_point_of_the_cost_figure_says_what_it_costs_and_leads_to_its_method(page, viewed):
    seen = page()
    assert seen.locator(".spot").count() == 2 * len(viewed.records)
    point = seen.locator(".spot[title^='hu-opened']").first
    assert "ms per slice" in point.get_attribute("title")
    point.click()
    assert seen.locator("details.method[open]").get_attribute("id").endswith("-hu-opened")


def test_the_viewer_shows_the_dice_of_the_table_and_moves_it_with_the_threshold(page, viewed):
    seen = page()
    seen.get_by_role("button", name="Open the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")
    records = {record.cell.method: record for record in viewed.records}

    def under(protocol):
        seen.select_option(".viewer [name=protocol]", protocol)
        seen.wait_for_function(
            f"[...document.querySelectorAll('.panel')].every((p) => p.dataset.protocol === {protocol!r})"
        )

    for protocol in seen.locator(".viewer [name=protocol] option").all_inner_texts():
        under(protocol)
        for panel in seen.locator(".panel").all():
            data = panel.evaluate("p => ({...p.dataset})")
            known = {(v.protocol, v.case): v.value for v in records[data["method"]].per_case if v.metric == "dice"}
            value = known.get((protocol, data["case"]))
            assert json.loads(data["dice"]) == value
    under("val")
    first = seen.locator(".panel").first
    before = first.get_attribute("data-dice")
    seen.locator(".panels").focus()
    for _ in range(80):
        seen.keyboard.press("[")
    assert first.get_attribute("data-edge") == "0"
    assert first.get_attribute("data-dice") != before
    assert "val is" in first.inner_text()
    first.get_by_role("button", name="own").click()
    assert first.get_attribute("data-dice") == before


def test_keys_and_wheel_turn_slices_and_panels_stay_on_the_same_one(page):
    seen = page()
    seen.get_by_role("button", name="Open the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")

    def slices():
        return [int(panel.get_attribute("data-z")) for panel in seen.locator(".panel").all()]

    start = slices()
    assert len(set(start)) == 1
    seen.keyboard.press("Home")
    assert slices() == [0, 0, 0]
    seen.keyboard.press("ArrowDown")
    assert slices() == [1, 1, 1]
    seen.locator(".panel canvas").first.hover()
    seen.mouse.wheel(0, 100)
    seen.wait_for_function("document.querySelector('.panel').dataset.z === '2'")
    seen.keyboard.press("n")  # the largest lesion is where it began; this is the second one
    second = slices()
    seen.keyboard.press("p")
    assert slices() == start
    seen.get_by_role("button", name="next lesion").click()
    assert slices() == second != start
    seen.locator(".panels").focus()
    seen.keyboard.press("t")
    assert not seen.locator(".viewer [name=truth]").is_checked()
    before = seen.locator(".viewer [name=window]").input_value()
    seen.mouse.down()
    seen.mouse.move(700, 300)
    seen.mouse.up()
    assert (before, seen.locator(".viewer [name=window]").input_value()) == ("organ", "dragged")


def test_a_method_is_added_from_its_part_and_the_worst_case_of_one_is_shown_for_all(page, viewed):
    seen = page()
    seen.locator("details.method").last.locator("summary").click()
    seen.get_by_role("button", name="Show in the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")
    first = seen.locator(".panel").first
    method = first.get_attribute("data-method")
    record = next(r for r in viewed.records if r.cell.method == method)
    dice = {
        v.case: v.value for v in record.per_case if (v.protocol, v.metric) == ("val", "dice") and v.value is not None
    }
    first.get_by_role("button", name="worst").click()
    worst = min(dice, key=lambda case: (dice[case], -sorted(dice).index(case)))
    seen.wait_for_function(f"[...document.querySelectorAll('.panel')].every((p) => p.dataset.case === {worst!r})")


@pytest.mark.parametrize("damage", ["no index", "a map", "other records"])
def test_what_is_gone_is_said(browser, viewed, page, tmp_path, damage):
    shutil.copytree(viewed.path, tmp_path / "run", ignore=shutil.ignore_patterns("maps", "fits", "mlruns"))
    folder = api.Run(tmp_path / "run").folder
    if damage == "no index":
        shutil.rmtree(folder.viewer_dir)
    elif damage == "a map":
        for path in folder.viewer_dir.glob("map-*.js"):
            path.unlink()
    else:
        record = folder.records()[0]
        ids = record.ids.model_copy(update={"measure": "another"})
        write_json(folder.record_path(record.cell), record.model_copy(update={"ids": ids}))
        api.report(folder.path)
    context = browser.new_context()
    seen = context.new_page()
    seen.goto(folder.report_html.as_uri())
    seen.get_by_role("button", name="Open the viewer").click()
    said = {
        "no index": "report/index.js is gone. 'bench report RUN --viewer'",
        "a map": "not shown. report/map-0-",
        "other records": "report/ shows earlier records.",
    }
    seen.get_by_text(said[damage]).first.wait_for(timeout=20_000)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_axe_has_nothing_to_say(page, width, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core is not installed (extra 'browser')"
    )
    seen = page(width, scheme)
    seen.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    seen.get_by_role("button", name="Open the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")
    assert seen.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(seen).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
    assert seen.locator("th:not([scope]), table:not(:has(caption))").count() == 0


def test_without_a_script_the_page_is_whole_and_has_no_dead_control(page):
    seen = page(script=False)
    assert seen.locator(".explorer .controls").is_hidden()
    assert seen.get_by_role("button").count() == 0
    assert seen.locator(".answer .first").inner_text().startswith("ae is ")
    assert seen.locator(".explorer tbody tr").count() == 5
    assert {"Dice val", "Dice healthy-q95", "Dice oracle"} <= set(heads(seen))
