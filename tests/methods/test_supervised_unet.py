"""The supervised U-Net: parameters, settings, its loss against MONAI, and that the region of interest bounds it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from uasbench.datasets.labelled import LabelledSet
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.context import FitContext
from uasbench.methods.losses import dice_and_cross_entropy
from uasbench.methods.roi_crop import SquareCrops
from uasbench.methods.supervised.supervised_unet import SupervisedUNet, relit, turn, zoomed


@pytest.fixture(scope="module")
def labelled(toy_case) -> LabelledSet:
    return LabelledSet.from_cases([toy_case(i, lesion=True, slices=4) for i in range(4)])


def test_the_loss_is_monais_where_the_region_is_everything_and_pixels_outside_count_nowhere():
    from monai.losses.dice import DiceLoss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 9, 7, generator=generator)
    lesion = torch.rand(3, 9, 7, generator=generator) > 0.7
    dice, entropy = dice_and_cross_entropy(logits, lesion, torch.ones_like(lesion))
    wanted = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)(logits, lesion[:, None])
    torch.testing.assert_close(dice, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, torch.nn.functional.cross_entropy(logits, lesion.long()))
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    lesion, roi = torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    roi[0, :2], lesion[0, 0], lesion[0, 3] = True, True, True
    sum(dice_and_cross_entropy(logits, lesion, roi)).backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(dim=1)[0]
    assert (moved[:2] > 0).all()
    assert (moved[2:] == 0).all()
    for loss in dice_and_cross_entropy(logits.detach(), lesion, torch.zeros_like(roi)):
        assert torch.isfinite(loss)


STILL = {"turns": False, "contrast": 0.0, "brightness": 0.0, "zoom": 0.0}


def test_batches_hold_slices_with_lesions_and_turn_all_alike(make_method, toy_case):
    labelled = LabelledSet.from_cases([toy_case(0, lesion=True, slices=2), *(toy_case(i, slices=9) for i in (1, 2))])
    method = make_method(SupervisedUNet, "smoke", {**STILL, "turns": True, "batch": 6, "size": 64})
    draw = method.batch_source(labelled, FitContext(seed=0))
    stack, lesions = labelled.cases.array(method.view), labelled.lesions(method.view)
    images, _ = stack.take(np.arange(len(stack)))
    masks = lesions.take(np.arange(len(stack)))
    known = [
        (np.rot90(image[::step], turns), np.rot90(mask[::step], turns))
        for image, mask in zip(images, masks, strict=True)
        for step in (1, -1)
        for turns in range(4)
    ]
    found = set()
    for _ in range(8):
        batch, lesion, roi = draw()
        assert batch.shape == (6, 1, 64, 64)
        assert lesion.shape == roi.shape == (6, 64, 64)
        assert lesion.any(dim=(1, 2)).sum() >= 2
        for image, mask in zip(batch[:, 0].numpy(), lesion.numpy(), strict=True):
            number = min(range(len(known)), key=lambda k: np.abs(known[k][0] - image).max())
            np.testing.assert_allclose(known[number][0], image, atol=1e-5)
            np.testing.assert_array_equal(known[number][1], mask)
            found.add(number)
    assert len(found) > 12
    assert {number % 8 for number in found} == set(range(8)), "all turned and mirrored positions"


def test_lungs_are_mirrored_left_to_right_only(make_method):
    method = make_method(SupervisedUNet, "smoke", anatomy="lung")
    assert not method.config.turns
    slices = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    found = set()
    for seed in range(8):
        arrays = [slices.copy(), slices.astype(int)]
        turn(arrays, np.random.default_rng(seed), quarters=False)
        np.testing.assert_array_equal(*arrays)
        for turned, upright in zip(arrays[0], slices, strict=True):
            mirrored = np.array_equal(turned, upright[:, ::-1])
            assert mirrored or np.array_equal(turned, upright)
            found.add(mirrored)
    assert found == {True, False}


def test_zoomed_squares_keep_their_centres():
    crops = SquareCrops.around(torch.ones(2, 8, 8, dtype=torch.bool), 4)
    other = zoomed(crops, torch.tensor([0.5, 1.25]))
    assert other.side.tolist() == [4, 10]
    assert (other.top + other.side / 2).tolist() == (other.left + other.side / 2).tolist() == [4, 4]


def test_light_changes_about_the_mean_of_the_organ_and_nowhere_else():
    generator = torch.Generator().manual_seed(0)
    image = 0.4 + 0.2 * torch.rand(2, 1, 6, 6, generator=generator)
    roi = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    roi[:, :, 1:4] = True
    factor, shift = torch.tensor([1.2, 1.0]).view(2, 1, 1, 1), torch.tensor([0.05, 0.0]).view(2, 1, 1, 1)
    changed = relit(image, roi, factor, shift)
    assert not changed[~roi].any()
    torch.testing.assert_close(changed[1][roi[1]], image[1][roi[1]])
    torch.testing.assert_close(changed[0][roi[0]].mean(), image[0][roi[0]].mean() + 0.05)
    torch.testing.assert_close(changed[0][roi[0]].std(), 1.2 * image[0][roi[0]].std())
    nothing = relit(image, torch.zeros_like(roi), factor, shift)
    assert not nothing.any()


def test_the_map_is_the_mean_over_mirrored_copies(make_method):
    method = make_method(SupervisedUNet, "smoke")
    alone = make_method(SupervisedUNet, "smoke", {"mirror": False})
    method.net.eval()
    alone.net.eval()
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        copies = [
            alone._probability(image.flip(axes)).flip([axis - 1 for axis in axes])
            for axes in ([], [2], [3], [2, 3])
        ]  # fmt: skip
        torch.testing.assert_close(method._probability(image), torch.stack(copies).mean(0))


def test_crops_show_the_organ_in_training_and_at_test(make_method, labelled, toy_case):
    method = make_method(SupervisedUNet, "smoke", {**STILL, "size": 64, "crop": 48, "batch": 6})
    image, lesion, roi = method.batch_source(labelled, FitContext(seed=0))()
    assert image.shape == (6, 1, 48, 48)
    assert lesion.shape == roi.shape == (6, 48, 48)
    assert lesion.dtype == roi.dtype == torch.bool
    assert 0.4 < roi.float().mean() < 0.8, "the toy livers fill more of the crop than of the slice"
    assert lesion.any(dim=(1, 2)).all()
    assert image[:, 0][lesion].mean() < image[:, 0][roi & ~lesion].mean() - 0.2, "lesions of the toy livers are dark"
    assert (image[:, 0][~roi] < 0.5).all()
    case, _ = toy_case(9, lesion=True)
    seen = apply_view(case, method.view)
    image = torch.from_numpy(np.array(seen.image, np.float32))
    method._probability = lambda x: x[:, 0]
    shown = method.score_view(seen.image, seen.roi, (1, 1, 1))
    inside = torch.from_numpy(seen.roi)
    np.testing.assert_allclose(shown[seen.roi].mean(), image[inside].mean(), atol=0.03)
    assert np.corrcoef(shown[seen.roi], image[inside].numpy())[0, 1] > 0.8


def test_a_set_without_lesions_can_be_learned_from(train, toy_case):
    method, _ = train(SupervisedUNet, LabelledSet.from_cases([toy_case(i, slices=3) for i in range(2)]))
    assert method.updates == 4


def test_training_beats_no_training(train, labelled, toy_case):
    case, lesion = toy_case(20, lesion=True)
    found = []
    for limit in (0, 60):
        method, _ = train(SupervisedUNet, labelled, limit=limit, updates=60, size=64, channels=(8, 16), lr=1e-2)
        assert method.updates == limit
        found.append(average_precision_score(lesion[case.roi], method.score(case)[case.roi]))
    assert found[1] > found[0] + 0.2
