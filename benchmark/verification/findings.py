"""What a verification found, in parts; each says what it looked at, what differs and what it could not look at."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["verified", "differs", "not verified"]


@dataclass(frozen=True)
class Difference:
    """Where something is not as recorded: a file, a case, a number or a cell of a table."""

    where: str
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}" if not self.recorded else f"{self.where}: {self.recorded} → {self.found}"


@dataclass
class Part:
    """One kind of check.

    Attributes:
        counts: what was looked at, by kind.
        remarks: what a reader should know and what is no fault.
        unverified: what should have been looked at and could not be, with the reason.
    """

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        return "differs" if self.differences else "not verified" if self.unverified else "verified"

    def differs(self, where: str, recorded: object, found: object) -> None:
        """Note a difference; a file that is not what was written has nothing ``recorded`` but its name."""
        self.differences.append(Difference(where, str(recorded), str(found)))

    def count(self, kind: str, number: int = 1) -> None:
        """Add to what was looked at."""
        self.counts[kind] = self.counts.get(kind, 0) + number

    @contextmanager
    def timed(self) -> Iterator["Part"]:
        """Add the seconds of the block to those of the part."""
        start = time.perf_counter()
        try:
            yield self
        finally:
            self.seconds += time.perf_counter() - start

    @property
    def line(self) -> str:
        """What was looked at, and the outcome, in a line."""
        seen = ", ".join(f"{number:,} {kind}" for kind, number in self.counts.items()) or "nothing"
        parts = [f"{len(self.differences):,} differ"] * bool(self.differences)
        parts += [f"{len(self.unverified):,} not verified"] * bool(self.unverified)
        return f"{self.name:12s} {seen}: {', '.join(parts) or self.outcome} ({self.seconds:.1f} s)"

    def json(self) -> dict[str, Any]:
        return {"outcome": self.outcome, **asdict(self), "seconds": round(self.seconds, 3)}


@dataclass
class Verification:
    """All parts; ``subject`` names the run, or the two that were compared."""

    subject: str
    parts: list[Part] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        found = {part.outcome for part in self.parts}
        return "differs" if "differs" in found else "not verified" if "not verified" in found else "verified"

    def json(self) -> dict[str, Any]:
        return {"subject": self.subject, "outcome": self.outcome, "parts": [part.json() for part in self.parts]}

    def lines(self, most: int) -> Iterator[str]:
        """Yield the text for a terminal: a line per part, then at most ``most`` differences and what else to know."""
        yield from (part.line for part in self.parts)
        for part in self.parts:
            yield from (f"note ({part.name}): {remark}" for remark in part.remarks)
        for title, kept in (
            ("differs", [(part, str(one)) for part in self.parts for one in part.differences]),
            ("not verified", [(part, text) for part in self.parts for text in part.unverified]),
        ):
            yield from (f"{title} ({part.name}): {text}" for part, text in kept[:most])
            if len(kept) > most:
                yield f"{title}: {len(kept) - most:,} more; --json lists all"
        yield f"{self.subject}: {self.outcome}"
