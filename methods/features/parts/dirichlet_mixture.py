"""A truncated Dirichlet-process mixture of Gaussians that is fitted by EM on mini-batches, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

CHUNK_BYTES = 2**27
DEAD = 1e-8
"""Share of the patches below which a component takes no part any more."""
TINY = torch.finfo(torch.float32).tiny


class DirichletMixture(nn.Module):
    """Gaussians whose weights break a stick: π_k = v_k ∏_{j<k} (1 − v_j), v_k ~ Beta(1, α), the last v is 1.

    Schulthess & Konukoglu 2025: the statistics Σ r, Σ r x, Σ r x xᵀ per patch are exponential averages over the
    mini-batches, from which means, covariances, sticks and α follow in closed form. All that changes is in buffers, α
    included, so that a state holds the whole fit.

    Args:
        components: the truncation, K.
        width: of the vectors.
        covariance: ``full`` matrices, or their ``diagonal`` alone.
        epsilon: added to the diagonal of every covariance.
        step: weight of a new mini-batch in the averages.
        alpha: concentration before any vector is seen.

    Attributes:
        share: float32 (K,), average responsibility of a component.
        first: float32 (K, width), average of responsibility times vector.
        second: float32 (K, width, width), of responsibility times outer product; (K, width) where diagonal.
        sticks: float32 (K,), the v.
        alpha: float64 (), the concentration.
    """

    learns = True
    share: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    sticks: torch.Tensor
    alpha: torch.Tensor

    def __init__(
        self,
        components: int,
        width: int,
        *,
        covariance: Literal["full", "diagonal"] = "full",
        epsilon: float = 1e-3,
        step: float = 0.2,
        alpha: float = 2.0,
    ) -> None:
        super().__init__()
        self.covariance, self.epsilon, self.step = covariance, epsilon, step
        shape = (components, width, width) if covariance == "full" else (components, width)
        self.register_buffer("share", torch.zeros(components))
        self.register_buffer("first", torch.zeros(components, width))
        self.register_buffer("second", torch.zeros(shape))
        self.register_buffer("sticks", torch.zeros(components))
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float64))

    def begin(self, vectors: torch.Tensor, generator: torch.Generator) -> None:
        """Set means to vectors drawn from all of them, covariances to their variances, sticks to a draw of the prior.

        Where there are fewer vectors than components, the rest of these takes no part.

        Args:
            vectors: (n, width).
            generator: on the CPU.
        """
        count = len(self.share)
        drawn = torch.randperm(len(vectors), generator=generator)[:count]
        # Beta(1, α) by inversion: 1 − u^(1/α).
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        sticks = 1 - uniform ** (1 / float(self.alpha))
        sticks[-1] = 1
        self.sticks.copy_(sticks)
        # Every drawn component begins with the same share: by the sticks alone most would count as empty at once.
        drawn_share = 1 / len(drawn)
        means = vectors[drawn.to(vectors.device)]
        variance = vectors.var(dim=0, correction=0)
        for average in (self.share, self.first, self.second):
            average.zero_()
        self.share[: len(drawn)] = drawn_share
        self.first[: len(drawn)] = means * drawn_share
        for part in self._chunks(len(drawn), self.first.shape[1]):
            mean = means[part]
            if self.covariance == "full":
                self.second[part] = (mean[:, :, None] * mean[:, None] + torch.diag(variance)) * drawn_share
            else:
                self.second[part] = (mean.square() + variance) * drawn_share

    @property
    def alive(self) -> torch.Tensor:
        """Which components take part, bool (K,)."""
        return self.share > DEAD

    @property
    def means(self) -> torch.Tensor:
        """Return float32 (K, width); of a component that takes no part it has no meaning, and is 0."""
        return torch.where(self.alive[:, None], self.first / self.share.clamp(min=TINY)[:, None], 0.0)

    def log_weights(self) -> torch.Tensor:
        """Return log π, float32 (K,)."""
        sticks = self.sticks.double()
        left = torch.log1p(-sticks[:-1].clamp(max=1 - 1e-15)).cumsum(0)
        return (sticks.clamp(min=1e-300).log() + torch.cat([left.new_zeros(1), left])).float()

    def log_densities(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return log π_k + log N(x; μ_k, Σ_k), float32 (n, K); −inf for components that take no part."""
        width = vectors.shape[1]
        out = vectors.new_empty(len(vectors), len(self.share))
        means = self.means
        for part in self._chunks(len(self.share), max(len(vectors), width)):
            spread, mean = self._covariances(part, means[part]), means[part]
            if self.covariance == "full":
                factor = torch.linalg.cholesky_ex(spread)[0]
                eye = torch.eye(width, dtype=factor.dtype, device=factor.device)
                white = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False).float()
                log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1).float()
                away = torch.baddbmm(-(white @ mean[:, :, None]).mT, vectors.expand(len(mean), -1, -1), white.mT)
                square = away.square().sum(dim=2).T
            else:
                log_det = spread.log().sum(dim=1)
                # x² − 2 x μ + μ² by products of matrices: no table of n × K × width.
                inverse = 1 / spread
                square = vectors.square() @ inverse.T - 2 * vectors @ (mean * inverse).T
                square = (square + (mean.square() * inverse).sum(dim=1)).clamp(min=0)
            out[:, part] = -0.5 * (square + log_det + width * math.log(2 * math.pi))
        return torch.where(self.alive, out + self.log_weights(), -torch.inf)

    def learn(self, vectors: torch.Tensor) -> torch.Tensor:
        """Do one E and one M step with a mini-batch (n, width); return the mean of −log p before it."""
        joint = self.log_densities(vectors)
        total = joint.logsumexp(dim=1)
        self._average((joint - total[:, None]).exp(), vectors)
        self._break_stick(len(vectors))
        return -total.mean()

    def _average(self, responsibility: torch.Tensor, vectors: torch.Tensor) -> None:
        """Move the statistics towards those of a batch, component by component: never a table of n × width²."""
        count, width = vectors.shape
        self.share.lerp_(responsibility.mean(dim=0), self.step)
        self.first.lerp_(responsibility.T @ vectors / count, self.step)
        if self.covariance == "diagonal":
            self.second.lerp_(responsibility.T @ vectors.square() / count, self.step)
            return
        for part in self._chunks(len(self.share), max(count, width)):
            weighted = responsibility.T[part, :, None] * vectors
            self.second[part] = self.second[part].lerp(weighted.mT @ vectors / count, self.step)

    def _break_stick(self, count: int) -> None:
        """Set α and the sticks to their closed forms, given the shares and how many vectors a batch has."""
        share = self.share.double()
        rest = share.flip(0).cumsum(0).flip(0) - share
        alpha = self.alpha
        below = share + rest + (alpha - 1) / count
        # With α < 1 the mode of a stick lies at 1 once little is left behind it.
        sticks = share / torch.maximum(below, share).clamp(min=1e-300)
        sticks[-1] = 1
        own, behind = count * share[:-1], count * rest[:-1]
        log_left = torch.digamma(behind + alpha) - torch.digamma(own + behind + alpha + 1)
        self.sticks.copy_(sticks)
        if len(share) > 1:
            self.alpha.copy_((len(share) - 1) / -log_left.sum())

    def _covariances(self, part: slice, means: torch.Tensor) -> torch.Tensor:
        """Return Σ of components: (k, width, width) in double precision, or float32 (k, width); ε of empty ones."""
        share, alive = self.share[part].clamp(min=TINY), self.alive[part]
        if self.covariance == "diagonal":
            spread = (self.second[part] / share[:, None] - means.square()).clamp(min=0)
            return torch.where(alive[:, None], spread, 0.0) + self.epsilon
        mean = means.double()
        spread = self.second[part].double() / share[:, None, None].double() - mean[:, :, None] * mean[:, None]
        eye = torch.eye(means.shape[1], dtype=spread.dtype, device=spread.device)
        return torch.where(alive[:, None, None], spread, 0.0) + self.epsilon * eye

    def _chunks(self, components: int, rows: int) -> Iterator[slice]:
        """Return slices of components whose tables (components, rows, width) stay small."""
        at_once = max(1, CHUNK_BYTES // (8 * rows * self.first.shape[1]))
        yield from (slice(i, min(i + at_once, components)) for i in range(0, components, at_once))
