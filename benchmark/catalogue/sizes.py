"""How many parameters the networks of a method have."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ...common.errors import summary
from ...common.foreign import contained
from ...common.package import import_target
from ...common.rehearsal import rehearse_class
from ...methods.config import resolve
from .outline import CONSTRUCTION_S, missing_packages, texts

if TYPE_CHECKING:
    from ...methods.method import Method

COUNTED = ("paper", "standard", "quick")


def parameters(cls: type[Method], profile: str) -> str:
    """Return the number of parameters of a profile's networks, or why they cannot be made here."""
    if cls.card.trivial:
        return "none"
    try:
        with contained():
            rehearse_class(cls, CONSTRUCTION_S, ask, profile)
            return size(cls, profile) or "none before training"
    except Exception as error:
        return f"unknown ({missing_packages(texts(cls.requires)) or summary(error)})"


def ask(target: str, profile: str) -> None:
    """Have a class make the networks of a profile."""
    size(import_target(target), profile)


def size(cls: type[Method], profile: str = "paper") -> str:
    """Return the number of parameters of a profile's networks, empty where training creates them.

    Pretrained backbones are made with random weights, so that none need be at hand.
    """
    pretrained = any(field.name == "weights" for field in fields(cls.Config))
    config = resolve(cls.Config, profile, settings={"weights": "random"} if pretrained else None)
    count, members = count_parameters(cls, config), cls(config).members
    return (f"{count:,}" + (f" × {members}" if members else "")) if count else ""


def count_parameters(cls: type[Method], config: Any) -> int:
    """Return the number of parameters of the networks of a method, 0 where training creates them.

    Networks are made without memory for their weights where they can be; those that read values while they are made
    get it.
    """
    import torch

    from ...methods.state import parameter_count

    def count(device: str) -> int:
        method = cls(config)
        with torch.device(device):
            method.build()
        return parameter_count(method)

    try:
        return count("meta")
    # Torch's answers to reading a value that a meta tensor has not; a fault of the method comes again with memory.
    except (NotImplementedError, RuntimeError):
        return count("cpu")
