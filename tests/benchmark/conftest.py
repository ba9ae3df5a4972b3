"""Plug-in packages as pip leaves them, and a cache of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.planning.options import RunOptions, validated

Install = Callable[..., Path]


@pytest.fixture
def smoke(root: Path, cache: Path, tmp_path: Path) -> Callable[..., RunOptions]:
    """Return ``smoke(methods, **options)``: a run of one seed on the smallest liver phantom, not started."""

    def options(methods: str, **others: Any) -> RunOptions:
        settings = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "out": tmp_path / "run"}
        return validated(methods=methods, datasets=["lits"], **{**settings, **others})

    return options


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return ``install(distribution, files, methods={name: target})``: modules and metadata on ``sys.path``."""
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    before = set(sys.modules)

    def make(distribution: str, files: dict[str, str], **groups: dict[str, str]) -> Path:
        site = tmp_path / "site" / distribution
        for name, text in files.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = []
        for group, points in groups.items():
            lines += [f"[uasbench.{group}]", *(f"{n} = {t}" for n, t in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(site))
        registry.refresh()
        return site

    registry.refresh()
    yield make
    registry.refresh()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
