"""The report in Debian's Chromium, opened from disk: what its controls, keys and links say they do, they do."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from uasbench import api
from uasbench.benchmark.runs.records import write_json

CHROMIUM = shutil.which("chromium")
WIDTHS = (1400, 900, 400)
CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 24, 31] : [255, 255, 255];
  };
  const low = new Set();
  for (const e of document.querySelectorAll("main *, header *")) {
    const told = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!told || !e.checkVisibility() || e.matches("canvas, option")) continue;
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.add(`${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 30)}`);
  }
  return [...low];
}"""
UNNAMED = """() => {
  const all = "img, canvas, svg, select, input, textarea, button, a, table, .scroll";
  const named = (e) => e.getAttribute("alt") || e.getAttribute("aria-label") || e.caption?.textContent
    || e.closest("label") || (e.matches("button, a") && e.textContent.trim());
  return [...document.querySelectorAll(all)].filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML);
}"""
TWICE = "[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'browser')")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def run(browser, quick_run, root, cache, tmp_path_factory) -> api.Run:
    """A run whose report has a viewer."""
    few = {"data_root": root, "cache": cache, "profile": "smoke", "trials": 2, "workers": 1}
    made = quick_run(
        "hu-deviation,hu-opened,local-residual,ae", "lits", seeds=[0],
        out=tmp_path_factory.mktemp("seen") / "run", **few,
    )  # fmt: skip
    assert api.viewer(made.path, cache=cache) == []
    return made


@pytest.fixture
def page(browser, run) -> Iterator[Callable[..., Any]]:
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
        found.goto(run.folder.report_html.as_uri())
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


def test_columns_sort_by_what_they_hold_and_chance_stays_below(page, run):
    seen = page()
    summary = run.table("summary").query("protocol == 'none' and metric == 'ap' and unit == 'patient'")
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
    assert part.count() == 1
    text = part.inner_text()
    assert all(title in text for title in ("Settings", "Thresholds of the first seed", "Cost", "Logs", "Learned from"))


def test_the_viewer_shows_the_dice_of_the_table_and_moves_it_with_the_threshold(page, run):
    seen = page()
    seen.get_by_role("button", name="Open the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")
    records = {record.cell.method: record for record in run.records}

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
    seen.keyboard.press("n")
    assert slices() == start
    seen.keyboard.press("t")
    assert not seen.locator(".viewer [name=truth]").is_checked()
    before = seen.locator(".viewer [name=window]").input_value()
    seen.mouse.down()
    seen.mouse.move(700, 300)
    seen.mouse.up()
    assert (before, seen.locator(".viewer [name=window]").input_value()) == ("organ", "dragged")


def test_a_method_is_added_from_its_part_and_the_worst_case_of_one_is_shown_for_all(page, run):
    seen = page()
    seen.locator("details.method").last.locator("summary").click()
    seen.get_by_role("button", name="Show in the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")
    first = seen.locator(".panel").first
    method = first.get_attribute("data-method")
    record = next(r for r in run.records if r.cell.method == method)
    dice = {
        v.case: v.value for v in record.per_case if (v.protocol, v.metric) == ("val", "dice") and v.value is not None
    }
    first.get_by_role("button", name="worst").click()
    worst = min(dice, key=lambda case: (dice[case], -sorted(dice).index(case)))
    seen.wait_for_function(f"[...document.querySelectorAll('.panel')].every((p) => p.dataset.case === {worst!r})")


@pytest.mark.parametrize("damage", ["no index", "a map", "other records"])
def test_what_is_gone_is_said(browser, run, page, tmp_path, damage):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("maps", "fits", "mlruns"))
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
def test_nothing_overflows_and_everything_can_be_read_and_named(page, width, scheme):
    seen = page(width, scheme)
    seen.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    seen.get_by_role("button", name="Open the viewer").click()
    seen.wait_for_function("document.querySelectorAll('.panel[data-dice]').length === 3")
    assert seen.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.evaluate(CONTRAST) == []
    assert seen.evaluate(UNNAMED) == []
    assert seen.locator("th:not([scope])").count() == 0
    assert seen.evaluate(TWICE) == []


def test_without_a_script_the_page_is_whole_and_has_no_dead_control(page):
    seen = page(script=False)
    assert seen.locator(".explorer .controls").is_hidden()
    assert seen.get_by_role("button").count() == 0
    assert seen.locator(".answer .first").inner_text().startswith("ae is ")
    assert seen.locator(".explorer tbody tr").count() == 5
    assert {"Dice val", "Dice healthy-q95", "Dice oracle"} <= set(heads(seen))
