"""Benchmark of unsupervised anomaly segmentation in medical CT: the public API for plug-in authors and notebooks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import export, import_maps, open_run, preview, report, rescore, run, tune, verify, viewer
    from .api_run import Run
    from .benchmark.commands.arrays import RunCase
    from .datasets.anatomy import Anatomy
    from .datasets.case import Case, Truth
    from .datasets.dataset import CaseRef, Dataset, DatasetCard
    from .datasets.healthy import HealthySet
    from .datasets.labelled import LabelledSet
    from .datasets.views.slice_view import View
    from .datasets.views.volume_view import VolumeView
    from .methods.card import MethodCard
    from .methods.config import Config
    from .methods.context import FitContext
    from .methods.method import Method, SupervisedMethod
    from .methods.pretraining import Pretraining

_WHERE = {
    "Anatomy": "datasets.anatomy",
    "Case": "datasets.case",
    "CaseRef": "datasets.dataset",
    "Config": "methods.config",
    "Dataset": "datasets.dataset",
    "DatasetCard": "datasets.dataset",
    "FitContext": "methods.context",
    "HealthySet": "datasets.healthy",
    "LabelledSet": "datasets.labelled",
    "Method": "methods.method",
    "MethodCard": "methods.card",
    "Pretraining": "methods.pretraining",
    "SupervisedMethod": "methods.method",
    "Truth": "datasets.case",
    "View": "datasets.views.slice_view",
    "VolumeView": "datasets.views.volume_view",
    "Run": "api_run",
    "RunCase": "benchmark.commands.arrays",
    **dict.fromkeys(
        ("export", "import_maps", "open_run", "preview", "report", "rescore", "run", "tune", "verify", "viewer"), "api"
    ),
}

__all__ = [
    "Anatomy", "Case", "CaseRef", "Config", "Dataset", "DatasetCard", "FitContext", "HealthySet", "LabelledSet",
    "Method", "MethodCard", "Pretraining", "Run", "RunCase", "SupervisedMethod", "Truth", "View", "VolumeView",
    "export", "import_maps", "open_run", "preview", "report", "rescore", "run", "tune", "verify", "viewer",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'uasbench' has no attribute {name!r}")
    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    if _WHERE[name] == "api":
        value = import_module(".common.wording", __name__).spoken(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
