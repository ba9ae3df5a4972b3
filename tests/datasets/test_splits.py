import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.splits import hold_out, no_folds_reason, split_healthy, val_folds

PEOPLE = st.dictionaries(
    st.integers(0, 60).map("img{:04d}".format), st.integers(0, 12).map("p{}".format), min_size=1, max_size=40
)
SEEDS = st.integers(0, 2**31)


@given(patients=PEOPLE, seed=SEEDS)
def test_split_is_patient_disjoint_complete_and_deterministic(patients, seed):
    slices = dict.fromkeys(patients, range(40))
    split = split_healthy(patients, slices, seed)
    again = split_healthy(dict(reversed(patients.items())), slices, seed)
    assert split == again
    people = set(patients.values())
    if len(people) == 1:
        assert split.manifest["calibration"] == "slices"
        return
    train, held = {patients[c] for c, _ in split.train}, {patients[c] for c, _ in split.calibration}
    assert train
    assert held
    assert not train & held
    assert sorted(c for c, _ in [*split.train, *split.calibration]) == sorted(patients)
    assert len(held) == max(1, int(0.2 * len(people) + 0.5))
    assert all(z is None for _, z in [*split.train, *split.calibration])


def test_thirty_scans_give_six_for_calibration_and_another_seed_others():
    patients = {f"img{n:04d}": f"img{n:04d}" for n in range(30)}
    split = split_healthy(patients, {}, 0)
    assert (len(split.train), len(split.calibration)) == (24, 6)
    assert {split_healthy(patients, {}, seed).hash for seed in range(5)} != {split.hash}
    assert val_folds(patients, 0) != val_folds(patients, 1)


@given(zs=st.sets(st.integers(0, 150), min_size=1).map(sorted), seed=SEEDS)
def test_one_patient_holds_out_its_last_fifth_after_a_gap_of_slices_with_an_organ(zs, seed):
    split = split_healthy({"img0001": "p"}, {"img0001": zs}, seed)
    if len(zs) < 7:
        assert split.calibration == []
        assert split.train == [("img0001", None)]
        assert split.manifest["calibration"] == "none"
        assert "too few slices" in split.manifest["note"]
        return
    ((_, train),) = split.train
    ((_, held),) = split.calibration
    count = max(1, len(zs) // 5)
    assert held == (zs[-count], zs[-1] + 1)
    assert train == (zs[0], zs[-count - 6] + 1)
    assert "one patient" in split.manifest["note"]


def test_calibration_none_trains_on_everything():
    split = split_healthy({"a": "p", "b": "q"}, {}, 0, "none")
    assert split.train == [("a", None), ("b", None)]
    assert split.calibration == []
    assert split.manifest["calibration"] == "none"


def test_manifest_is_json_and_hash_follows_it():
    split = split_healthy({"a": "p", "b": "q", "c": "r"}, {}, 3)
    assert json.loads(json.dumps(split.manifest)) == split.manifest
    assert split.hash != split_healthy({"a": "p", "b": "q", "c": "s"}, {}, 3).hash


@given(patients=st.sets(st.integers(0, 200).map("p{}".format), min_size=2, max_size=40), seed=SEEDS)
def test_folds_never_tune_on_the_patients_they_apply_to(patients, seed):
    folds = val_folds(patients, seed)
    assert folds == val_folds(sorted(patients, reverse=True), seed)
    assert len(folds) == (len(patients) if len(patients) <= 10 else 5)
    applied = [p for fold in folds for p in fold.apply]
    assert sorted(applied) == sorted(patients)
    for fold in folds:
        assert not set(fold.tune) & set(fold.apply)
        assert set(fold.tune) | set(fold.apply) == patients
    sizes = [len(fold.apply) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_one_patient_has_no_folds_but_a_reason():
    assert val_folds(["p", "p"], 0) == []
    assert "1 patient" in str(no_folds_reason(["p", "p"]))
    assert no_folds_reason(["p", "q"]) is None
    with pytest.raises(DataError, match="no healthy case"):
        split_healthy({}, {}, 0)


@given(patients=PEOPLE, seed=SEEDS, folds=st.integers(2, 6))
def test_everybody_is_held_out_once_from_those_who_train(patients, seed, folds):
    people = set(patients.values())
    if len(people) < folds:
        with pytest.raises(DataError, match="cannot be held out"):
            hold_out(patients, folds, seed)
        return
    splits = hold_out(patients, folds, seed)
    assert splits == hold_out(dict(reversed(patients.items())), folds, seed)
    assert sorted(case for split in splits for case, _ in split.calibration) == sorted(patients)
    for split in splits:
        train, held = {patients[c] for c, _ in split.train}, {patients[c] for c, _ in split.calibration}
        assert train
        assert held
        assert train | held == people
        assert not train & held
    assert len({split.hash for split in splits}) == folds
