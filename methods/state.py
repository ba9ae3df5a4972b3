"""The default ``save`` and ``load`` of a method: its attributes, with networks as state dicts, no pickled code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .method import Method

_ENGINE = ("config", "device")


def save_state(method: Method, path: Path) -> None:
    """Write every attribute that fit has set.

    Raises:
        TypeError: an attribute is neither a network, a tensor, an array, a number, a text nor a container of these.
        OSError: the file cannot be written.
    """
    import torch

    state = packed(method)
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which torch hides behind an error of its own
                raise error.__context__ from None
            raise


def load_state(method: Method, path: Path) -> None:
    """Build the networks, then fill in what :func:`save_state` wrote."""
    import torch

    method.build()
    fill(method, torch.load(path, map_location=method.device, weights_only=True))
    to_device(method, method.device)


def packed(method: Method) -> dict[str, tuple[str, Any]]:
    """Return every attribute that fit has set, as tensors, numbers, texts and containers of these.

    Raises:
        TypeError: an attribute is none of what :func:`save_state` can write.
    """
    return {k: _pack(v, f"{type(method).__name__}.{k}") for k, v in vars(method).items() if k not in _ENGINE}


def fill(method: Method, state: dict[str, tuple[str, Any]]) -> None:
    """Give a method, whose networks are built, the attributes that :func:`packed` returned.

    Raises:
        TypeError: a network is not there.
    """
    import torch

    for name, (kind, value) in state.items():
        if kind == "module":
            module = getattr(method, name, None)
            if not isinstance(module, torch.nn.Module):
                raise TypeError(
                    f"{type(method).__name__}.{name} is a network that build() does not create; "
                    "create networks in build() so that a saved state can be loaded"
                )
            module.load_state_dict(value)
        else:
            setattr(method, name, _unpack((kind, value)))


def modules(method: Method) -> dict[str, Any]:
    """Return the networks of a method by attribute name."""
    import torch

    return {k: v for k, v in vars(method).items() if isinstance(v, torch.nn.Module)}


def to_device(method: Method, device: str) -> None:
    """Move the networks of a method and remember the device."""
    method.device = device
    for module in modules(method).values():
        module.to(device)


def parameter_count(method: Method) -> int:
    """Return the number of trainable and frozen parameters."""
    return sum(p.numel() for m in modules(method).values() for p in m.parameters())


def _pack(value: Any, where: str) -> tuple[str, Any]:
    import torch

    if isinstance(value, torch.nn.Module):
        return "module", {k: v.detach().cpu().clone() for k, v in value.state_dict().items()}
    if isinstance(value, torch.Tensor):
        return "tensor", value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return "array", torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return "plain", value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return "plain", value
    if isinstance(value, list | tuple):
        return type(value).__name__, [_pack(v, where) for v in value]
    if isinstance(value, dict):
        return "dict", {k: _pack(v, f"{where}[{k!r}]") for k, v in value.items()}
    raise TypeError(f"{where} is a {type(value).__name__} that cannot be saved; override save() and load()")


def _unpack(packed: tuple[str, Any]) -> Any:
    kind, value = packed
    if kind == "array":
        return value.cpu().numpy()
    if kind == "list":
        return [_unpack(v) for v in value]
    if kind == "tuple":
        return tuple(_unpack(v) for v in value)
    if kind == "dict":
        return {k: _unpack(v) for k, v in value.items()}
    return value
