"""The tables of a run that do not depend on where, how fast and after how many interruptions it was computed."""

from pathlib import Path


def csv_tables(run: Path) -> dict[str, bytes]:
    """The CSV tables of a run by name, without that of its costs."""
    return {path.name: path.read_bytes() for path in (run / "tables").glob("*.csv") if path.name != "cost.csv"}
