"""The table of cases: pure facts, also where some records are of an earlier version."""

import pytest
from uasbench import open_run
from uasbench.benchmark.runs.records import CaseFacts, LesionFacts
from uasbench.datasets.case import Trust
from uasbench.reports.build import build
from uasbench.reports.cases import NOT_DESCRIBED
from uasbench.reports.tables import Tables


def described(record, **changes):
    lesions = [LesionFacts(ml=2.0, contrast_hu=-40.0), LesionFacts(ml=0.5, contrast_hu=None)]
    facts = CaseFacts(
        slices=20, lesion_slices=4, spacing=(5.0, 0.8, 0.7), organ_ml=1500.0, lesion_ml=2.5, noise_hu=16.0,
        contrast_hu=-40.0, lesions=lesions,
    ).model_copy(update=changes)  # fmt: skip
    update = {"facts": dict.fromkeys(record.data.cases, facts), "trust": {"p2-c": Trust(spacing_trusted=False)}}
    return record.model_copy(update={"data": record.data.model_copy(update=update)})


def test_a_case_is_listed_once_with_its_facts(make_record):
    records = [described(make_record(method, seed=seed)) for method in ("ae", "draem") for seed in (0, 1)]
    frame = Tables(records).cases.set_index("case")
    assert len(frame) == 6
    row = frame.loc["p1-c"]
    assert (row["patient"], row["slices"], row["n_lesions"], row["spacing_z"]) == ("p1", 20, 2, 5.0)
    assert (row["lesion_ml"], row["contrast_noise"], row["reason"]) == (2.5, -2.5, "")
    assert list(frame["spacing_trusted"]) == [True, False, True, True, True, True]


def test_whoever_measured_in_the_organ_tells_of_a_case(make_record):
    whole = described(make_record("ae", region="slices"), organ_ml=9000.0)
    assert set(Tables([whole]).cases["organ_ml"]) == {9000.0}
    assert set(Tables([whole, described(make_record("draem"))]).cases["organ_ml"]) == {1500.0}


def test_without_lesions_noise_or_voxel_labels_there_is_no_contrast(make_record):
    flat = described(make_record("ae"), noise_hu=0.0)
    slices = described(make_record("ae"), lesion_ml=None, lesions=None, contrast_hu=None, noise_hu=None)
    for record, reason in ((flat, ""), (slices, "slice labels only")):
        frame = Tables([record]).cases
        assert frame["contrast_noise"].isna().all()
        assert frame["reason"].str.contains(reason).all()
    assert Tables([slices]).cases["n_lesions"].isna().all()


@pytest.mark.parametrize("old", [["ae"], ["ae", "draem"]])
def test_records_of_an_earlier_version_leave_reasons_and_no_crash(old, make_record, make_run, tmp_path):
    made = [make_record(method) for method in ("ae", "draem")]
    folder = make_run(tmp_path, [r if r.cell.method in old else described(r) for r in made])
    build(folder)
    text = (folder.tables_dir / "cases.csv").read_text(encoding="utf-8")
    assert (NOT_DESCRIBED in text) == (len(old) == 2)
    frame = open_run(folder.path).by_case()
    assert len(frame) == len(open_run(folder.path).tables["per_case"])
    assert frame["organ_ml"].isna().all() == (len(old) == 2)
    assert frame["spacing_trusted"].isin([True, False]).all()
