"""StableAdamW: AdamW whose step is shortened where the present gradient is large beside its running mean square."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch.optim import Optimizer


class StableAdamW(Optimizer):
    """AdamW with update clipping (Wortsman et al. 2023, arXiv 2304.13013), AMSGrad on request.

    Per tensor, the step is divided by max(1, RMS(g / d) / ``clip``), where g is the gradient and d the denominator of
    AdamW. Nothing is read from the device.

    Args:
        weight_decay: decoupled, as in AdamW.
        clip: greatest RMS of g / d that leaves the step as it is.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        clip: float = 1.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**defaults, "clip": clip})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Do one update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        first, second = group["betas"]
        if not state:
            names = ("mean", "square", "largest") if group["amsgrad"] else ("mean", "square")
            state.update({"step": 0} | {name: torch.zeros_like(parameter) for name in names})
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        square = state["square"]
        if group["amsgrad"]:
            square = torch.maximum(state["largest"], square, out=state["largest"])
        denominator = (square / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        shortened = ((gradient / denominator).square().mean().sqrt() / group["clip"]).clamp(min=1)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        step = state["mean"] / (denominator * shortened)
        parameter.add_(step, alpha=-group["lr"] / (1 - first ** state["step"]))
