"""Where the best method fails: the patients and lesions that the tables say."""

from uasbench.benchmark.runs.records import CaseFacts, LesionFacts
from uasbench.reports.headline import headlines
from uasbench.reports.shortfalls import shortfalls
from uasbench.reports.tables import Tables

VALUES = {"p1": 0.7, "p2": 0.1, "p3": 0.5, "p4": 0.0, "p5": 0.4}


def told(records):
    tables = Tables(records)
    (headline,) = headlines(tables.summary, tables.paired_tests)
    return shortfalls(headline, tables)


def test_the_worst_patients_come_first_with_what_their_lesions_are_like(make_record):
    record = make_record("ae", dice={f"{patient}-c": value for patient, value in VALUES.items()})
    like = CaseFacts(
        slices=4, spacing=(1.0, 1.0, 1.0), organ_ml=900.0, noise_hu=10.0, lesion_ml=7.25, contrast_hu=-42.0,
        lesion_slices=2, lesions=[LesionFacts(ml=7.25, contrast_hu=-42.0)],
    )  # fmt: skip
    record.data.facts["p4-c"] = like
    (first,) = told([record])
    assert first == ("Its worst patients, Dice val: p4 0.0 % (7.25 ml of lesions, −42 HU); p2 10.0 %; p5 40.0 %.")


def test_three_patients_and_fewer_are_no_selection(make_record):
    assert told([make_record("ae", patients=["p1", "p2", "p3"])]) == ()


def test_slices_alone_and_nothing_defined_say_nothing(make_record):
    assert told([make_record("ae", dice={"p1-c": None, "p2-c": None})]) == ()
