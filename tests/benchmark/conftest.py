"""Plug-in packages as pip leaves them, and a cache of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.planning.options import RunOptions, validated

Install = Callable[..., Path]


@pytest.fixture
def smoke(root: Path, cache: Path, tmp_path: Path) -> Callable[..., RunOptions]:
    """Return ``smoke(methods, **options)``: a run of one seed on the smallest liver phantom, not started."""

    def options(methods: str, **others: Any) -> RunOptions:
        settings = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "out": tmp_path / "run"}
        return validated(methods=methods, datasets=["lits"], **{**settings, **others})

    return options
