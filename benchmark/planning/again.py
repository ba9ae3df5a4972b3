"""The options by which the data of a cell are prepared again: those of its run, here or on another machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...common.errors import brief
from ..runs.records import Record
from .options import OptionError, RunOptions

Key = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""Test set, train set, the cases that they were restricted to, and what was left out of them."""


@dataclass(frozen=True)
class Source:
    """Where to look for scans and prepared data, where that is not where the run says."""

    data_root: Path | None = None
    cache: Path | None = None


def key_of(record: Record) -> Key:
    """Return what the data of a cell are prepared by."""
    return record.cell.dataset, record.cell.train, tuple(record.data.only), tuple(record.data.excluded)


def options_again(info: Mapping[str, Any], key: Key, source: Source) -> RunOptions:
    """Return the options of a run, ``run.json``, for one of its tasks.

    Raises:
        OptionError: ``run.json`` holds none that can be used.
    """
    held = dict(info.get("options") or {})
    root, cache = held.get("data_root") or info.get("source"), held.get("cache")
    wanted = {
        "datasets": [key[0]],
        "train": key[1],
        "only": list(key[2]),
        "exclude": list(key[3]),
        "data_root": source.data_root or (Path(root) if root and not held.get("phantom") else None),
        "cache": source.cache or (Path(cache) if cache and Path(cache).is_dir() else None),
        "out": None,
    }
    try:
        return RunOptions.model_validate({**held, **wanted})
    except ValidationError as error:
        raise OptionError(f"run.json: its options cannot be used ({brief(error)})") from error
