"""CutPaste: published settings, pasted pieces, density, localisation, epochs against updates, weights."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.nets.timm_nets import CutPasteNet
from uasbench.methods.nets.weights import WeightsError
from uasbench.methods.pseudo_anomaly.cutpaste import CutPaste, CutPasteConfig, fit_gaussian, negative_log_density
from uasbench.methods.pseudo_anomaly.parts.organ_crops import cut, grid_centres, random_centres, spread_scores
from uasbench.methods.synthesis.cutpaste_patches import CutPastePatches


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def paste(seed=0, **values):
    return CutPastePatches(torch.Generator().manual_seed(seed), **values)


def pictures(count=64, size=64):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, size, size, generator=generator), torch.ones(count, size, size, dtype=torch.bool)


def test_the_port_calls_one_update_an_epoch(train):
    c = resolve(CutPasteConfig, "paper", "liver", {"budget": "port"})
    assert (c.epoch_updates, c.epochs, c.frozen_epochs) == (1, 256, 20)
    method, _ = train(CutPaste, budget="port", epochs=6, frozen_epochs=2)
    assert method.updates == {"frozen": 2, "all": 6}
    method, _ = train(CutPaste, epoch_updates=3, epochs=2)
    assert method.updates == {"frozen": 0, "all": 6}


def test_grey_is_repeated_and_normalised_as_for_imagenet():
    net = CutPasteNet((4, 4, 4, 4), (1, 1, 1, 1), (8,)).eval()
    x = torch.rand(2, 1, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    assert torch.allclose(net.embed(x), net.backbone((x.repeat(1, 3, 1, 1) - mean) / std))
    assert net(x).shape == (2, 3)


@pytest.mark.parametrize("kind", ["patch", "scar"])
def test_pieces_change_only_what_they_cover_inside_the_organ(kind):
    images, rois = pictures()
    rois[:, :, :20] = False
    images = images * rois
    before = images.clone()
    made, pasted = getattr(paste(), kind)(images, rois)
    assert torch.equal(images, before)
    assert torch.equal(made[~pasted], images[~pasted])
    assert not (pasted & ~rois).any()
    assert pasted.flatten(1).any(dim=1).all()
    assert 0 <= made.min() <= made.max() <= 1
    # No background comes along, be it bright or dark: pasted values of a plain organ stay at its level.
    for background in (0.0, 1.0):
        plain = torch.where(rois, 0.5, background)
        level = getattr(paste(jitter=0.0), kind)(plain, rois)[0]
        assert torch.allclose(level[rois], torch.tensor(0.5))


def test_patches_have_the_published_areas_and_aspects():
    images, rois = pictures(2000, 48)
    _, pasted = paste().patch(images, rois)
    heights, widths = pasted.any(dim=2).sum(dim=1), pasted.any(dim=1).sum(dim=1)
    rows, columns = (pasted.any(dim=d) for d in (2, 1))
    whole = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    filled = pasted.flatten(1).sum(dim=1) == heights * widths
    share = (heights * widths)[whole & filled] / 48**2
    assert 0.01 < share.min() < 0.03
    assert 0.12 < share.max() < 0.18
    aspect = (heights / widths)[whole & filled]
    assert aspect.min() < 0.4
    assert aspect.max() > 2.5
    assert 0.35 < (aspect < 1).float().mean() < 0.65


def test_scars_are_thin_and_turned():
    images, rois = pictures(500, 64)
    _, pasted = paste().scar(images, rois)
    size = pasted.flatten(1).sum(dim=1)
    assert size.max() <= 17 * 26
    tall = pasted.any(dim=2).sum(dim=1)
    assert tall.max() <= 26 * 0.7072 + 17 * 0.7072 + 1
    straight = size == tall * pasted.any(dim=1).sum(dim=1)
    assert straight.float().mean() < 0.5


def test_an_upright_piece_is_a_copy():
    images, rois = pictures(16)
    made, pasted = paste(jitter=0.0).patch(images, rois)
    for image, out, mask in zip(images, made, pasted, strict=True):
        values = image.flatten()
        distance = (out[mask][:, None] - values[None]).abs().min(dim=1).values
        assert distance.max() < 1e-4
        assert not torch.equal(out[mask], image[mask])


@pytest.mark.parametrize("kind", ["patch", "scar"])
def test_jitter_changes_brightness_and_contrast_of_a_piece_about_its_mean(kind):
    images, rois = pictures(200)
    images = 0.2 + 0.4 * images
    plain, where = getattr(paste(jitter=0.0), kind)(images, rois)
    made, pasted = getattr(paste(jitter=0.1), kind)(images, rois)
    assert torch.equal(where, pasted)
    factors = []
    for before, after, mask in zip(plain, made, pasted, strict=True):
        if mask.sum() > 20:
            piece, changed = before[mask], after[mask]
            brightness = changed.mean() / piece.mean()
            contrast = changed.std() / piece.std() / brightness
            expected = brightness * (piece.mean() + contrast * (piece - piece.mean()))
            assert torch.allclose(changed, expected, atol=1e-5)
            factors.append((brightness.item(), contrast.item()))
    drawn = np.array(factors)
    assert 0.9 - 1e-4 < drawn.min() < 0.91
    assert 1.09 < drawn.max() < 1.1 + 1e-4
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.3


def test_crops_are_centred_and_padded_and_every_cell_of_the_organ_has_one():
    slices = np.arange(1, 51).reshape(2, 5, 5)
    crops = cut(slices, np.array([0, 1]), np.array([2, 0]), np.array([2, 4]), 3)
    assert np.array_equal(crops[0], slices[0, 1:4, 1:4])
    assert np.array_equal(crops[1], [[0, 0, 0], [29, 30, 0], [34, 35, 0]])
    even = cut(slices, np.array([0]), np.array([2]), np.array([2]), 4)
    assert even[0, 2, 2] == slices[0, 2, 2]
    rois = np.zeros((3, 8, 8), bool)
    rois[[0, 1, 2], [1, 2, 3], [4, 5, 6]] = True
    of, rows, columns = random_centres(rois, np.random.default_rng(0))
    assert (of.tolist(), rows.tolist(), columns.tolist()) == ([0, 1, 2], [1, 2, 3], [4, 5, 6])
    roi = np.zeros((10, 10), bool)
    roi[0, 0] = roi[9, 9] = roi[4, 5] = True
    rows, columns = grid_centres(roi, 4)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(2, 2), (6, 6), (9, 9)]


def test_scores_spread_as_weighted_means():
    roi = np.ones((9, 9), bool)
    roi[:, 8] = False
    rows, columns = grid_centres(roi, 3)
    assert np.allclose(spread_scores(np.full(len(rows), 2.5), rows, columns, roi, 2.0)[roi], 2.5)
    one = np.zeros(len(rows))
    one[4] = 1
    spread = spread_scores(one, rows, columns, roi, 2.0)
    y, x = np.mgrid[:9, :9]
    weight = [np.exp(-((y - r) ** 2 + (x - c) ** 2) / 8) for r, c in zip(rows, columns, strict=True)]
    assert np.allclose(spread[roi], (weight[4] / sum(weight))[roi], atol=1e-4)
    assert not spread[~roi].any()
    with pytest.raises(ValueError, match="too small"):
        spread_scores(np.ones(1), np.array([0]), np.array([0]), roi, 1.0)


def test_gaussian_equals_independent_references_and_constant_features_keep_it_finite():
    from sklearn.covariance import LedoitWolf

    rng = np.random.default_rng(0)
    for samples, dims in ((200, 5), (20, 40)):
        x = rng.normal(size=(samples, dims)) @ rng.normal(size=(dims, dims)) + 3
        reference = LedoitWolf().fit(x)
        mean, precision = fit_gaussian(x)
        assert np.allclose(np.linalg.inv(precision.astype(float)), reference.covariance_, rtol=1e-3, atol=1e-3)
        away = [mahalanobis(row, reference.location_, reference.precision_) for row in x[:5]]
        assert np.allclose(negative_log_density(x[:5], mean, precision), 0.5 * np.square(away), rtol=2e-2)
    mean, precision = fit_gaussian(np.zeros((10, 4)))
    assert np.isfinite(negative_log_density(np.ones((2, 4)), mean, precision)).all()


def test_loss_is_the_cross_entropy_of_plain_patch_and_scar_in_this_order(make_method, healthy, monkeypatch):
    for name, value in (("patch", 2.0), ("scar", 3.0)):
        monkeypatch.setattr(
            CutPastePatches, name, lambda _, crops, tissue, value=value: (torch.full_like(crops, value), tissue)
        )
    method, seen, losses = make_method(CutPaste), [], []
    method.net.register_forward_hook(lambda _, inputs, logits: seen.append((inputs[0], logits.detach().numpy())))
    context = FitContext(seed=0, max_updates=1, on_log=lambda _, v: losses.append(v["cross-entropy"]))
    method.fit(healthy, context)
    crops, logits = seen[0]
    assert crops.shape == (3 * 4, 1, 16, 16)
    assert crops[:4].max() <= 1
    assert crops.amax(dim=(1, 2, 3))[4:].tolist() == crops.amin(dim=(1, 2, 3))[4:].tolist() == [2.0] * 4 + [3.0] * 4
    right = logits[range(12), [0] * 4 + [1] * 4 + [2] * 4]
    assert losses == pytest.approx([(np.log(np.exp(logits).sum(axis=1)) - right).mean()], rel=1e-5)


def test_frozen_backbone_stays_and_learns_again_afterwards(train, make_method):
    method = make_method(CutPaste)
    before, head = weights(method.net.backbone), weights(method.net.head)
    method, _ = train(CutPaste, frozen_epochs=5)
    assert torch.equal(before, weights(method.net.backbone))
    assert not torch.equal(head, weights(method.net.head))
    assert all(p.requires_grad for p in method.net.parameters())
    method, _ = train(CutPaste, frozen_epochs=4)
    assert not torch.equal(before, weights(method.net.backbone))


def test_learning_rate_is_one_cosine(train, rates):
    train(CutPaste, epochs=4)
    assert rates == pytest.approx([0.03 * (1 + np.cos(np.pi * i / 4)) / 2 for i in range(4)])


def test_slices_scored_together_have_the_maps_that_they_have_alone(train, monkeypatch):
    from uasbench.methods.pseudo_anomaly import cutpaste

    method, _ = train(CutPaste)
    size = method.config.size
    array, roi = np.random.default_rng(0).random((5, size, size), np.float32), np.zeros((5, size, size), bool)
    for z in (0, 1, 3):
        roi[z, 4 : 8 + 4 * z, 4:20] = True
    alone = method.score_view(array, roi, (1.0, 1.0, 1.0))
    monkeypatch.setattr(cutpaste, "untried", lambda device: True)
    together = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert alone[0].any()
    assert not alone[[2, 4]].any()
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_weights_of_a_file_start_the_backbone_and_are_recorded(make_method, tmp_path):
    plain = make_method(CutPaste).provenance()
    assert plain == {"backbone": "resnet18.tv_in1k", "source": "random"}
    other = CutPasteNet((4, 8, 8, 16), (1, 1, 1, 1), (16, 8)).backbone
    torch.save({**other.state_dict(), "fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "w.pth")
    method = make_method(CutPaste, "smoke", {"weights": str(tmp_path / "w.pth")})
    assert torch.equal(weights(method.net.backbone), weights(other))
    used = method.provenance()
    assert (used["source"], used["file"], len(used["sha256"])) == ("file", "w.pth", 64)
    assert method.extra_identity() == used["sha256"]
    with pytest.raises(WeightsError, match="use channels and layers of ResNet-18"):
        make_method(CutPaste, "paper", {"weights": str(tmp_path / "w.pth")})
    missing = CutPaste(resolve(CutPasteConfig, "paper", None, {"weights": str(tmp_path / "no.pth")})).skip()
    assert "no such file" in str(missing)
    assert CutPaste(resolve(CutPasteConfig, "paper")).skip() is None
