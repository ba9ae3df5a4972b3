"""Patch features of vision transformers: which blocks, which norm, which tokens, which side."""

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers.pos_embed import resample_abs_pos_embed
from uasbench.methods.config import ConfigError
from uasbench.methods.features.parts.backbone import FeatureConfig, FeatureMethod
from uasbench.methods.nets.timm_nets import IMAGENET_MEAN, IMAGENET_STD
from uasbench.methods.nets.vit import ViTFeatures, check_side, is_transformer
from uasbench.methods.nets.weights import WeightsError, find

TINY, REGISTERS = "test_vit", "test_vit2"  # timm's own tiny ones: a class token; one register and no class token
DINO2, DINO3 = "vit_small_patch14_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"


def small(backbone=TINY, blocks=(1, 3), size=32, **more) -> ViTFeatures:
    torch.manual_seed(0)
    return ViTFeatures(backbone, blocks, size=size, **more).freeze()


def parameters(width: int, positions: int, prefix: int) -> int:
    """DINOv2: attention, MLP of four times the width, two norms and two layer scales a block; patches of 3 × 14²."""
    block = 12 * width**2 + 13 * width + 2 * width
    return 12 * block + 3 * 14**2 * width + width + positions * width + prefix * width + 2 * width


@pytest.mark.parametrize(
    ("name", "width", "positions", "prefix"),
    [
        ("vit_small_patch14_dinov2.lvd142m", 384, 1370, 1),
        ("vit_base_patch14_dinov2.lvd142m", 768, 1370, 1),
        ("vit_small_patch14_reg4_dinov2.lvd142m", 384, 1369, 5),
        ("vit_base_patch14_reg4_dinov2.lvd142m", 768, 1369, 5),
    ],
)
def test_dinov2_has_the_parameters_of_its_layers(name, width, positions, prefix):
    with torch.device("meta"):
        net = ViTFeatures(name, (-1,), size=518)
    assert sum(p.numel() for p in net.parameters()) == parameters(width, positions, prefix)
    assert (net.patch, net.prefix, net.width, net.licence) == (14, prefix, width, "apache-2.0")


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("name", "prefix", "patch"), [(DINO2, 1, 14), (DINO3, 5, 16)])
def test_dino_gives_the_outputs_of_the_blocks_that_are_named(name, prefix, patch, norm):
    """Against the whole network of timm, whose table is resampled at the call."""
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    net = ViTFeatures(name, (2, -1), size=3 * patch, norm=norm).fill(whole.state_dict()).freeze()
    grey = torch.rand(2, 1, 3 * patch, 3 * patch)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        wanted = []
        hooks = [whole.blocks[i].register_forward_hook(lambda *args: wanted.append(args[2])) for i in (2, 11)]
        whole.forward_features((grey - mean) / std)
        for hook in hooks:
            hook.remove()
        found = net.with_prefix(grey)
        assert [len(net(grey)), len(found)] == [2, 2]
        for (patches, tokens), out in zip(found, wanted, strict=True):
            want = whole.norm(out) if norm else out
            assert torch.allclose(tokens, want[:, :prefix], atol=1e-4)
            assert torch.allclose(patches, want[:, prefix:].transpose(1, 2).unflatten(2, (3, 3)), atol=1e-4)


def test_a_tiny_one_knows_its_tokens_and_ends_at_its_last_block():
    for name, prefix in ((TINY, 1), (REGISTERS, 1)):
        net = small(name, (0, 2), 48)
        assert (net.prefix, net.channels, net.strides, len(net.net.blocks)) == (prefix, (64, 64), (16, 16), 3)
        (first, tokens), _ = net.with_prefix(torch.rand(2, 1, 48, 48))
        assert (first.shape, tokens.shape) == ((2, 64, 3, 3), (2, prefix, 64))
        assert [m.shape for m in net(torch.rand(1, 1, 32, 64))] == [(1, 64, 2, 4)] * 2
        assert not any(p.requires_grad for p in net.parameters())


def test_the_mean_over_blocks_is_one_map():
    grey = torch.rand(2, 1, 32, 32)
    several, one = small(), small(average=True)
    assert torch.allclose(one(grey)[0], torch.stack(several(grey)).mean(0))
    assert (len(one(grey)), one.channels, one.strides) == (1, (64,), (16,))
    assert torch.allclose(one.with_prefix(grey)[0][1], torch.stack([t for _, t in several.with_prefix(grey)]).mean(0))


def test_the_table_is_resampled_once_for_the_size_and_not_at_calls(monkeypatch):
    own = small(size=160).net.state_dict()
    net = small(size=64).fill(own)
    assert torch.equal(net.net.pos_embed, resample_abs_pos_embed(own["pos_embed"], [4, 4], [10, 10]))
    monkeypatch.setattr("torch.nn.functional.interpolate", lambda *args, **more: pytest.fail("resampled at a call"))
    net(torch.rand(1, 1, 64, 64))


def test_weights_of_another_model_are_refused():
    state = {**small(size=160).net.state_dict()}
    with pytest.raises(WeightsError, match=r"pos_embed is \(1, 7, 64\)"):
        small().fill({**state, "pos_embed": torch.zeros(1, 7, 64)})
    with pytest.raises(WeightsError, match="weights do not fit test_vit2"):
        small(REGISTERS).fill(state)


@pytest.mark.parametrize("blocks", [(), (3, 1), (1, 1), (6,), (-7,), (5, -1)])
def test_blocks_that_are_not_there_are_refused(blocks):
    with pytest.raises(ConfigError, match="blocks 0 to 5"):
        ViTFeatures(TINY, blocks, size=32)


def test_what_is_no_transformer_is_refused():
    assert [is_transformer(name) for name in (DINO2, DINO3, "resnet18.tv_in1k")] == [True, True, False]
    with pytest.raises(ConfigError, match="resnet18: not a vision transformer"):
        ViTFeatures("resnet18", (0,), size=32)
    with pytest.raises(ConfigError, match="timm has no such model"):
        ViTFeatures("vit_of_nobody", (0,), size=32)
    with pytest.raises(ConfigError, match="no LayerNorm behind"):
        ViTFeatures(REGISTERS, (0,), size=32, norm=True)


@given(side=st.integers(1, 600), patch=st.sampled_from([14, 16]))
def test_a_side_is_a_multiple_of_the_patch(side, patch):
    if side % patch == 0:
        check_side("vit", side, patch)
        return
    with pytest.raises(ConfigError) as error:
        check_side("vit", side, patch)
    for near in str(error.value).rpartition("use ")[2].split(" or "):
        assert int(near) % patch == 0
        assert abs(int(near) - side) < patch


def test_a_side_that_patches_do_not_fill_is_refused_when_built_and_when_called():
    with torch.device("meta"), pytest.raises(ConfigError, match="use 490 or 504"):
        ViTFeatures(DINO2, (11,), size=500)
    with pytest.raises(ConfigError, match="40 pixels: test_vit has patches of 16 pixels"):
        small()(torch.rand(1, 1, 32, 40))


def test_pretrained_means_the_weights_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("UASBENCH_WEIGHTS", raising=False)
    monkeypatch.setattr("uasbench.methods.nets.weights._refusal", lambda name: "the hub does not answer")
    with pytest.raises(WeightsError, match=f"no pretrained weights for {DINO2}: timm/{DINO2} is not in the hub"):
        find(DINO2, "pretrained")
    assert "no pretrained weights" in (FeatureMethod(FeatureConfig(backbone=DINO2, weights="pretrained")).skip() or "")
