"""PatchCore: memory, its preflight and cap, distances against scikit-learn, published settings."""

import itertools
import json

import numpy as np
import pytest
import torch
from uasbench.common.errors import DataError
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.viewing import apply_view
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext, TrainingError
from uasbench.methods.features.parts.backbone import upsample
from uasbench.methods.features.patchcore import PatchCore, PatchCoreConfig, memory_gib
from uasbench.methods.training import as_input


@pytest.mark.slow
def test_paper_profile_remembers_a_tenth_of_the_patches(train, toy_case):
    case, _ = toy_case(0, slices=1, size=224)
    method, _ = train(PatchCore, HealthySet.from_cases([case]), profile="paper")
    assert method.patches["kept"] == round(0.1 * method.patches["extracted"])
    assert method.bank.shape == (method.patches["kept"], 1024)
    assert np.isfinite(method.score(case)).all()


def test_patches_are_pooled_resized_and_concatenated(make_method, healthy):
    method = make_method(PatchCore)
    images = as_input(healthy.array(method.view).take([3, 5])[0], "cpu")
    fine, coarse = method.features(images)
    padded = np.pad(fine.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    pooled = sum(padded[..., y : y + 4, x : x + 4] for y in range(3) for x in range(3)) / 9
    vectors = method.embed(images)
    assert vectors.shape == (2, 16, 40 + 112)
    assert np.allclose(vectors[..., :40].transpose(1, 2).reshape(2, 40, 4, 4), pooled, atol=1e-4)
    assert np.allclose(vectors[:, [0, 3, 12, 15], 40:].mean(), coarse_corners(coarse), atol=1e-3)
    fewer = make_method(PatchCore, "smoke", {"dims": 76}).embed(images)
    assert torch.allclose(fewer, vectors.reshape(2, 16, 76, 2).mean(dim=3), atol=1e-5)


def coarse_corners(coarse):
    """Corners of the enlarged map are the corners of the pooled one: half a cell outside the outermost centres."""
    padded = np.pad(coarse.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return (sum(padded[..., y : y + 2, x : x + 2] for y in range(3) for x in range(3)) / 9).mean()


def test_memory_holds_a_tenth_of_the_organs_patches(train, healthy):
    method, _ = train(PatchCore, ratio=0.1)
    stack = healthy.array(method.view)
    cells = method._cells(stack.take(range(len(stack)))[1])
    assert method.patches == {"found": cells.sum(), "extracted": cells.sum(), "kept": round(0.1 * cells.sum())}
    every = method.embed(as_input(stack.take(range(len(stack)))[0], "cpu"))[torch.from_numpy(cells).flatten(1)]
    assert method.bank.shape == (method.patches["kept"], 152)
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
    distances = search.kneighbors(vectors.reshape(-1, 152))[0].reshape(8, 4, 4)
    wanted = upsample(torch.from_numpy(distances), 32).numpy()
    found = method.score_view(seen.image, seen.roi, (1, 1, 1))
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-2 * wanted.mean())


def test_what_lies_outside_the_organ_does_not_change_its_scores(train, toy_case):
    method, _ = train(PatchCore, sigma=0.0)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    part = method.score_view(seen.image, seen.roi, (1, 1, 1))
    whole = method.score_view(seen.image, np.ones_like(seen.roi), (1, 1, 1))
    assert np.allclose(part[seen.roi], whole[seen.roi], rtol=1e-5)


def test_the_record_says_whether_the_cap_acted(train):
    (capped, _), (whole, _) = train(PatchCore, max_patches=50), train(PatchCore)
    found = whole.patches["found"]
    assert capped.provenance()["patches"] == f"50 of {found} extracted, 5 kept"
    assert whole.provenance()["patches"] == f"{found} of {found} extracted, {round(0.1 * found)} kept"
    assert capped.provenance()["source"] == "random"


def test_more_patches_than_allowed_are_sampled_by_the_seed(train):
    first, again, other = (train(PatchCore, seed=seed, max_patches=50, ratio=0.5)[0] for seed in (0, 0, 1))
    assert first.patches["extracted"] == 50 < first.patches["found"]
    assert first.bank.shape[0] == first.patches["kept"] == 25
    assert torch.equal(first.bank, again.bank)
    assert not torch.equal(first.bank, other.bank)


def test_too_large_a_memory_is_refused_before_anything_is_extracted(make_method, healthy, monkeypatch):
    method = make_method(PatchCore, "smoke", {"max_gib": 1e-6})
    monkeypatch.setattr(method, "embed", lambda images: pytest.fail("patches were extracted"))
    with pytest.raises(DataError, match=r"GiB.*lower max_patches \(now 500\) or raise max_gib"):
        method.fit(healthy, FitContext(seed=0))
    assert memory_gib(1_000_000, 1024, 128, 0.1) == pytest.approx(4e6 * (1126.4 + 259) / 2**30)


def test_the_memory_that_is_asked_for_is_the_peak_of_fitting(make_method, healthy, monkeypatch, tmp_path):
    method = make_method(PatchCore, "smoke", {"size": 64, "batch": 4, "max_patches": 10_000, "ratio": 0.001})
    monkeypatch.setattr(method, "embed", lambda images: torch.rand(len(images), 64, method.dims))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        method.fit(healthy, FitContext(seed=0))
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    taken = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    peak = max(itertools.accumulate(size for _, size in taken)) / 2**30
    asked = memory_gib(method.patches["extracted"], method.dims, method.config.projection, method.config.ratio)
    assert method.patches["extracted"] > 500
    assert 0.9 * asked < peak <= 1.01 * asked


def test_memory_of_the_paper_profile_stays_within_its_limit():
    c = resolve(PatchCoreConfig, "paper")
    assert memory_gib(c.max_patches, c.dims, c.projection, c.ratio) < c.max_gib


def test_without_a_slice_the_map_is_the_norm_of_the_features(train, toy_case):
    method, _ = train(PatchCore, limit=0, sigma=0.0, organ_only=False)
    assert method.patches == {"found": 0, "extracted": 0, "kept": 0}
    seen = apply_view(toy_case(9)[0], method.view)
    norm = method.embed(as_input(seen.image, "cpu")).norm(dim=2).reshape(8, 4, 4)
    assert np.allclose(method.score_view(seen.image, seen.roi, (1, 1, 1)), upsample(norm, 32), rtol=1e-3)


def test_slices_without_a_patch_of_the_organ_are_no_training(train):
    with pytest.raises(TrainingError, match=r"met no patch of the organ \(max_patches 0\)"):
        train(PatchCore, max_patches=0)
    assert train(PatchCore, limit=0, max_patches=0)[0].patches["kept"] == 0


def test_a_smaller_budget_sees_fewer_slices(train):
    assert train(PatchCore, limit=1)[0].patches["extracted"] < train(PatchCore)[0].patches["extracted"]


def test_a_saved_state_leaves_the_backbone_out(train, tmp_path):
    train(PatchCore)[0].save(tmp_path / "patchcore.pt")
    assert set(torch.load(tmp_path / "patchcore.pt", weights_only=True)) == {"bank", "patches", "weights_used"}
