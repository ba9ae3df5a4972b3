"""PatchCore: selection of the memory, its preflight and cap, distances against scikit-learn."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from uasbench.common.errors import DataError
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext, TrainingError
from uasbench.methods.features.parts.backbone import upsample
from uasbench.methods.features.parts.coreset import greedy_k_centre, nearest_distance, random_projection
from uasbench.methods.features.parts.pooled_patches import pooled_neighbourhoods
from uasbench.methods.features.patchcore import PatchCore, PatchCoreConfig, memory_gib
from uasbench.methods.training import as_input


def naive_k_centre(vectors, count, first):
    vectors = vectors.astype(np.float64)
    chosen = [first]
    while len(chosen) < count:
        distances = np.linalg.norm(vectors[:, None] - vectors[chosen], axis=2).min(axis=1)
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    return chosen


@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 10**6), st.sampled_from([0.0, 100.0]))
def test_selection_equals_the_naive_one(count, dims, seed, offset):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(count, dims)) + offset).astype(np.float32)
    wanted, first = int(rng.integers(1, count + 1)), int(rng.integers(count))
    found = greedy_k_centre(torch.from_numpy(vectors), wanted, first).tolist()
    distances = np.linalg.norm(vectors[:, None].astype(float) - vectors[found], axis=2)
    reference = np.linalg.norm(vectors[:, None].astype(float) - vectors[naive_k_centre(vectors, wanted, first)], axis=2)
    assert len(set(found)) == wanted
    assert found[0] == first
    assert distances.min(axis=1).max() == pytest.approx(reference.min(axis=1).max(), rel=1e-3, abs=1e-3)
    if dims > 2 and offset == 0:
        assert found == naive_k_centre(vectors, wanted, first)


def test_equal_vectors_are_never_selected_twice():
    vectors = torch.ones(5, 3)
    assert sorted(greedy_k_centre(vectors, 5, 2).tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="6 centres of 5"):
        greedy_k_centre(vectors, 6, 0)


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("chunk", [4000, 2**26])
def test_nearest_distance_equals_scikit_learn(offset, chunk):
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    bank, queries = ((rng.normal(size=(n, 16)) + offset).astype(np.float32) for n in (70, 33))
    queries[0] = bank[5]
    wanted = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.astype(float)).kneighbors(queries)[0][:, 0]
    found = nearest_distance(torch.from_numpy(queries), torch.from_numpy(bank), chunk).numpy()
    assert np.allclose(found, wanted, atol=5e-3)
    assert np.allclose(found[1:], wanted[1:], rtol=1e-4)


def test_projection_keeps_distances_and_follows_its_generator():
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 1024)).astype(np.float32))

    def project(seed):
        return random_projection(vectors, 128, torch.Generator().manual_seed(seed))

    ratio = torch.pdist(project(0)) / torch.pdist(vectors)
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert ratio.std() < 0.1
    assert torch.equal(project(0), project(0))
    assert not torch.equal(project(0), project(1))
    assert torch.equal(random_projection(vectors[:, :128], 128, torch.Generator()), vectors[:, :128])


@pytest.mark.parametrize(("pool", "dims"), [(3, 128), (3, 50), (1, 200), (5, 1024)])
def test_neighbourhoods_are_pooled_by_stage_and_together_as_in_the_released_code(make_method, healthy, pool, dims):
    """Step by step, on whole batches: cut out, enlarge every value of a neighbourhood, pool each stage, pool both."""
    method = make_method(PatchCore, "smoke", {"pool": pool, "dims": dims})
    images = as_input(healthy.array(method.view).take([3, 5])[0], "cpu")
    stages = []
    for maps in method.features(images):
        values = functional.unfold(maps, pool, padding=pool // 2).unflatten(2, maps.shape[2:])
        values = functional.interpolate(values, size=(4, 4), mode="bilinear", align_corners=False)
        stages.append(functional.adaptive_avg_pool1d(values.flatten(2).transpose(1, 2), dims))
    wanted = functional.adaptive_avg_pool1d(torch.cat(stages, dim=2), dims)
    assert wanted.shape == (2, 16, dims)
    assert torch.allclose(method.embed(images), wanted, atol=1e-5)


def test_at_the_published_widths_the_second_stage_counts_the_centre_twice_and_the_third_is_a_plain_mean():
    maps = torch.rand(1, 512, 3, 3)
    halves = pooled_neighbourhoods(maps, 3, 1024)[0, :, 1, 1].reshape(512, 2).mean(dim=1)
    assert torch.allclose(halves, (maps.sum(dim=(2, 3)) + maps[..., 1, 1])[0] / 10, atol=1e-6)
    maps = torch.rand(1, 1024, 3, 3)
    assert torch.allclose(pooled_neighbourhoods(maps, 3, 1024)[0, :, 1, 1], maps.mean(dim=(2, 3))[0], atol=1e-6)


def test_memory_holds_a_tenth_of_the_organs_patches(train, healthy):
    method, _ = train(PatchCore, ratio=0.1)
    stack = healthy.array(method.view)
    cells = method._cells(stack.take(range(len(stack)))[1])
    assert method.patches == {"found": cells.sum(), "extracted": cells.sum(), "kept": round(0.1 * cells.sum())}
    every = method.embed(as_input(stack.take(range(len(stack)))[0], "cpu"))[torch.from_numpy(cells).flatten(1)]
    assert method.bank.shape == (method.patches["kept"], 128)
    gaps = torch.cdist(method.bank, every).amin(dim=1)
    assert gaps.max() < 0.05 * every.norm(dim=1).mean()
    everywhere, _ = train(PatchCore, organ_only=False)
    assert everywhere.patches["found"] == 24 * 16


def test_cells_are_those_that_enlarging_reads(make_method):
    method = make_method(PatchCore, "smoke", {"size": 64})
    roi = np.zeros((1, 64, 64), bool)
    roi[0, 24, 24] = True
    wanted = np.zeros((8, 8), bool)
    wanted[2:5, 2:5] = True
    assert np.array_equal(method._cells(roi)[0], wanted)
    noise = torch.rand(1, 8, 8)
    whole, part = upsample(noise, 64), upsample(noise * torch.from_numpy(wanted), 64)
    assert torch.equal(whole[0, 24:32, 24:32], part[0, 24:32, 24:32])


def test_map_is_the_distance_to_the_nearest_remembered_patch(train, toy_case):
    from sklearn.neighbors import NearestNeighbors

    method, _ = train(PatchCore, organ_only=False, sigma=0.0)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    vectors = method.embed(as_input(seen.image, "cpu")).double().numpy()
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(method.bank.double().numpy())
    distances = search.kneighbors(vectors.reshape(-1, 128))[0].reshape(8, 4, 4)
    wanted = upsample(torch.from_numpy(distances), 32).numpy()
    found = method.score_view(seen.image, seen.roi, (1, 1, 1))
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-2 * wanted.mean())


def test_what_lies_outside_the_organ_does_not_change_its_scores(train, toy_case):
    method, _ = train(PatchCore, sigma=0.0)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    part = method.score_view(seen.image, seen.roi, (1, 1, 1))
    whole = method.score_view(seen.image, np.ones_like(seen.roi), (1, 1, 1))
    assert np.allclose(part[seen.roi], whole[seen.roi], rtol=1e-5)


def test_more_patches_than_allowed_are_sampled_by_the_seed_and_the_record_says_so(train):
    first, other = (train(PatchCore, seed=seed, max_patches=50, ratio=0.5)[0] for seed in (0, 1))
    whole, part = train(PatchCore)[0], train(PatchCore, limit=1)[0]
    found = whole.patches["found"]
    assert first.provenance()["patches"] == f"50 of {found} extracted, 25 kept"
    assert whole.provenance()["patches"] == f"{found} of {found} extracted, {round(0.1 * found)} kept"
    assert part.patches["extracted"] < found
    assert first.bank.shape[0] == 25
    assert not torch.equal(first.bank, other.bank)


def test_too_large_a_memory_is_refused_before_anything_is_extracted(make_method, healthy, monkeypatch):
    method = make_method(PatchCore, "smoke", {"max_gib": 1e-6})
    monkeypatch.setattr(method, "embed", lambda images: pytest.fail("patches were extracted"))
    with pytest.raises(DataError, match=r"GiB.*lower max_patches \(now 500\) or raise max_gib"):
        method.fit(healthy, FitContext(seed=0))
    c = resolve(PatchCoreConfig, "paper")
    assert memory_gib(c.max_patches, c.dims, c.projection, c.ratio) < c.max_gib


def test_the_memory_that_is_asked_for_is_the_peak_of_fitting(make_method, healthy, monkeypatch, tmp_path):
    settings = {"size": 64, "batch": 4, "max_patches": 10_000, "ratio": 0.001, "dims": 152}
    method = make_method(PatchCore, "smoke", settings)
    monkeypatch.setattr(method, "embed", lambda images: torch.rand(len(images), 64, method.config.dims))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        method.fit(healthy, FitContext(seed=0))
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    taken = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    peak = max(itertools.accumulate(size for _, size in taken)) / 2**30
    asked = memory_gib(method.patches["extracted"], method.config.dims, method.config.projection, method.config.ratio)
    assert method.patches["extracted"] > 500
    assert 0.9 * asked < peak <= 1.01 * asked


def test_without_a_slice_the_map_is_the_norm_and_slices_without_a_patch_are_no_training(train, toy_case):
    method, _ = train(PatchCore, limit=0, sigma=0.0, organ_only=False)
    assert method.patches == {"found": 0, "extracted": 0, "kept": 0}
    seen = apply_view(toy_case(9)[0], method.view)
    norm = method.embed(as_input(seen.image, "cpu")).norm(dim=2).reshape(8, 4, 4)
    assert np.allclose(method.score_view(seen.image, seen.roi, (1, 1, 1)), upsample(norm, 32), rtol=1e-3)
    with pytest.raises(TrainingError, match=r"met no patch of the organ \(max_patches 0\)"):
        train(PatchCore, max_patches=0)
