"""The package's name and the folder it lies in: the repository's root in a checkout."""

from __future__ import annotations

from pathlib import Path

NAME = __name__.partition(".")[0]
ROOT = Path(__file__).resolve().parents[1]
