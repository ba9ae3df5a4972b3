import numpy as np
import pytest
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.planning.options import validated
from uasbench.experiments.diagnostics import restored_lesions

SHAPE = (5, 20, 20)


@pytest.fixture
def slices():
    """Noisy tissue of 0.6 in which a lesion of two slices lies 0.2 lower; roi, lesion."""
    rng = np.random.default_rng(0)
    roi, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    roi[:, 3:17, 3:17] = lesion[1:3, 6:10, 6:10] = True
    return rng.normal(0.6, 0.01, SHAPE) - 0.2 * lesion, roi, lesion


def test_a_restoration_that_changes_nothing_keeps_the_lesion_and_one_that_heals_leaves_none(slices):
    image, roi, lesion = slices
    same = restored_lesions.contrasts(image, image, roi, lesion)
    assert same["after"] == same["before"] == pytest.approx(0.2, abs=0.01)
    assert np.isnan(same["residual"])
    healed = restored_lesions.contrasts(image, np.full(SHAPE, 0.6), roi, lesion)
    assert healed["after"] == pytest.approx(0, abs=1e-9)
    assert healed["residual"] > 15


def test_slices_without_the_lesion_and_voxels_outside_the_organ_do_not_count(slices):
    image, roi, lesion = slices
    after = np.full(SHAPE, 0.6)
    want = restored_lesions.contrasts(image, after, roi, lesion)
    image[0], image[:, 0], after[4] = 9, 9, 7
    assert restored_lesions.contrasts(image, after, roi, lesion) == want


@pytest.mark.slow
def test_reads_the_networks_of_a_run_and_says_which_are_gone(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    options = {"datasets": ["lits"], "phantom": True, "profile": "smoke", "out": folder, "seeds": [0]}
    run(validated(methods="hu-threshold,ae,two-stage", **options))
    restored_lesions.main([str(folder)])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows] == ["row", "ae", "two-stage"]
    for checkpoint in folder.glob("fits/*/last.pt"):
        checkpoint.unlink()
    restored_lesions.main([str(folder)])
    assert capsys.readouterr().out.count("its networks were not kept") == 2
