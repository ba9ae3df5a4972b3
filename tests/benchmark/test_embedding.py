"""Patches of healthy tissue, lesions and synthetic lesions beside each other."""

import numpy as np
import pytest
from uasbench.benchmark.commands.embedding import KINDS, _cut, _inmost, embed, laid_out
from uasbench.benchmark.planning.options import validated
from uasbench.common.errors import UasbenchError


def groups(*centres, count=20, spread=0.01):
    rng = np.random.default_rng(0)
    return {
        kind: rng.normal(centre, spread, (count, 16)).astype(np.float32)
        for kind, centre in zip(KINDS, centres, strict=True)
    }


def test_groups_that_lie_apart_are_their_own_neighbours_and_equal_ones_each_others():
    apart = laid_out(groups(0, 1, 2))
    assert all(apart["neighbours"][kind][kind] == 1 for kind in KINDS)
    assert {kind: len(places) for kind, places in apart["places"].items()} == dict.fromkeys(KINDS, 20)
    alike = laid_out(groups(0, 0, 1))["neighbours"]
    assert 0.2 < alike["healthy"]["lesion"] < 0.8
    assert alike["synthetic"]["synthetic"] == 1


def test_the_layout_is_the_same_every_time_and_counts_equally_many_of_each():
    unequal = groups(0, 1, 2) | {"lesion": groups(0, 1, 2)["lesion"][:5]}
    first, second = laid_out(unequal), laid_out(unequal)
    assert first == second
    assert {len(places) for places in first["places"].values()} == {5}
    assert all(sum(shares.values()) == pytest.approx(1) for shares in first["neighbours"].values())


def test_too_few_patches_are_refused():
    with pytest.raises(UasbenchError, match="1 lesion patches are too few"):
        laid_out(groups(0, 1, 2) | {"lesion": groups(0, 1, 2)["lesion"][:1]})


def test_a_patch_lies_around_the_inmost_pixel_and_is_black_beyond_the_slice():
    image, mask = np.arange(144, dtype=np.float32).reshape(12, 12), np.zeros((12, 12), bool)
    mask[2:7, 3:8] = True
    (patch,) = _inmost(image[None], mask[None], 4)
    np.testing.assert_array_equal(patch.reshape(4, 4), image[2:6, 3:7])
    corner = _cut(image, np.array([0, 0]), 4).reshape(4, 4)
    assert not corner[:2].any()
    assert corner[2, 3] == 1
    assert _inmost(image[None], np.zeros_like(mask)[None], 4) == []


def test_slices_of_a_method_with_synthetic_lesions_are_needed(tmp_path, cache):
    options = validated(methods="hu-deviation", datasets="lits", profile="smoke", phantom=True, cache=cache)
    with pytest.raises(UasbenchError, match="try draem or two-stage"):
        embed(options)
    found = embed(options.model_copy(update={"methods": "two-stage"}))
    assert (found["method"], set(found["places"])) == ("two-stage", set(KINDS))
