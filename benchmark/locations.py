"""Where things lie outside a run folder: the cache of prepared data and the data root."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import DataError

if TYPE_CHECKING:
    from ..datasets.dataset import DatasetCard


def cache_root(chosen: Path | None = None) -> Path:
    """Return the cache folder: the choice, else ``UASBENCH_CACHE``, else ``~/.cache/uasbench``."""
    if chosen is not None:
        return chosen.absolute()
    named = os.environ.get("UASBENCH_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "uasbench"


def data_root(chosen: Path | None, cards: Iterable[DatasetCard]) -> Path:
    """Return the data root: the choice, else ``UASBENCH_DATA``.

    Raises:
        DataError: none was given or it is not a folder; the message says where to get the data, the layout expected and
            how to run without data.
    """
    named = os.environ.get("UASBENCH_DATA")
    root = chosen or (Path(named) if named else None)
    if root is not None and root.is_dir():
        return root
    problem = (
        f"the data root {root} is not a folder" if root else "no data root: give --data-root DIR or set UASBENCH_DATA"
    )
    lines = [problem + "."]
    for card in cards:
        lines += [f"  {card.name}: {card.title}", f"    get it: {card.obtain}", f"    layout: {card.layout}"]
    lines.append("  Without data: add --phantom to run on synthetic CT written in the same layouts.")
    raise DataError("\n".join(lines))
