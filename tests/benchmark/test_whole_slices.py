"""A method that is measured in whole slices: one training, maps kept there, every voxel of these slices counts."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.runs.map_store import read_map
from uasbench.datasets.case import counted

LABELS = ("vae-original", "vae-original@whole")


@pytest.fixture(scope="module")
def done(quick_run, root, cache, tmp_path_factory):
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    out, variants = tmp_path_factory.mktemp("whole") / "run", ["whole:vae-original.scored=slices"]
    found = quick_run("vae-original", "lits", variants=variants, out=out, **options)
    assert not found.failures
    return found


def test_numbers_are_those_of_all_voxels_of_the_slices_and_maps_agree_inside_the_organ(done, root):
    inside, whole = (next(r for r in done.records if r.cell.method == name) for name in LABELS)
    assert inside.ids.fits == whole.ids.fits
    assert (inside.method.region, whole.method.region) == ("roi", "slices")
    dataset = registry.datasets().get("lits")()
    dataset.discover(root)
    scores, labels = [], []
    for id_ in whole.data.cases:
        case, truth = dataset.load(id_), dataset.load_truth(id_)
        one, stored = (read_map(done.folder.map_dir(r.cell) / f"{id_}.map") for r in (inside, whole))
        kept = one.view_map() > 0
        assert kept.any()
        np.testing.assert_array_equal(one.view_map()[kept], stored.view_map()[kept])
        other = stored.native()
        region = counted(case.roi, "slices")
        assert other[region & ~case.roi].any()
        assert region.sum() > case.roi.sum()
        scores.append(other[region])
        labels.append(truth.lesion[region])
    (measured,) = (v.value for v in whole.pooled if (v.metric, v.protocol) == ("auroc", "none"))
    expected = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    assert measured == pytest.approx(expected, abs=1e-4)
    assert measured == next(v.value for v in whole.pooled if v.metric == "auroc_image")  # nothing lies outside
    assert measured != next(v.value for v in inside.pooled if (v.metric, v.protocol) == ("auroc", "none"))
