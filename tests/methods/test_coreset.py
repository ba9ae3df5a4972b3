"""Greedy k-centre selection and nearest neighbours against naive references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.methods.features.parts.coreset import greedy_k_centre, nearest_distance, random_projection


def naive_k_centre(vectors, count, first):
    vectors = vectors.astype(np.float64)
    chosen = [first]
    while len(chosen) < count:
        distances = np.linalg.norm(vectors[:, None] - vectors[chosen], axis=2).min(axis=1)
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    return chosen


@settings(max_examples=25, deadline=None)
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


def test_selection_covers_better_than_chance():
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32))
    greedy = vectors[greedy_k_centre(vectors, 50, 0)]
    assert nearest_distance(vectors, greedy).max() < 0.7 * nearest_distance(vectors, vectors[:50]).max()


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("chunk", [1, 4000, 2**26])
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
    assert random_projection(vectors[:, :128], 128, torch.Generator()) is not None
    assert torch.equal(random_projection(vectors[:, :128], 128, torch.Generator()), vectors[:, :128])
