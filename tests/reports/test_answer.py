"""What a reader is told first: the winner, by how much, and whether that is more than chance."""

import pytest
from uasbench.reports.answer import answer
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

INFO = {"references": {"lits": "hu-deviation"}}


def answered(records, info=INFO):
    tables = Tables(records, info=info)
    (headline,) = headlines(tables.summary, tables.paired_tests)
    return answer(headline, tables.summary, tables.paired_tests), headline


def test_the_winner_is_named_with_n_and_both_verdicts_in_plain_words(liver_records):
    found, headline = answered(liver_records)
    assert headline.winner is not None
    assert headline.winner.method == "two-stage"
    assert found.first.startswith("two-stage is best: Dice val ")
    assert found.first.endswith("6 patients, 3 seeds.")
    assert [one.lead.partition(" over ")[2] for one in found.verdicts] == [
        "hu-deviation, the reference fixed beforehand",
        "the best trivial baseline (hu-deviation)",
    ]
    assert all(one.lead.startswith("+") and one.plain == "significantly better" for one in found.verdicts)
    assert "2 of 3 learning methods are shown to beat it." in found.others
    assert any("among 3 competitors p " in one and "against the best trivial: +" in one for one in found.tests)


def test_a_gain_that_may_be_chance_says_so_and_what_could_have_been_shown(make_record):
    made = (("hu-deviation", (0.2, 0.3, 0.4)), ("ae", (0.1, 0.6, 0.4)))
    records = [make_record(name, dice={f"p{i}-c": v for i, v in enumerate(dice)}) for name, dice in made]
    found, _ = answered(records)
    assert {one.plain for one in found.verdicts} == {"not significant"}
    assert all("3 patients with this spread can" in one.told for one in found.verdicts)


def test_a_single_patient_tests_nothing_and_the_reason_stands_there(make_record):
    found, _ = answered([make_record(m, patients=["p1"]) for m in ("hu-deviation", "ae")])
    assert [one.plain for one in found.verdicts] == ["not tested"]
    assert "1 patient: a paired test needs 2" in found.verdicts[0].told


def test_of_a_single_patient_no_method_is_called_best_that_lies_below_a_trivial_one(make_record):
    levels = {"hu-deviation": 0.1, "hu-threshold": 0.6, "ae": 0.3}
    found, _ = answered([make_record(m, patients=["p1"], level=level) for m, level in levels.items()])
    assert found.first.startswith("ae is the best method that learns, below the trivial baseline hu-threshold: ")
    assert ("hu-threshold", "best trivial") in [(bar.label, bar.role) for bar in found.bars]


def test_what_lies_below_a_trivial_baseline_is_not_called_best(make_record):
    found, _ = answered([make_record("hu-deviation", level=0.5), make_record("ae", level=0.2)])
    assert found.first.startswith(
        "ae is the best method that learns, below the trivial baseline hu-deviation: Dice val"
    )
    assert all(" points below " in one.lead and one.lead[0].isdigit() for one in found.verdicts)
    assert found.verdicts[-1].plain == "no gain"
    assert any(one.startswith("Thresholds of val see labels of other patients. At healthy-q95") for one in found.others)
    assert [bar.label for bar in found.bars] == ["hu-deviation", "ae"]
    assert found.axis == "Dice val"


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("hu-deviation", "random"), "No method that learns; hu-deviation is the best trivial baseline: Dice val"),
        (("ae",), "ae is best: Dice val"),
    ],
)
def test_runs_without_a_competitor_or_a_baseline(make_record, methods, said):
    levels = {"hu-deviation": 0.4, "random": 0.1, "ae": 0.3}
    found, _ = answered([make_record(name, level=levels[name]) for name in methods])
    assert found.first.startswith(said)
    assert not found.verdicts


def test_nothing_is_said_where_nothing_is_defined(make_record):
    record = make_record("ae", dice={"p1-c": None})
    assert answered([record], info={})[0].first.startswith("ae is best: Slice AUROC 65.0 %")
    found, headline = answered([record.model_copy(update={"pooled": []})], info={})
    assert headline.winner is None
    assert found.sentences == []


def test_bars_lie_on_the_axis_and_hold_winner_reference_and_baseline(liver_records):
    found, _ = answered(liver_records)
    assert [(bar.label, bar.role) for bar in found.bars] == [
        ("two-stage", "best that learns"),
        ("hu-deviation", "reference, best trivial"),
    ]
    assert all(0 <= bar.low <= bar.mean <= bar.high <= found.top <= 100 for bar in found.bars)
