"""A run whose report has a viewer and figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uasbench import api


@pytest.fixture(scope="session")
def viewed(quick_run: Callable[..., Any], root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    few = {"data_root": root, "cache": cache, "profile": "smoke", "trials": 2, "workers": 1}
    out = tmp_path_factory.mktemp("viewed") / "run"
    made = quick_run("hu-deviation,hu-opened,local-residual,ae", "lits", seeds=[0], out=out, **few)
    assert api.viewer(made.path, cache=cache) == []
    api.report(made.path)  # the figures, which a quick run leaves out
    return made
