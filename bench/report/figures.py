"""Latencies by size, and what a reader wants of them: percentiles and the share below a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Histogram:
    """(upper bound in ns, count), ascending; bounds are within 1/64 of the values."""

    buckets: list[tuple[int, int]]

    @property
    def count(self) -> int:
        return sum(count for _bound, count in self.buckets)

    def percentile(self, percent: float) -> float:
        """Seconds; nan without a value."""
        left = self.count * percent / 100
        for bound, count in self.buckets:
            left -= count
            if left <= 0:
                return bound / 1e9
        return self.buckets[-1][0] / 1e9 if self.buckets else float("nan")

    def above(self, limit_s: float) -> int:
        """Values whose bucket lies above a limit."""
        return sum(count for bound, count in self.buckets if bound > limit_s * 1e9)

    def record(self) -> dict[str, Any]:
        """Milliseconds, for a record; empty without a value."""
        if not self.buckets:
            return {}
        named = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
        return {name: round(1000 * self.percentile(percent), 4) for name, percent in named.items()}


def milliseconds(seconds: float) -> str:
    """Three significant digits at most."""
    value = 1000 * seconds
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms" if value < 1000 else f"{seconds:.2f} s"
