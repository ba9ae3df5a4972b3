"""PaDiM: Gaussians against NumPy and SciPy, streaming, bounds of memory, published settings."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from uasbench.common.errors import DataError
from uasbench.common.seeds import derive
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.features.padim import PaDiM, merge, whitening
from uasbench.methods.features.parts.backbone import cosine_distance, smooth, upsample
from uasbench.methods.training import as_input


def test_streamed_gaussians_equal_numpy_and_one_slice_gives_a_finite_distance():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(3, 23, 5)) @ rng.normal(size=(5, 5)) + 50).astype(np.float32)
    mean, scatter, seen = torch.zeros(3, 5), torch.zeros(3, 5, 5), 0
    for part in np.split(vectors, [1, 9, 16], axis=1):
        seen = merge(mean, scatter, seen, torch.from_numpy(part))
    white = whitening(scatter, seen, 0.01).double().numpy()
    assert seen == 23
    for p in range(3):
        covariance = np.cov(vectors[p].astype(float).T) + 0.01 * np.eye(5)
        assert np.allclose(mean[p], vectors[p].mean(axis=0), atol=1e-4)
        assert np.allclose(scatter[p] / 22, covariance - 0.01 * np.eye(5), rtol=1e-3, atol=1e-3)
        x = rng.normal(size=5) + 50
        wanted = mahalanobis(x, vectors[p].mean(axis=0), np.linalg.inv(covariance))
        assert np.linalg.norm(white[p] @ (x - mean[p].numpy())) == pytest.approx(wanted, rel=1e-2)
    mean, scatter = torch.zeros(2, 3), torch.zeros(2, 3, 3)
    assert merge(mean, scatter, 0, torch.ones(2, 1, 3)) == 1
    assert torch.equal(mean, torch.ones(2, 3))
    assert torch.allclose(whitening(scatter, 1, 0.01), 10 * torch.eye(3).expand(2, 3, 3))


def test_map_is_the_distance_to_the_gaussian_of_its_position(train, healthy, toy_case):
    """The whole method against a plain one that keeps all embeddings."""
    method, curve = train(PaDiM, sigma=0.0, dims=7)
    assert [v["slices"] for v in curve] == [8, 16, 24]
    images = as_input(healthy.array(method.view).take(range(24))[0], "cpu")
    stacked = method.embed(images).double().numpy()
    test = as_input(apply_view(toy_case(9)[0], method.view).image, "cpu")
    embedded = method.embed(test).double().numpy()
    found = method.maps(test).numpy()
    distances = np.empty((8, 64))
    for p in range(64):
        inverse = np.linalg.inv(np.cov(stacked[p].T) + 0.01 * np.eye(7))
        distances[:, p] = [mahalanobis(x, stacked[p].mean(axis=0), inverse) for x in embedded[p]]
    wanted = upsample(torch.from_numpy(distances.reshape(8, 8, 8)), 32).numpy()
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_channels_lie_on_the_finest_grid_by_nearest_neighbour(make_method, healthy):
    method = make_method(PaDiM, "smoke", {"dims": 9})
    images = as_input(healthy.array(method.view).take([3, 5])[0], "cpu")
    method.chosen = torch.tensor([0, 23, 24, 30, 63, 64, 70, 100, 175])
    maps = method.features(images)
    wide = [m.repeat_interleave(8 // m.shape[2], 2).repeat_interleave(8 // m.shape[3], 3) for m in maps]
    wanted = torch.cat(wide, dim=1)[:, method.chosen].flatten(2).permute(2, 0, 1)
    assert torch.equal(method.embed(images), wanted)


def test_channels_are_drawn_by_the_seed(train):
    first, second = (train(PaDiM, seed=seed, limit=0)[0].chosen for seed in (0, 1))
    assert len(set(first.tolist())) == 20
    assert 0 <= first.min() <= first.max() < 24 + 40 + 112
    assert not torch.equal(first, second)
    few, _ = train(PaDiM, dims=1000, limit=0)
    assert torch.equal(few.chosen, torch.arange(176))


def test_without_a_slice_the_map_is_the_norm_of_the_features(train, toy_case):
    method, curve = train(PaDiM, limit=0, sigma=0.0)
    assert curve == []
    test = as_input(apply_view(toy_case(9)[0], method.view).image, "cpu")
    norm = method.embed(test).norm(dim=2).T.reshape(8, 8, 8)
    assert torch.allclose(method.maps(test), upsample(norm, 32), rtol=1e-4)


def test_weights_from_a_file_are_recorded_and_others_refused(train, make_method, toy_case, tmp_path):
    donor = make_method(PaDiM, "smoke", seed=derive(3, "donor"))
    file = tmp_path / "mine.pth"
    torch.save(donor.backbone.net.state_dict(), file)
    method, _ = train(PaDiM, weights=str(file))
    assert method.provenance()["file"] == "mine.pth"
    assert method.provenance()["source"] == "file"
    assert method.provenance()["sha256"] == donor.provenance()["sha256"] == method.extra_identity()
    method.save(tmp_path / "padim.pt")
    again = PaDiM(method.config)
    again.load(tmp_path / "padim.pt")
    assert np.array_equal(again.score(toy_case(9)[0]), method.score(toy_case(9)[0]))
    other = make_method(PaDiM, "smoke", seed=derive(4, "donor"))
    torch.save(other.backbone.net.state_dict(), file)
    with pytest.raises(DataError, match=r"mine\.pth.*weights=/path/to/file, or train again"):
        PaDiM(method.config).load(tmp_path / "padim.pt")


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_smoothing_equals_scipy(sigma):
    maps = np.random.default_rng(0).random((2, 40, 40)).astype(np.float32)
    wanted = gaussian_filter(maps.astype(float), (0, sigma, sigma), mode="mirror", truncate=4)
    assert np.allclose(smooth(torch.from_numpy(maps), sigma), wanted, atol=1e-5)
    assert torch.equal(smooth(torch.from_numpy(maps), 0.0), torch.from_numpy(maps))


def test_cosine_distance_is_half_the_squared_distance_of_normalised_features():
    a, b = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3)
    normal = torch.nn.functional.normalize
    assert torch.allclose(cosine_distance(a, b), 0.5 * (normal(a) - normal(b)).square().sum(dim=1), atol=1e-6)
