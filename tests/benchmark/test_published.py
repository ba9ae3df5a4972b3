"""Published numbers: the file is read row by row, and what is wrong in it is refused with its line."""

import pytest
from uasbench.benchmark.catalogue import published as module
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.published import PublishedError, published, read
from uasbench.benchmark.catalogue.showing import sections
from uasbench.methods.card import MethodCard

HEAD = "names: {ae: AE}\nforeign: {pro: regions}\ntables:\n  - source: A, Table 1\n    metrics: [dice, pro]\n"
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
    assert [(n["row"], n["metric"], n["value"], n["std"]) for n in row.counterparts()] == [
        ("ae@wide", "dice", 82.3, 9.3),
        ("ae@wide", "pro", 80.0, None),
    ]
    assert (row.source, row.name, row.shown_by) == ("A, Table 1", "", "")


def test_a_row_of_its_own_overrides_the_table_and_adds_to_its_caveat(numbers):
    about = "    how: short\n    caveat: tuned\n    rows:\n      ae: {by: 'B', card: vae, also: copied}\n    numbers:\n"
    rows = numbers("ae, lits, 5, 6", "vae, lits, 7, 8", head=HEAD.replace("    numbers:\n", about)).rows
    assert [(row.source, row.shown_by, row.caveat) for row in rows] == [
        ("B, in A, Table 1", "vae", "tuned; copied"),
        ("A, Table 1", "vae", "tuned"),
    ]


LINE = "vae, lits, 5, 6"


@pytest.mark.parametrize(
    ("lines", "old", "new", "message"),
    [
        ([LINE, "aee, lits, 5, 6"], "", "", "unknown method 'aee'; did you mean 'ae'"),
        ([LINE, "ae, litz, 5, 6"], "", "", "unknown data set 'litz'; did you mean 'lits'"),
        ([LINE, "ae, lits, 5"], "", "", "1 numbers for 2 metrics"),
        ([LINE, "ae, lits, nan, 6"], "", "", "'nan' is no percentage"),
        ([LINE, "ae, lits, 0.53 +- 0.01, 6"], "", "", "no percentage"),
        ([LINE, "ae, lits, 553, 6"], "", "", "'553' is no percentage"),
        ([LINE, LINE], "", "", "vae, lits, dice stands twice"),
        ([LINE], "metrics: [dice, pro]", "metrics: [dice, prost]", "unknown metric 'prost'; did you mean 'pro'"),
        ([LINE], "    metrics", "    protocol: vall\n    metrics", "unknown protocol 'vall'; did you mean 'val'"),
        ([LINE], "    metrics", "    rows: {vae: {caveats: none}}\n    metrics", "caveats"),
        ([LINE], "    metrics", "    capttion: none\n    metrics", "capttion"),
        ([LINE], "    metrics", "    dataset: lits\n    metrics", "says its dataset itself"),
        ([LINE], "    metrics", "    rows: {vae: {how: short, card: aee}}\n    metrics", "unknown method 'aee'"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_line(numbers, lines, old, new, message):
    with pytest.raises(
        PublishedError, match=f"published.yaml, line {6 + len(lines) + new.count(chr(10))}: (.|\n)*{message}"
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
