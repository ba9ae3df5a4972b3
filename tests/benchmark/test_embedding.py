"""Patches of healthy tissue, lesions and synthetic lesions beside each other."""

import numpy as np
import pytest
from uasbench.benchmark.commands import embedding
from uasbench.benchmark.commands.embedding import KINDS, _cut, _inmost, embed, laid_out
from uasbench.benchmark.planning.options import validated
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.common.errors import UasbenchError
from uasbench.datasets.healthy import HealthySet, Part
from uasbench.datasets.labelled import LabelledPart, LabelledSet


def groups(*centres, count=20, spread=0.01):
    rng = np.random.default_rng(0)
    return {
        kind: rng.normal(centre, spread, (count, 16)).astype(np.float32)
        for kind, centre in zip(KINDS, centres, strict=True)
    }


def test_groups_that_lie_apart_are_their_own_neighbours_and_equal_ones_each_others():
    apart = laid_out(groups(0, 1, 2, 3))
    assert all(apart["neighbours"][kind][kind] == 1 for kind in KINDS)
    assert {kind: len(places) for kind, places in apart["places"].items()} == dict.fromkeys(KINDS, 20)
    alike = laid_out(groups(0, 0, 1, 2))["neighbours"]
    assert 0.2 < alike["healthy"]["lesion"] < 0.8
    assert alike["synthetic"]["synthetic"] == 1


def test_the_layout_is_the_same_every_time_and_counts_equally_many_of_each():
    unequal = groups(0, 1, 2, 3) | {"lesion": groups(0, 1, 2, 3)["lesion"][:5]}
    first, second = laid_out(unequal), laid_out(unequal)
    assert first == second
    assert {len(places) for places in first["places"].values()} == {5}
    assert all(sum(shares.values()) == pytest.approx(1) for shares in first["neighbours"].values())


def test_too_few_patches_are_refused():
    with pytest.raises(UasbenchError, match="1 lesion patches are too few"):
        laid_out(groups(0, 1, 2, 3) | {"lesion": groups(0, 1, 2, 3)["lesion"][:1]})


def test_a_patch_lies_around_the_inmost_pixel_and_is_black_beyond_the_slice():
    image, mask = np.arange(144, dtype=np.float32).reshape(12, 12), np.zeros((12, 12), bool)
    mask[2:7, 3:8] = True
    (patch,) = _inmost(image[None], mask[None], 4)
    np.testing.assert_array_equal(patch.reshape(4, 4), image[2:6, 3:7])
    corner = _cut(image, np.array([0, 0]), 4).reshape(4, 4)
    assert not corner[:2].any()
    assert corner[2, 3] == 1
    assert _inmost(image[None], np.zeros_like(mask)[None], 4) == []


@pytest.fixture
def options(cache):
    return validated(methods="two-stage", datasets="lits", profile="smoke", phantom=True, cache=cache)


def test_slices_of_a_method_with_synthetic_lesions_are_needed(options):
    with pytest.raises(UasbenchError, match="try draem or two-stage"):
        embed(options.model_copy(update={"methods": "hu-deviation"}))
    found = embed(options)
    assert (found["method"], set(found["places"])) == ("two-stage", set(KINDS))


def test_healthy_patches_are_of_the_lesions_own_set_and_those_of_training_are_apart(options, monkeypatch):
    patches = {}
    monkeypatch.setattr(embedding, "laid_out", lambda found: patches.update(found) or {})
    embed(options)
    (task,) = planned_tasks(options, 1)
    cls, config = task.candidates[0].spec.load()
    view = cls(config).view
    labelled = LabelledSet([LabelledPart(case, task.data.truths[case.id]) for case in task.data.test])
    ill = labelled.lesions(view).positive
    side = round(patches["healthy"].shape[1] ** 0.5)

    def windows(stack, chosen):
        """Return the bytes of every patch of these slices."""
        images = [np.pad(embedding._in_unit_range(stack.take([i])[0][0]), side // 2) for i in np.flatnonzero(chosen)]
        views = (np.lib.stride_tricks.sliding_window_view(image, (side, side)) for image in images)
        return {patch.astype(np.float32).tobytes() for view in views for patch in view.reshape(-1, side, side)}

    tested = labelled.cases.array(view)
    training = HealthySet([Part(case, z) for case, z in task.data.training()]).array(view)
    homes = {
        "healthy": windows(tested, ~ill),
        "lesion": windows(tested, ill),
        "training": windows(training, np.ones(len(training), bool)),
    }
    for kind, home in homes.items():
        assert {patch.tobytes() for patch in patches[kind]} <= home, kind
    assert not {patch.tobytes() for patch in patches["training"]} & homes["healthy"]
