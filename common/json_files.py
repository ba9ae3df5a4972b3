"""JSON that others may have written or damaged: whatever is wrong with it is a ``ValueError``."""

import json
from pathlib import Path
from typing import Any


def parsed(text: str | bytes) -> Any:
    """Return what a text holds.

    Raises:
        ValueError: it is no JSON, or nested so deeply that Python gives up.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:
    """Return what a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON in UTF-8, or nested so deeply that Python gives up.
    """
    return parsed(path.read_bytes())
