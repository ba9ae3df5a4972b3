"""Small synthetic livers for the tests of methods, and a watch on what their updates wait for."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from uasbench.common.seeds import derive, seed_everything
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext

ToyCase = Callable[..., tuple[Case, np.ndarray]]
ASKING = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::equal",
    "aten::_unique2", "aten::unique_dim",
}  # fmt: skip
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}
READ_AT_TIMES = {"log", "log_watched"}


class Waits(TorchDispatchMode):
    """Collects where an update asks for a number that is on a device: a GPU would stop there until its work is done.

    It is found on the CPU, where the same operations run. Losses are read where a point of a curve or a look at
    held-out patients is due, and optimisers keep their counts in host memory: neither is collected.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ASKING or (name in INDEXING and any(_is_mask(index) for index in args[1])):
            frames = list(_frames())
            names = {frame.f_code.co_name for frame in frames}
            optimiser = any("torch/optim" in frame.f_code.co_filename for frame in frames)
            if "run_updates" in names and not optimiser and not names & READ_AT_TIMES:
                own = next(frame for frame in frames if "torch" not in frame.f_code.co_filename.split("/"))
                self.places.add(f"{own.f_code.co_filename}:{own.f_lineno} {name}")
        return func(*args, **(kwargs or {}))


def _is_mask(index: object) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype == torch.bool


def _frames() -> Iterator[FrameType]:
    frame = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture(scope="session")
def toy_case() -> ToyCase:
    """Return ``make(number, lesion=False, slices=8, size=64) -> (case, lesion mask)``: a textured ellipse in fat."""

    def make(number: int, *, lesion: bool = False, slices: int = 8, size: int = 64) -> tuple[Case, np.ndarray]:
        rng = np.random.default_rng(derive(number, "toy", int(lesion)))
        _, y, x = np.mgrid[:slices, :size, :size]
        centre = size * (0.5 + rng.uniform(-0.03, 0.03, 2))
        radii = size * np.array([0.36, 0.28]) * rng.uniform(0.9, 1.1, 2)
        roi = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
        noise = ndimage.gaussian_filter(rng.normal(size=roi.shape), (0, 0.7, 0.7))
        image = np.where(roi, 105 + rng.normal(0, 5), -80) + 10 * noise / noise.std()
        truth = np.zeros_like(roi)
        if lesion:
            inside = np.argwhere(ndimage.binary_erosion(roi[0], iterations=size // 8))
            at = inside[rng.integers(len(inside))]
            truth = (y - at[0]) ** 2 + (x - at[1]) ** 2 < (size / 12) ** 2
            image = image - 60 * truth
        case = Case(f"toy{number}", f"p{number}", image.astype(np.float32), (2.5, 1.5, 1.5), roi)
        return case, truth

    return make


@pytest.fixture(scope="session")
def make_method() -> Callable:
    """Return ``make(cls, profile, settings, anatomy, seed)``: a method built as the engine builds it, seeds first.

    Backbones have random weights where the settings name no others.
    """

    def make(cls, profile="smoke", settings=None, anatomy="liver", seed=0):
        seed_everything(derive(seed, "weights"))
        random = {"weights": "random"} if hasattr(cls.Config, "weights") else {}
        method = cls(resolve(cls.Config, profile, anatomy, {**random, **(settings or {})}))
        method.build()
        return method

    return make


class ToyNet(torch.nn.Module):
    """A network of one parameter and one formula of the input and of it; other inputs are not used."""

    def __init__(self, formula: Callable, weight: torch.Tensor | float = 0.0) -> None:
        super().__init__()
        self.weight, self.formula = torch.nn.Parameter(torch.as_tensor(weight)), formula

    def forward(self, x, *_, **__):
        return self.formula(x, self.weight)

    trunk = forward


@pytest.fixture(scope="session")
def toy_net() -> type[ToyNet]:
    """Return ``make(formula, weight=0)``: a network that answers ``formula(x, weight)``."""
    return ToyNet


@pytest.fixture(scope="session")
def healthy(toy_case: ToyCase) -> HealthySet:
    """Three livers of eight slices each."""
    return HealthySet.from_cases([toy_case(i)[0] for i in range(3)])


@pytest.fixture(scope="session")
def healthy_volumes(toy_case: ToyCase) -> HealthySet:
    """Three livers that are thick enough for crops of volumes."""
    return HealthySet.from_cases([toy_case(i, slices=12)[0] for i in range(3)])


@pytest.fixture(scope="session")
def train(make_method: Callable, healthy: HealthySet) -> Callable:
    """Return ``train(cls, scans=healthy, **settings) -> (method, curve)``, where curve holds the logged values."""

    def train(cls, scans=healthy, *, profile="smoke", anatomy="liver", seed=0, limit=None, **settings):
        around = {key: settings.pop(key) for key in ("precision", "unlabelled") if key in settings}
        method, curve = make_method(cls, profile, settings, anatomy, seed), []
        method.fit(scans, FitContext(seed, max_updates=limit, on_log=lambda _, values: curve.append(values), **around))
        return method, curve

    return train


@pytest.fixture
def rates() -> Iterator[list[float]]:
    """Collect the learning rate of every step that an optimiser takes in a test."""
    found: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda optimiser, *_: found.append(optimiser.param_groups[0]["lr"]))
    yield found
    hook.remove()


@pytest.fixture(scope="session")
def published() -> dict[str, dict]:
    """The published settings of every method, by name."""
    return yaml.safe_load((Path(__file__).parent / "published_settings.yaml").read_text())
