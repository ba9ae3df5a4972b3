"""The part of the report for each method: what it learned from, its thresholds, cost, logs and printed numbers."""

import pytest
from uasbench.benchmark.runs.records import LabelUse, Threshold
from uasbench.reports.figures.pictures import Picture, Pictures
from uasbench.reports.headline import headlines
from uasbench.reports.method_pages import learned_from, method_pages, thresholds_of
from uasbench.reports.tables import Tables


@pytest.fixture
def pages(make_run, make_record, tmp_path):
    def made(*records, pictures=()):
        folder = make_run(tmp_path, records)
        for name in (f"fit-{records[0].ids.fit}", f"map-{records[0].cell.slug}"):
            folder.logs_dir.mkdir(exist_ok=True)
            (folder.logs_dir / f"{name}.log").write_text("done")
        (folder.logs_dir / f"measure-{records[0].cell.slug}.log").touch()
        tables = Tables(records)
        (headline,) = headlines(tables.summary)
        return {p.method: p for p in method_pages(headline, tables, Pictures([*pictures]), [], folder)}

    return made


def test_a_page_holds_what_its_method_was_and_only_its_own_pictures(pages, make_record, tmp_path):
    shown = [Picture("gallery", "lits", "btcv", m, tmp_path / f"{m}.png", method=m) for m in ("ae", "draem")]
    found = pages(make_record("ae"), make_record("ae", seed=1), make_record("draem"), pictures=shown)
    page = found["ae"]
    assert list(found) == [p.method for p in found.values()]
    assert (page.facts["Seeds"], page.facts["Learned from"]) == ("0, 1", "healthy scans")
    assert page.settings == {"width": "16"}
    assert page.cost["Training"] == "21.5 s"
    assert page.cost["Updates"] == "fit: 300"
    assert "GPU" not in page.cost["Peak memory"]
    assert [one.method for one in page.pictures["gallery"]] == ["ae"]


def test_logs_are_those_that_are_still_there_and_say_something(pages, make_record):
    found = pages(make_record("ae"), make_record("draem"))
    assert found["ae"].logs == {
        "training fit-ae-0": "logs/fit-fit-ae-0.log", "maps, seed 0": "logs/map-ae__lits__btcv__s0.log",
    }  # fmt: skip
    assert found["draem"].logs == {}


def test_printed_numbers_stand_beside_real_data_alone(pages, make_record):
    (page,) = pages(make_record("two-stage")).values()
    assert any(sentence.startswith("Dice") for sentence in page.published)
    (page,) = pages(make_record("two-stage", phantom=True)).values()
    assert page.published == ()


def test_thresholds_of_folds_are_told_with_what_is_done_to_the_map(make_record):
    folds = [Threshold(protocol="val", fold=k, threshold=v, smoothing_mm=2, min_size_mm3=50 * k)
             for k, v in enumerate((0.25, 0.5))]  # fmt: skip
    none = Threshold(protocol="native", threshold=None, reason="the method has no native threshold")
    told = thresholds_of(make_record("ae").model_copy(update={"thresholds": [none, *folds]}))
    assert told == {
        "native": "the method has no native threshold",
        "val": "2 folds: 0.25 after 2 mm of smoothing; 0.5 after 2 mm of smoothing, least component 50 mm³",
    }


@pytest.mark.parametrize(
    ("changed", "labels", "said"),
    [
        ({"trivial": True}, None, "nothing"),
        ({"uses": "unlabelled-test"}, None, "healthy scans and the unlabelled test scans (transductive)"),
        ({}, LabelUse(training="cross-fit", sets=["lits"], folds=[["a"], ["b"]]), "cross-fitted in 2 folds"),
        ({}, LabelUse(training="unseen", sets=["kits"]), "lesion labels of kits, none of lits"),
    ],
)
def test_what_training_saw_is_said(make_record, changed, labels, said):
    record = make_record("ae", **changed).model_copy(update={"labels": labels})
    assert said in learned_from(record)
