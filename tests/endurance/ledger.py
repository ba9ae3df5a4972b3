"""Counts of endurance trials in one JSON-lines file; run as a script it prints them as the tables of a page.

A line is what one trial found: part, version of the package, seed, counts, and the fault if there was one. Lines are
only appended, so that parts may run side by side, on several days and after being stopped; one that a kill cut off
does not count.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from uasbench.benchmark.environment import source_digest

FOLDER = "UASBENCH_ENDURANCE"


def default_folder() -> Path:
    """Return the folder of the file: ``UASBENCH_ENDURANCE``, else ``endurance`` in the cache."""
    if named := os.environ.get(FOLDER):
        return Path(named).absolute()
    return Path(os.environ.get("UASBENCH_CACHE") or Path.home() / ".cache" / "uasbench").absolute() / "endurance"


class Ledger:
    """The counts of one version of the package."""

    def __init__(self, folder: Path, tree: str) -> None:
        self.path = folder / "counts.jsonl"
        self.tree = tree

    def add(self, part: str, seed: int, counts: Counter[str], fault: str | None = None) -> None:
        """Append what a trial found."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"part": part, "tree": self.tree, "seed": seed, "counts": counts, "fault": fault}
        with self.path.open("ab") as file:
            file.write(f"\n{json.dumps(line)}\n".encode())  # the line before may have been cut off by a kill

    def lines(self, part: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the trials of this version, of one part or of all."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for written in text.splitlines():
            with suppress(json.JSONDecodeError):
                line = json.loads(written)
                if line["tree"] == self.tree and part in (None, line["part"]):
                    yield line

    def next_seed(self, part: str) -> int:
        """Return the seed at which a part goes on."""
        return 1 + max((line["seed"] for line in self.lines(part)), default=-1)

    def counts(self, part: str) -> Counter[str]:
        """Return the sums over a part's trials."""
        total = Counter[str](trials=0)
        for line in self.lines(part):
            total.update(line["counts"])
            total["trials"] += 1
        return total

    def faults(self, part: str) -> dict[int, str]:
        """Return what was wrong, by seed."""
        return {line["seed"]: line["fault"] for line in self.lines(part) if line["fault"]}

    def markdown(self) -> str:
        """Return the counts of every part; those named ``row: column`` are laid out so."""
        parts = [f"Version `{self.tree}` of the package."]
        for part in sorted({line["part"] for line in self.lines()}):
            counts = self.counts(part)
            trials = counts.pop("trials")
            parts += [f"### {part}", f"{trials:,} trials, {len(self.faults(part)):,} of them with a fault."]
            plain = sorted(name for name in counts if ": " not in name)
            rows = sorted({name.partition(": ")[0] for name in counts if ": " in name})
            columns = sorted({name.partition(": ")[2] for name in counts if ": " in name})
            if plain:
                parts.append(_table(["counted", ""], [[name, f"{counts[name]:,}"] for name in plain]))
            if rows:
                cells = [[row, *(f"{counts[f'{row}: {column}']:,}" for column in columns)] for row in rows]
                parts.append(_table(["", *columns], cells))
        return "\n\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    print(Ledger(default_folder(), source_digest()).markdown())
