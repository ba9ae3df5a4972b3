"""Healthy scans with planted lesions as test sets: whom they take, what runs and lists make of them."""

import numpy as np
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.commands.listing import dataset_adapters
from uasbench.common.errors import DataError
from uasbench.common.source_hash import closure_files
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.dataset import CaseRef
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.datasets.planted.sets import BTCVPlanted, LUNA16Planted


@pytest.mark.parametrize(("planted", "anatomy"), [(BTCVPlanted, "liver"), (LUNA16Planted, "lung")])
def test_scans_are_those_of_the_healthy_set_with_lesions(planted, anatomy, tmp_path):
    where = phantom_root(tmp_path, anatomy=anatomy, seed=0, size="smoke")
    ill, healthy = planted(), planted.healthy()
    chosen, everyone = ill.discover(where), healthy.discover(where)
    assert {ref.id for ref in chosen} < {ref.id for ref in everyone}
    assert len(chosen) == 1
    for ref in chosen:
        case, before, truth = ill.load(ref.id), healthy.load(ref.id), ill.load_truth(ref.id)
        assert np.array_equal(case.roi, before.roi)
        changed = case.image != before.image
        assert (changed & truth.lesion).any()
        assert not (changed & ~case.roi).any()
        assert np.array_equal(truth.slice_labels, truth.lesion.any(axis=(1, 2)))
        assert any("synthetic" in note.text for note in case.notes)


@pytest.mark.parametrize(("people", "count"), [(2, 1), (4, 1), (9, 2), (30, 8), (300, 8)])
def test_a_quarter_of_the_patients_is_taken_whole(people, count, monkeypatch, tmp_path):
    refs = [CaseRef(f"{p}-{i}", f"p{p}", tmp_path) for p in range(people) for i in range(2)]
    monkeypatch.setattr(BTCV, "discover", lambda *_: refs)
    chosen = BTCVPlanted().discover(tmp_path)
    assert len({ref.patient for ref in chosen}) == count
    assert len(chosen) == 2 * count
    monkeypatch.setattr(BTCV, "discover", lambda *_: refs[::-1])
    assert {ref.id for ref in BTCVPlanted().discover(tmp_path)} == {ref.id for ref in chosen}


def test_one_patient_is_too_few(monkeypatch, tmp_path):
    monkeypatch.setattr(BTCV, "discover", lambda *_: [CaseRef(str(i), str(i), tmp_path) for i in range(1)])
    with pytest.raises(DataError, match="needs two patients in btcv"):
        BTCVPlanted().discover(tmp_path)


@pytest.mark.slow
def test_whoever_is_tested_trains_nothing_and_the_tables_say_what_the_lesions_are(quick_run, root, cache, tmp_path):
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    done = quick_run("hu-deviation", "btcv-planted", out=tmp_path / "run", **options)
    (record,) = done.records
    trained = {part["case"] for part in record.data.split["train"] + record.data.split["calibrate"]}
    assert not trained & record.data.cases.keys()
    assert "PLANTED" in (done.folder.path / "report.html").read_text()
    assert set(done.tables.summary["flags"].str.contains("planted")) == {True}


def test_planted_sets_stand_beside_the_sets_of_files():
    cards = registry.datasets().cards()
    planted = {name for name, card in cards.items() if card.role == "planted"}
    assert planted == {"btcv-planted", "luna16-planted"}
    assert not planted & dataset_adapters().keys()
    assert dataset_adapters("btcv-planted").keys() == {"btcv-planted"}


def test_their_law_is_nobodys_synthesis():
    """No method can have been taught what its settings are chosen by."""
    for cls in (registry.runnable().get(name) for name in registry.runnable().cards()):
        assert not any(".planted" in module for module in closure_files(cls.__module__)), cls
    assert not any(".methods" in module for module in closure_files("uasbench.datasets.planted.sets"))
