"""SAM from a file: the network that its weights say, and the same answers as its own package gives."""

import hashlib

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor as Theirs
from segment_anything import sam_model_registry
from uasbench.benchmark.refinement.sam import PUBLISHED, SamError, SamPredictor, file_sha256, network, read

from .tiny_sam import SIDE, write


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sam") / "tiny.pth")


def test_the_network_of_a_file_is_of_the_size_of_its_weights(weights):
    model = network(read(weights), "tiny")
    assert model.image_encoder.img_size == SIDE
    blocks = model.image_encoder.blocks
    assert [block.window_size for block in blocks] == [3, 0, 3]
    assert {block.attn.num_heads for block in blocks} == {2}
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("kind", "millions"), [("vit_b", 93.7), ("vit_h", 641.1)])
def test_the_published_networks_are_read_as_their_package_builds_them(kind, millions):
    with torch.device("meta"):
        theirs = sam_model_registry[kind]()
        ours = network(theirs.state_dict(), kind)
    assert str(ours) == str(theirs)
    for mine, original in zip(ours.image_encoder.blocks, theirs.image_encoder.blocks, strict=True):
        assert mine.window_size == original.window_size
        assert mine.attn.num_heads == original.attn.num_heads
    assert sum(p.numel() for p in ours.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_pixels_are_normalised_as_the_package_does(weights):
    import inspect

    from segment_anything.modeling import Sam

    defaults = inspect.signature(Sam).parameters
    model = network(read(weights), "tiny")
    assert model.pixel_mean.flatten().tolist() == pytest.approx(defaults["pixel_mean"].default)
    assert model.pixel_std.flatten().tolist() == pytest.approx(defaults["pixel_std"].default)


def test_answers_are_those_of_the_package_for_one_prompt_at_a_time(weights):
    ours, theirs = SamPredictor(weights), Theirs(network(read(weights), "tiny"))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    points = rng.uniform(0, 40, (20, 2)).astype(np.float32)  # more than are asked at once
    boxes = np.concatenate([points - 3, points + 4], axis=1).astype(np.float32)
    ours.look(pixels)
    theirs.set_image(np.stack([pixels] * 3, axis=2))
    for given in (None, boxes):
        masks, ious = ours.predict(points, given)
        assert masks.shape == (20, 40, 50)
        assert masks.dtype == bool
        for i, point in enumerate(points):
            box = None if given is None else given[i]
            wanted, trusted, _ = theirs.predict(point[None], np.array([1]), box, multimask_output=given is None)
            best = int(trusted.argmax())
            assert ious[i] == pytest.approx(trusted[best], abs=1e-5)
            assert np.mean(masks[i] != wanted[best]) < 0.01
    assert 0 < masks.mean() < 1


def test_a_file_that_is_none_is_refused_with_what_to_take(tmp_path, weights):
    wrong = tmp_path / "wrong.pth"
    torch.save({"weight": torch.zeros(2)}, wrong)
    with pytest.raises(SamError, match=r"wrong\.pth holds no weights of SAM \(KeyError: .*take sam_vit_b_01ec64\.pth"):
        SamPredictor(wrong)
    torch.save([1, 2], wrong)
    with pytest.raises(SamError, match="no tensors by name"):
        SamPredictor(wrong)
    wrong.write_bytes(b"nothing")
    with pytest.raises(SamError, match="cannot be read as PyTorch weights"):
        SamPredictor(wrong)
    state = torch.load(weights, weights_only=True)
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, wrong)
    with pytest.raises(SamError, match="no weights of SAM"):
        SamPredictor(wrong)


def test_files_go_by_their_sha256(weights):
    assert file_sha256(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert file_sha256(weights) not in PUBLISHED
    assert all(len(digest) == 64 for digest in PUBLISHED)
