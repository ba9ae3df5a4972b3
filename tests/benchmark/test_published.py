"""Published numbers: the file is read row by row, and what is wrong in it is refused with its line."""

import pytest
import yaml
from uasbench.benchmark.catalogue import published as module
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.printed import Printed
from uasbench.benchmark.catalogue.published import PublishedError, published, read
from uasbench.benchmark.catalogue.showing import sections
from uasbench.benchmark.scoring.metrics import METRICS
from uasbench.methods.card import MethodCard

HEAD = "names: {ae: AE}\nforeign: {metrics: {pro: regions}, methods: {mkd: MKD}, datasets: {kits: KiTS}}\n"
HEAD += "tables:\n  - source: A, Table 1\n    how: as here\n    caveat: old\n    metrics: [dice, pro]\n"
HEAD += "    numbers:\n"


@pytest.fixture
def numbers(tmp_path):
    """Return ``numbers(*lines)``: a file with one table of Dice and PRO, read."""

    def write(*lines: str, head: str = HEAD) -> module.Published:
        path = tmp_path / "published.yaml"
        path.write_text(head + "".join(f"      - [{line}]\n" for line in lines), encoding="utf-8")
        return read(path)

    return write


def test_a_row_keeps_the_digits_that_were_printed_and_knows_value_and_spread(numbers):
    (row,) = numbers("ae@wide, lits, 82.3 ± 9.30, 80.0").rows
    assert dict(row.printed) == {"dice": "82.3 ± 9.30", "pro": "80.0"}
    assert list(row.counterparts()) == [Printed(row="ae@wide", dataset="lits", metric="dice", value=82.3, std=9.3)]
    assert (row.source, row.name, row.shown_by) == ("A, Table 1", "", "ae")


def test_what_is_foreign_is_kept_and_has_no_counterpart(numbers):
    rows = numbers("mkd, lits, 60.7, 91.1", "ae, kits, 24, 26").rows
    assert [(row.foreign, dict(row.printed), [*row.counterparts()]) for row in rows] == [
        (True, {"dice": "60.7", "pro": "91.1"}, []),
        (True, {"dice": "24", "pro": "26"}, []),
    ]
    foreign = yaml.safe_load(module.FILE.read_text(encoding="utf-8"))["foreign"]
    assert not set(foreign["methods"]) & set(registry.runnable().names())
    assert not set(foreign["datasets"]) & set(registry.datasets().names())
    assert not set(foreign["metrics"]) & set(METRICS)


def test_the_nearest_thing_of_ours_stands_beside_what_is_foreign_and_says_of_what_the_number_is(numbers):
    nearest = "    nearest: {pro: aupro, mkd: ae, kits: kits23}\n    protocol: none\n    metrics"
    lines = "mkd, kits, 60.7, 91.1", "vae, lits, 24, 26"
    first, second = numbers(*lines, head=HEAD.replace("    metrics", nearest)).rows
    where = {"protocol": "none", "unit": ""}
    assert [*first.counterparts()] == [
        Printed(row="ae", dataset="kits23", metric="dice", value=60.7, of="MKD; KiTS", **where),
        Printed(row="ae", dataset="kits23", metric="aupro", value=91.1, of="MKD; KiTS; regions", **where),
    ]
    assert [(one.metric, one.of) for one in second.counterparts()] == [("dice", ""), ("aupro", "regions")]
    both = HEAD.replace("    metrics", "    nearest: {pro: [aupro_image, aupro]}\n    metrics")
    found = numbers("vae, lits, 24, 26", head=both).rows[0].counterparts()
    assert [(one.metric, one.value, one.of) for one in found] == [
        ("dice", 24, ""),
        ("aupro_image", 26, "regions"),
        ("aupro", 26, "regions"),
    ]
    only = HEAD.replace("    metrics", "    nearest: {pro: aupro}\n    metrics")
    assert [*numbers(lines[0], head=only).rows[0].counterparts()] == []


STARS = '    stars: {against: ae, levels: {"*": 0.05, "**": 0.001}}\n    metrics'


def test_seconds_and_asterisks_are_read_as_printed(numbers):
    head = HEAD.replace("    metrics", STARS).replace("[dice, pro]", "[dice, s_per_slice]")
    lines = "ae, lits, 14.75 ± 14.28, 2 s", "vae, lits, 53.03 ± 1.78 **, 0.018 s", "dae, lits, 21.31, 0.02 s"
    base, best, other = numbers(*lines, head=head).rows
    assert best.printed["dice"] == "53.03 ± 1.78 **"
    dice, seconds = best.counterparts()
    assert (dice.value, dice.std, dice.stars, seconds.value, seconds.metric) == (
        53.03,
        1.78,
        "**",
        0.018,
        "s_per_slice",
    )
    assert [(n.stars, n.test is None) for row in (base, other) for n in row.counterparts() if n.metric == "dice"] == [
        ("", True),
        ("none", False),
    ]


def test_facts_about_a_row_without_numbers_are_refused(numbers):
    with pytest.raises(PublishedError, match="A, Table 1: no numbers of dae"):
        numbers(LINE, head=HEAD.replace("    metrics", "    rows: {dae: {how: short}}\n    metrics"))


def test_a_row_of_its_own_overrides_the_table_and_adds_to_its_caveat(numbers):
    about = "    rows:\n      ae: {by: 'B', card: vae, how: elsewhere, also: copied}\n    numbers:\n"
    found = numbers("ae, lits, 5, 6", "vae@wide, lits, 7, 8", head=HEAD.replace("    numbers:\n", about))
    assert [(row.source, row.shown_by, row.how, row.caveat) for row in found.rows] == [
        ("B, in A, Table 1", "vae", "elsewhere", "old; copied"),
        ("A, Table 1", "vae", "as here", "old"),
    ]
    assert found.of_card("vae") == [
        ("B, in A, Table 1", "lits", "dice", "5", "elsewhere"),
        ("B, in A, Table 1", "lits", "pro", "6", "elsewhere"),
        ("A, Table 1 (@wide)", "lits", "dice", "7", "as here"),
        ("A, Table 1 (@wide)", "lits", "pro", "8", "as here"),
    ]
    assert found.caveats_of("vae") == [("B, in A, Table 1", "old; copied"), ("A, Table 1", "old")]
    assert found.of_card("ae") == found.caveats_of("ae") == []


def test_a_card_shows_nothing_of_data_sets_that_are_none_of_ours(numbers):
    nearest = HEAD.replace("    metrics", "    nearest: {kits: kits23}\n    metrics")
    assert [row.shown_by for head in (HEAD, nearest) for row in numbers("ae, kits, 24, 26", head=head).rows] == ["", ""]


LINE = "vae, lits, 5, 6"


@pytest.mark.parametrize(
    ("lines", "old", "new", "message"),
    [
        ([LINE, "aee, lits, 5, 6"], "", "", "unknown method 'aee'; did you mean 'ae'"),
        ([LINE, "ae, litz, 5, 6"], "", "", "unknown data set 'litz'; did you mean 'lits'"),
        ([LINE, "ae, lits, 5"], "", "", "1 numbers for 2 metrics"),
        ([LINE, "ae, lits, nan, 6"], "", "", "'nan' is no number"),
        ([LINE, "ae, lits, 0.53 +- 0.01, 6"], "", "", "no number"),
        ([LINE, "ae, lits, 553, 6"], "", "", "'553' is no percentage"),
        ([LINE, "ae, lits, 5 s, 6"], "", "", "'5 s' is no percentage"),
        ([LINE, "ae, lits, 5 *, 6"], "", "", r"'5 \*': the table does not say what \* means"),
        ([LINE, "ae, lits, 5 ***, 6"], "    metrics", STARS, r"does not say what \*\*\* means"),
        ([LINE], "[dice, pro]", "[dice, s_per_slice]", "'6' is no time"),
        ([LINE, LINE], "", "", "vae, lits, dice stands twice"),
        ([LINE], "metrics: [dice, pro]", "metrics: [dice, prost]", "unknown metric 'prost'; did you mean 'pro'"),
        ([LINE], "    metrics", "    protocol: vall\n    metrics", "unknown protocol 'vall'; did you mean 'val'"),
        ([LINE], "    metrics", "    rows: {vae: {caveats: none}}\n    metrics", "caveats"),
        ([LINE], "    metrics", "    nearest: {prow: aupro}\n    metrics", "unknown foreign name 'prow'"),
        ([LINE], "    metrics", "    nearest: {pro: auprow}\n    metrics", "unknown name of ours 'auprow'"),
        ([LINE], "    metrics", "    capttion: none\n    metrics", "capttion"),
        ([LINE], "    metrics", "    dataset: lits\n    metrics", "says its dataset itself"),
        ([LINE], "    how: as here\n", "", "neither vae nor its table has a 'how'"),
        ([LINE], "    caveat: old\n", "", "neither vae nor its table has a 'caveat'"),
        ([LINE], "    metrics", "    rows: {vae: {how: short, card: aee}}\n    metrics", "unknown method 'aee'"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_line(numbers, lines, old, new, message):
    with pytest.raises(
        PublishedError,
        match=f"published.yaml, line {8 + len(lines) + (new.count(chr(10)) - old.count(chr(10)))}: (.|\n)*{message}",
    ):
        numbers(*lines, head=HEAD.replace(old, new) if old else HEAD)


def test_every_name_of_a_page_has_a_row_and_every_row_of_a_card_a_method_made_for_the_organ():
    quoted = {row.row for dataset in registry.datasets().names() for row in published().of_page(dataset)}
    assert quoted == set(published().names)
    with pytest.raises(PublishedError, match=r"no published table 'Table 9'; known: Zhang.*Table 1; .*BMAD"):
        published().of_table("Table 9")
    cards, sets = registry.runnable().cards(), registry.datasets().cards()
    shown = {row.shown_by: row for row in published().rows if row.shown_by in cards}
    assert len(shown) > 25
    for name, row in shown.items():
        assert sets[row.dataset].anatomy in cards[name].anatomy


def test_a_method_shows_every_table_of_its_paper_and_says_what_to_mind():
    of_paper = {row.table for row in published().rows if row.table.startswith("Yao")}
    assert {source.partition(" (")[0] for source, *_ in published().of_card("normnet")} == of_paper
    assert {f"Yao et al. 2021, Table {number}" for number in ("II", "III", "IV", "V", "VI")} == of_paper
    caveats = dict(published().caveats_of("normnet"))
    assert "seeds of the members are unknown" in caveats["Yao et al. 2021, Table IV"]
    (section,) = (one for one in sections("normnet") if one.title == "What to mind of them")
    assert set(section.rows) == set(published().caveats_of("normnet"))


def test_built_in_cards_hold_no_numbers_and_those_of_a_plug_in_are_shown(install):
    assert not [name for name, card in registry.runnable().cards().items() if card.published]
    text = (
        "from uasbench.methods.trivial.baselines import RandomMap\nfrom uasbench import MethodCard\n"
        "class Mine(RandomMap):\n    card = MethodCard(name='mine', title='M',"
        " published=(('Me 2026', 'lits', 'dice', '42.0', 'n'),))\n"
    )
    install("mine", {"mine_module.py": text}, methods={"mine": "mine_module:Mine"})
    shown = [row for section in sections("mine") for row in section.rows]
    assert ("Me 2026", "lits", "dice", "42.0", "n") in shown
    assert MethodCard(name="other", title="O").published == ()
