"""The settings of the reduced Screener."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ...config import SOFT_ORGANS, Config, ConfigError


@dataclass(frozen=True)
class ScreenerLiteConfig(Config):
    """Settings of :class:`.screener_lite.ScreenerLite`.

    Attributes:
        size, spacing: the grid of the volumes: in-plane side in pixels, voxel size in mm (z, y, x).
        window: HU range mapped to [0, 1].
        equalise: contrast-limited equalisation of the slices.
        crop: voxels of a training crop and of a window at test (z, y, x).
        channels: widths of the levels of either 3D U-Net.
        width: numbers in a descriptor.
        expander: widths of the expander, which training alone uses.
        voxels: pairs of voxels in a batch.
        jitter: strength of the changes of grey values, 0 for none.
        blocks: range of the sides of the cubes that the condition does not see in training.
        masked: range of the share that they cover.
        condition: ``masking`` is a second descriptor that training makes blind to what is masked; ``position`` is
            where in the organ's box a voxel lies; ``none`` makes the density the same for all voxels.
        octaves: of the sines and cosines of ``position``.
        pool: sides of the cells (z, y, x) over which descriptors are averaged for the density.
        hidden: width of the density's hidden layer.
        noise: standard deviation of what is added to descriptors and conditions while the density learns, in units
            of their own standard deviation.
        updates, density_updates: of each descriptor, and of the density.
        warmup: share of a training in which the learning rate rises; then it falls to 0 with a cosine.
        clip: upper bound of the gradient's norm.
        overlap: of the windows at test.

    Raises:
        ConfigError: crops cannot be halved often enough, or blocks do not fit into them.
    """

    size: int = 256
    spacing: tuple[float, float, float] = (2.25, 1.5, 1.5)
    window: tuple[float, float] = (-200.0, 250.0)
    equalise: bool = True
    crop: tuple[int, int, int] = (32, 64, 64)
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    width: int = 32
    expander: tuple[int, int] = (512, 2048)
    voxels: int = 2048
    jitter: float = 1.0
    blocks: tuple[int, int] = (8, 16)
    masked: tuple[float, float] = (0.25, 0.5)
    condition: Literal["masking", "position", "none"] = "masking"
    octaves: int = 4
    pool: tuple[int, int, int] = (2, 2, 2)
    hidden: int = 64
    noise: float = 0.1
    batch: int = 4
    lr: float = 3e-4
    weight_decay: float = 1e-6
    updates: int = 20_000
    density_updates: int = 10_000
    warmup: float = 1 / 30
    clip: float = 1.0
    overlap: float = field(default=0.25, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "spacing": (8.0, 10.0, 10.0),
            "crop": (8, 16, 16),
            "channels": (4, 8),
            "width": 4,
            "expander": (8, 16),
            "voxels": 64,
            "blocks": (2, 4),
            "hidden": 8,
            "batch": 2,
            "updates": 2,
            "density_updates": 2,
        },
        "quick": {
            "size": 64,
            "spacing": (5.0, 3.5, 3.5),
            "crop": (16, 24, 24),
            "channels": (8, 16, 32),
            "width": 16,
            "expander": (64, 128),
            "voxels": 512,
            "blocks": (4, 8),
            "hidden": 32,
            "batch": 2,
            "lr": 3e-3,
            "updates": 120,
            "density_updates": 150,
        },
        "standard": {
            "size": 176,
            "spacing": (2.0, 2.0, 2.0),
            "crop": (32, 48, 48),
            "channels": (4, 8, 16, 32, 64),
            "expander": (128, 512),
            "voxels": 1024,
            "blocks": (6, 12),
            "batch": 2,
            "lr": 1e-3,
            "updates": 450,
            "density_updates": 400,
        },
    }
    anatomies: ClassVar = {"lung": {"window": (-800.0, 100.0)}, **SOFT_ORGANS}

    def __post_init__(self) -> None:
        factor = 2 ** (len(self.channels) - 1)
        if any(side % factor for side in self.crop) or max(self.crop) == factor:
            raise ConfigError(
                f"crop={self.crop}: {len(self.channels)} levels need multiples of {factor}, not all of them {factor}"
            )
        if self.condition == "masking" and not 1 <= self.blocks[0] <= self.blocks[1] <= min(self.crop):
            raise ConfigError(f"blocks={self.blocks}: choose rising sides from 1 to {min(self.crop)}, those of crop")
        if not 0 <= self.masked[0] <= self.masked[1] <= 0.9:
            raise ConfigError(f"masked={self.masked}: choose rising shares from 0 to 0.9")

    @property
    def condition_width(self) -> int:
        """Numbers that the density is told about a voxel's surroundings."""
        return {"masking": self.width, "position": 6 * self.octaves, "none": 0}[self.condition]
