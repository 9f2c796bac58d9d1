"""What a benchmark found: rows with a target, and the Markdown table that they make."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Target:
    """The number that a ratio must hold: `sense` is ">=" or "<="."""

    sense: str
    number: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether a measured value meets the target."""
        return value >= self.number if self.sense == ">=" else value <= self.number

    def __str__(self) -> str:
        return f"{'≥' if self.sense == '>=' else '≤'} {self.number:g}{self.unit}"


def at_least(number: float) -> Target:
    """A target from below."""
    return Target(">=", number)


def at_most(number: float, unit: str = "") -> Target:
    """A target from above."""
    return Target("<=", number, unit)


@dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `theirs` say the medians with their units; without a target a row only informs."""

    number: str
    what: str
    value: float
    target: Target | None
    ours: str
    theirs: str
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """pass, FAIL, or nothing for a row that only informs."""
        if self.target is None:
            return ""
        return "pass" if self.target.holds(self.value) else "FAIL"


@dataclass(frozen=True)
class Skipped:
    """A comparison that could not be made here, and why."""

    number: str
    what: str
    reason: str


def seconds(samples: Sequence[float]) -> str:
    """The median of some times, for people."""
    median = statistics.median(samples)
    if median < 0.001:
        return f"{median * 1e6:.1f} µs"
    return f"{median * 1000:.0f} ms" if median < 1 else f"{median:.2f} s"


def speed(size: int, samples: Sequence[float]) -> str:
    """The median rate at which `size` bytes went."""
    rate = size / statistics.median(samples)
    return f"{rate / 1e9:.2f} GB/s" if rate >= 1e9 else f"{rate / 1e6:.0f} MB/s"


def files_a_second(files: int, samples: Sequence[float]) -> str:
    """The median rate at which files went."""
    return f"{files / statistics.median(samples):,.0f} files/s"


def table(rows: Sequence[Row | Skipped], conditions: Sequence[str]) -> str:
    """The Markdown table, under the conditions that it was measured in."""
    lines = ["| # | what / beside what | target | measured | ours | theirs | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if isinstance(row, Skipped):
            lines.append(f"| {row.number} | {row.what} | | not measured: {row.reason} | | | |")
        else:
            unit = row.target.unit if row.target else ""
            measured = f"{row.value:.0f}{unit}" if row.value >= 100 else f"{row.value:.3g}{unit}"
            target = row.target or ""
            lines.append(
                f"| {row.number} | {row.what} | {target} | {measured} | {row.ours} | {row.theirs} | {row.verdict} |"
            )
    return "\n".join([*(f"- {condition}" for condition in conditions), "", *lines])


def as_json(rows: Sequence[Row | Skipped], conditions: Sequence[str]) -> str:
    """The same for programs, with every sample (seconds)."""
    found = [
        {**asdict(row), "verdict": row.verdict} if isinstance(row, Row) else {**asdict(row), "verdict": "skipped"}
        for row in rows
    ]
    return json.dumps({"conditions": list(conditions), "rows": found}, indent=2, ensure_ascii=False)
