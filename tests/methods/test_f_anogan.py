"""f-AnoGAN: published settings, the crop, the penalty, the two phases, score."""

import numpy as np
import pytest
import torch
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.context import FitContext
from uasbench.methods.reconstruction import f_anogan
from uasbench.methods.reconstruction.f_anogan import FAnoGAN, gradient_penalty
from uasbench.methods.roi_crop import SquareCrops


def rois(size: int = 40) -> torch.Tensor:
    out = torch.zeros((3, size, size), dtype=torch.bool)
    out[0, 5:35, 10:22] = True
    out[1, 30:33, 2:4] = True
    return out


def test_squares_are_centred_on_the_region_and_never_enlarge():
    crops = SquareCrops.around(rois(), 16)
    assert list(zip(crops.top.tolist(), crops.left.tolist(), crops.side.tolist(), strict=True)) == [
        (5, 1, 30),
        (23.5, -5, 16),
        (0, 0, 40),
    ]


def test_a_square_of_patch_size_is_a_plain_crop_and_comes_back():
    images = torch.rand((1, 1, 40, 40), generator=torch.Generator().manual_seed(0))
    roi = torch.zeros((1, 40, 40), dtype=torch.bool)
    roi[0, 10:26, 12:20] = True
    crops = SquareCrops.around(roi, 16)
    taken = crops.take(images)
    assert torch.allclose(taken, images[..., 10:26, 8:24], atol=1e-6)
    back = crops.put_back(taken[:, 0])
    assert torch.allclose(back[0, 10:26, 8:24], images[0, 0, 10:26, 8:24], atol=1e-6)
    assert back.sum().item() == pytest.approx(taken.sum().item(), rel=1e-5)


def test_crops_average_areas_pad_with_zeros_and_come_back_bilinearly_inside_the_square():
    images = torch.rand((3, 1, 40, 40), generator=torch.Generator().manual_seed(0))
    crops = SquareCrops.around(rois(), 15)
    pooled = torch.nn.functional.avg_pool2d(images[:1, :, 5:35, 1:31], 2)
    assert torch.allclose(crops.take(images)[:1], pooled, atol=1e-5)
    flat = crops.take(torch.ones_like(images))
    assert torch.allclose(flat[[0, 2]], torch.ones(2, 1, 15, 15), atol=1e-5)
    assert not flat[1, 0, :, :4].any()
    ramp = torch.arange(15.0).expand(3, 15, 15)
    back = crops.put_back(ramp.contiguous())
    columns = (torch.arange(1, 31) + 0.5 - 1) / 2 - 0.5
    assert torch.allclose(back[0, 20, 1:31], columns.clamp(0, 14), atol=1e-5)
    assert not back[0, :5].any()
    assert not back[0, :, 31:].any()


def test_penalty_looks_between_the_images_takes_the_norm_over_all_pixels_and_trains_the_critic():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().sum(dim=(1, 2, 3))

    real, fake = torch.zeros(4, 1, 3, 3), torch.ones(4, 1, 3, 3)
    share = torch.tensor([0, 0.25, 0.5, 1]).view(4, 1, 1, 1)
    penalty = gradient_penalty(critic, real, fake, share)
    assert torch.equal(seen[0], share.expand(4, 1, 3, 3))
    norms = 2 * share.flatten().numpy() * 3
    assert penalty.item() == pytest.approx(((norms - 1) ** 2).mean(), rel=1e-5)
    scale = torch.nn.Parameter(torch.tensor(3.0))
    x = torch.rand(2, 1, 1, 1)
    gradient_penalty(lambda x: scale * x.sum(dim=(1, 2, 3)), x, x, torch.rand(2, 1, 1, 1)).backward()
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(2 * (3 - 1))


def test_losses_of_critic_and_generator_have_the_published_signs_and_weight(make_method, toy_net, healthy, monkeypatch):
    """WGAN-GP: the critic minimises fake − real + 10 · penalty, the generator −fake."""
    draws = torch.Generator().manual_seed(0)
    weight, image = (torch.rand((1, 16, 16), generator=draws) for _ in range(2))
    method, minimised, logged = make_method(FAnoGAN, "smoke", {"critic_steps": 1, "updates": 1}), [], []
    method.critic = toy_net(lambda x, w: (x * w).sum(dim=(1, 2, 3)), weight)
    method.generator = toy_net(lambda z, w: w.expand(len(z), -1, -1, -1), image)
    monkeypatch.setattr(f_anogan, "update", lambda _, loss: minimised.append(loss.item()))
    stack, context = healthy.array(method.view), FitContext(seed=0, on_log=lambda _, v: logged.append(v))
    real = next(method.patches(stack, context, "gan"))
    method.train_gan(stack, context)
    on_real, on_fake = (real * weight).sum(dim=(1, 2, 3)).mean().item(), (image * weight).sum().item()
    penalty = (weight.norm().item() - 1) ** 2
    assert abs(on_real - on_fake) > 1
    assert minimised == pytest.approx([10 * penalty - (on_real - on_fake), -on_fake], rel=1e-5)
    expected = {"gan/distance": on_real - on_fake, "gan/penalty": penalty, "gan/generator": -on_fake}
    assert logged == [pytest.approx(expected, rel=1e-5)]


def test_the_double_backward_of_the_penalty_is_in_single_precision(make_method, healthy, monkeypatch):
    found, outputs, penalty = [], set(), f_anogan.gradient_penalty

    def spied(critic, *images):
        value = penalty(critic, *images)
        found.append(({t.dtype for t in (*images, critic(images[0]), value)}, torch.is_autocast_enabled("cpu")))
        return value

    monkeypatch.setattr(f_anogan, "gradient_penalty", spied)
    method = make_method(FAnoGAN, "smoke", {"critic_steps": 1})
    method.generator.register_forward_hook(lambda net, args, made: outputs.add(made.dtype))
    method.train_gan(healthy.array(method.view), FitContext(seed=0, precision="bf16", max_updates=1))
    assert outputs == {torch.bfloat16}
    assert found == [({torch.float32}, False)]


def test_the_critic_takes_its_steps_before_each_generator_update_and_both_phases_are_one_curve(
    make_method, healthy, monkeypatch
):
    stepped, points, names = [], [], {}
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *a: stepped.append(id(self)) or step(self, *a))
    method = make_method(FAnoGAN, "smoke", {"critic_steps": 5, "updates": 2})
    method.fit(healthy, FitContext(seed=0, on_log=lambda at, values: points.append(at) or names.update(values)))
    assert len(set(stepped)) == 2
    assert [s == stepped[0] for s in stepped] == ([True] * 5 + [False]) * 2
    assert method.updates == {"gan": 2, "encoder": 6}
    assert points == list(range(8))
    of_phase = {"gan": ("distance", "penalty", "generator"), "encoder": ("loss", "image", "features")}
    assert [*names] == [f"{phase}/{name}" for phase, found in of_phase.items() for name in found]


def test_the_encoder_phase_changes_the_encoder_alone(make_method, healthy):
    method = make_method(FAnoGAN)
    stack, context = healthy.array(method.view), FitContext(seed=0)
    method.train_gan(stack, context)
    before = {n: {k: v.clone() for k, v in getattr(method, n).state_dict().items()} for n in ("generator", "critic")}
    encoder = method.encoder.dense.weight.detach().clone()
    method.train_encoder(stack, context)
    for name, state in before.items():
        assert all(torch.equal(state[k], v) for k, v in getattr(method, name).state_dict().items())
        assert all(p.requires_grad for p in getattr(method, name).parameters())
    assert not torch.equal(encoder, method.encoder.dense.weight)


def test_features_of_the_critic_are_compared_and_train_the_encoder(make_method, toy_net, healthy, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    image, weight = (torch.rand((1, 16, 16), generator=draws) for _ in range(2))
    method, logged = make_method(FAnoGAN, "smoke", {"kappa": 3, "encoder_updates": 1}), []
    method.encoder = toy_net(lambda x, w: w * x.mean((1, 2, 3))[:, None], 0.7)
    method.generator = toy_net(lambda z, w: z[..., None, None] * w, image)
    method.critic = toy_net(lambda x, w: (x * w).sum((1, 3)) ** 2, weight)
    monkeypatch.setattr(f_anogan, "update", lambda _, loss: loss.backward())
    stack, context = healthy.array(method.view), FitContext(seed=0, on_log=lambda _, v: logged.append(v))
    x = next(method.patches(stack, context, "encoder"))
    method.train_encoder(stack, context)

    scale = torch.tensor(0.7, requires_grad=True)
    restored = (scale * x.mean((1, 2, 3)))[:, None, None, None] * image
    of_image = ((restored - x) ** 2).mean()
    rows = [(y * weight).sum((1, 3)) ** 2 for y in (restored, x)]
    of_features = ((rows[0] - rows[1]) ** 2).mean()
    (slope_of_image,) = torch.autograd.grad(of_image, scale, retain_graph=True)
    (slope_of_features,) = torch.autograd.grad(of_features, scale)
    assert of_features > 0
    assert slope_of_features != 0
    expected = {"image": of_image, "features": of_features, "loss": of_image + 3 * of_features}
    assert logged == [pytest.approx({f"encoder/{k}": v.item() for k, v in expected.items()}, rel=1e-5)]
    slope = method.encoder.weight.grad
    assert slope is not None
    assert slope.item() == pytest.approx((slope_of_image + 3 * slope_of_features).item(), rel=1e-4)


def test_networks_see_crops_between_minus_one_and_one(make_method, healthy):
    method = make_method(FAnoGAN)
    batch = next(method.patches(healthy.array(method.view), FitContext(seed=0), "gan"))
    assert batch.shape == (4, 1, 16, 16)
    assert batch.min() == -1
    assert 0 < batch.max() <= 1


def test_lungs_have_one_square_per_scan_and_livers_one_per_slice(make_method, monkeypatch):
    squares, around = [], SquareCrops.around
    spied = staticmethod(lambda roi, patch: (squares.append(around(roi, patch)), squares[-1])[1])
    monkeypatch.setattr(SquareCrops, "around", spied)
    roi = np.zeros((6, 48, 48), bool)
    for z in range(1, 5):
        roi[z, 20 - 4 * z : 22 + 4 * z, 8:20] = True
    case = Case("a", "p", np.random.default_rng(0).uniform(-900, 0, roi.shape).astype(np.float32), (5, 5, 5), roi)
    for anatomy, sides in (("lung", 1), ("liver", 3)):
        method, scans = make_method(FAnoGAN, "smoke", {"patch": 8}, anatomy), HealthySet.from_cases([case])
        squares.clear()
        batch = next(method.patches(scans.array(method.view), FitContext(seed=0), "gan"))
        method.score(case)
        assert len(batch) == 4
        trained, scored = (set(found.side.tolist()) for found in squares)
        assert len(scored) >= sides
        assert (len(trained | scored) == 1) == (anatomy == "lung")


def test_score_is_the_residual_of_the_crop_in_grey_values(make_method, toy_net):
    array, roi = np.full((2, 32, 32), 0.5, np.float32), np.zeros((2, 32, 32), bool)
    roi[:, 8:24, 8:24] = True
    array[0, 10:14, 10:14] = 0.9
    array[1, 10:14, 10:14] = 0.1
    array[1, 0, 0] = 1
    found = {}
    for sign in ("absolute", "positive"):
        method = make_method(FAnoGAN, "smoke", {"sign": sign, "erode": 2})
        method.encoder, method.generator = (
            toy_net(lambda x, w: w.expand(len(x), *w.shape), torch.zeros(shape)) for shape in ((8,), (1, 16, 16))
        )
        found[sign] = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert found["absolute"][:, 12, 12] == pytest.approx([0.4, 0.4])
    assert found["positive"][:, 12, 12] == pytest.approx([0.4, 0])
    assert found["absolute"][0, 20, 20] == pytest.approx(0, abs=1e-6)
    for map_ in found.values():
        assert map_.dtype == np.float32
        assert not map_[:, 8].any()
        assert not map_[~roi].any()
