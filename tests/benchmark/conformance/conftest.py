"""Two honest methods, variants of them that break one promise each, and what the checks say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter
from uasbench import Case, Config, FitContext, HealthySet, Method, MethodCard, View
from uasbench.benchmark.conformance import learning
from uasbench.benchmark.conformance.run import NAMES, CheckResult, run_checks


class MedianResidual(Method):
    card = MethodCard(name="median-residual", title="Local median residual", year=2026, supervision="none")

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        pass

    def score(self, case: Case) -> np.ndarray:
        return np.abs(case.image - median_filter(case.image, size=(1, 5, 5))).astype(np.float32)


@dataclass(frozen=True)
class TinyConfig(Config):
    updates: int = 2000
    batch: int = field(default=8, metadata={"stage": "score"})
    window: tuple[float, float] = (-200.0, 250.0)
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"updates": 2}, "quick": {"updates": 300}}
    anatomies: ClassVar[Mapping[str, Mapping[str, Any]]] = {"lung": {"window": (-1000.0, -300.0)}}


class TinyNet(Method):
    """Predicts every pixel from the mean of its slice; the smoothed residual is the map."""

    card = MethodCard(name="tiny-net", title="A tiny network")
    Config = TinyConfig
    native_threshold = 0.2
    norm = False

    @property
    def view(self) -> View:
        return View(size=32, window=self.config.window)

    def build(self) -> None:
        import torch
        from torch import nn

        norm = nn.BatchNorm2d(8) if self.norm else nn.Identity()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 1), norm, nn.ReLU(), nn.Conv2d(8, 1, 1))
        torch.nn.init.constant_(self.net[3].bias, -0.5)

    def mean(self, images: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape).copy())[:, None]

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        import torch

        stack, rng = healthy.array(self.view), ctx.rng("order")
        optimiser = torch.optim.Adam(self.net.parameters(), 3e-2)
        self.net.train()
        for i in range(ctx.updates(self.config.updates)):
            images, rois = stack.take(rng.integers(0, len(stack), 8))
            error = (self.net(self.mean(images))[:, 0] - torch.from_numpy(images)) ** 2
            loss = error[torch.from_numpy(rois)].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            ctx.log(i, loss=float(loss.detach()))

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        import torch

        self.net.eval()
        with torch.no_grad():
            starts = range(0, len(array), self.config.batch)
            parts = [self.net(self.mean(array[i : i + self.config.batch]))[:, 0] for i in starts]
        return gaussian_filter(np.abs(torch.cat(parts).numpy() - array), (0, 1, 1))


def _outcome(results: list[CheckResult]) -> dict[str, str]:
    return {r.name: "skipped" if r.skipped else "passed" if r.passed else r.detail for r in results}


def _variant(base: type[Method], **members: Any) -> type[Method]:
    return type("Variant", (base,), {"__module__": __name__, **members})


def _failures(base: type[Method], *only: str, **members: Any) -> dict[str, str]:
    cls = _variant(base, **members) if members else base
    return {r.name: r.detail for r in run_checks(cls, only=only or NAMES) if r.failed}


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(learning, "_affordable", lambda subject, config: 150)


@pytest.fixture(scope="session")
def median_residual() -> type[Method]:
    return MedianResidual


@pytest.fixture(scope="session")
def tiny_net() -> type[Method]:
    return TinyNet


@pytest.fixture(scope="session")
def outcome() -> Callable[..., dict[str, str]]:
    """Return ``outcome(results)``: by check ``passed``, ``skipped`` or what is wrong."""
    return _outcome


@pytest.fixture(scope="session")
def variant() -> Callable[..., type[Method]]:
    """Return ``variant(base, **members)``: a class with other members."""
    return _variant


@pytest.fixture(scope="session")
def failures() -> Callable[..., dict[str, str]]:
    """Return ``failures(cls, *only, **members)``: what is wrong with a class, or a variant of it, by check."""
    return _failures


@pytest.fixture(scope="session")
def wrong() -> Callable[..., str]:
    """Return ``wrong(check, cls, **members)``: what one check finds wrong with a variant of a class."""
    return lambda check, base, **members: _failures(base, check, **members)[check]
