"""What the methods on pretrained features share: weights, view, frozen backbone, saving without it, their maps."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....datasets.case import Spacing
from ....datasets.views.slice_view import View
from ...config import SliceConfig
from ...method import Method
from ...nets import weights as sources
from ...nets.corpora import of_backbone
from ...pretraining import Pretraining
from ...training import predict

if TYPE_CHECKING:
    import torch

    from ...nets.timm_nets import GreyBackbone

LITE0 = sources.PACKAGED_MODEL


class PretrainedMethod(Method):
    """A method whose backbone takes the weights that the setting ``weights`` names (:func:`.weights.find`).

    Attributes:
        weights_used: what :func:`.weights.record` says of them; :meth:`build` of the subclass sets it.
    """

    requires = ("timm",)
    weights_used: dict[str, str]

    @property
    def pretrained(self) -> str:
        """The timm model that the weights belong to."""
        raise TypeError(f"{type(self).__name__} does not say which model its weights belong to")

    @property
    def pretraining(self) -> Pretraining:
        """What the weights that are asked for were made of (:func:`.corpora.of_backbone`)."""
        return of_backbone(self.pretrained, self.config.weights)

    def skip(self) -> str | None:
        """Say which weights are missing and how to provide them."""
        try:
            sources.find(self.pretrained, self.config.weights)
        except sources.WeightsError as error:
            return str(error)
        return None

    def extra_identity(self) -> str:
        """Return what decides a fit beside its settings: the SHA-256 of the weights, ``random`` for none.

        Raises:
            WeightsError: the weights asked for are missing, or cannot be downloaded or read.
        """
        return sources.identity(self.pretrained, self.config.weights)

    def provenance(self) -> dict[str, str]:
        return dict(getattr(self, "weights_used", {}))


@dataclass(frozen=True)
class FeatureConfig(SliceConfig):
    """Settings that all methods on pretrained features have.

    Attributes:
        size: the references crop 224 from 256; nothing is cropped here, because every pixel of the organ needs a score.
        equalise: histogram equalisation inside the region of interest, as in the liver benchmark BMAD.
        backbone: timm model.
        weights: ``imagenet``, ``random``, or the path of a file or folder (:func:`.weights.find`).
        stages: feature maps; 1, 2, 3 have strides 4, 8, 16: layers 1 to 3 of a ResNet.
        batch: slices per step.
        sigma: standard deviation in pixels of the Gaussian that smooths the map; 0 is off.
    """

    size: int = 224
    equalise: bool = True
    backbone: str = "resnet18.tv_in1k"
    weights: str = sources.IMAGENET
    stages: tuple[int, ...] = (1, 2, 3)
    batch: int = 32
    sigma: float = field(default=4.0, metadata={"stage": "score"})


class FeatureMethod(PretrainedMethod):
    """Compares features of a frozen, pretrained backbone.

    Attributes:
        weights_used: what :func:`.weights.record` says, and ``sha256`` of the tensors; for random weights also their
            ``seed``. It is part of the saved state, the backbone itself is not.
    """

    Config = FeatureConfig
    backbone: GreyBackbone

    @property
    def pretrained(self) -> str:
        return self.config.backbone

    @property
    def view(self) -> View:
        """Masked slices with fixed grey bounds, equalised inside the organ where asked for."""
        c = self.config
        return replace(c.view, equalise=c.equalise, dtype="uint8" if c.equalise else "float32")

    def build(self) -> None:
        """Create the backbone with its pretrained weights, frozen.

        Raises:
            WeightsError: there are none, or they do not fit.
        """
        import torch

        self._create_backbone(int(torch.randint(2**31, (), device="cpu")))

    def save(self, path: Path) -> None:
        """Write what is learned and which weights it stands on, without the backbone."""
        from ...state import save_state

        lean = copy.copy(self)
        del lean.backbone
        save_state(lean, path)

    def load(self, path: Path) -> None:
        """Read what :meth:`save` wrote; the backbone comes from its source again.

        Raises:
            WeightsError: the source now holds other weights.
        """
        from ...state import load_state, to_device

        load_state(self, path)
        used = self.weights_used
        if used["source"] == sources.RANDOM:
            self._create_backbone(int(used["seed"]))
            to_device(self, self.device)
        here = self.backbone.sha256
        if here != used["sha256"]:
            origin = " ".join(used[key] for key in ("source", "file", "hub", "seed") if key in used)
            raise sources.WeightsError(
                f"{path} was made on weights of {used['backbone']} with SHA-256 {used['sha256'][:12]} "
                f"({origin}); those found now have {here[:12]}. Provide the old weights with "
                "weights=/path/to/file, or train again"
            )
        self.weights_used = used

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        for network in (v for v in vars(self).values() if hasattr(v, "eval")):
            network.eval()
        sigma = self.config.sigma
        return predict(lambda x: smooth(self.maps(x), sigma), array, batch=self.config.batch, device=self.device)

    @property
    def side(self) -> int:
        return math.ceil(self.config.size / self.backbone.strides[0])

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the unsmoothed anomaly maps (n, H, W) of images (n, 1, H, W)."""
        raise TypeError(f"{type(self).__name__} must implement maps(images)")

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the backbone's float32 maps of images (n, 1, H, W), finest first, without gradients."""
        import torch

        with torch.no_grad():
            return [f.float() for f in self.backbone(images)]

    def _untrained_backbone(self) -> GreyBackbone:
        from ...nets.timm_nets import TimmFeatures

        return TimmFeatures(self.config.backbone, self.config.stages)

    def _create_backbone(self, seed: int) -> None:
        import torch

        c = self.config
        source = sources.find(c.backbone, c.weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = self._untrained_backbone()
        used = sources.record(source, c.backbone)
        if source.kind == "random":
            state = backbone.net.state_dict()
            used["seed"] = str(seed)
        else:
            state = sources.read(source, c.backbone)
            backbone.fill(state)
            if source.kind == "hub" and backbone.licence:
                used["licence"] = backbone.licence
        # Networks whose parameters are only counted have no values.
        counted = any(tensor.is_meta for tensor in state.values())
        backbone.sha256 = used["sha256"] = "" if counted else sources.sha256(state)
        self.backbone = backbone.freeze().to(memory_format=torch.channels_last)
        self.weights_used = used


def upsample(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarge maps (n, h, w) bilinearly to (n, size, size)."""
    from torch.nn import functional

    return functional.interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def smooth(maps: torch.Tensor, sigma: float, radius: int | None = None) -> torch.Tensor:
    """Smooth maps (n, H, W) with a Gaussian of ``sigma`` pixels, cut at 4 σ, mirrored at the border; 0 is off.

    Args:
        radius: cut the Gaussian at so many pixels instead.
    """
    import torch
    from torch.nn import functional

    if sigma == 0:
        return maps
    radius = min(int(4 * sigma + 0.5) if radius is None else radius, min(maps.shape[1:]) - 1)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32, device=maps.device)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    with torch.autocast(maps.device.type, enabled=False):
        padded = functional.pad(maps.float()[:, None], (radius,) * 4, mode="reflect")
        rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
        return functional.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return 1 − the cosine of feature maps (n, c, h, w) at every position, float32 (n, h, w)."""
    from torch.nn import functional

    return 1 - functional.cosine_similarity(a.float(), b.float(), dim=1)
