"""What control tells times by besides time.time(): the boot's clock, and where that stands in the calendar."""

from __future__ import annotations

import time


def wall_clock_at_boot_ns() -> int:
    """What to add to CLOCK_BOOTTIME.  The best of some tries: a machine may stand still between two clocks."""
    tries = []
    for _ in range(5):
        before, boot, after = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        tries.append((after - before, (before + after) // 2 - boot))
    return min(tries)[1]


def boottime_s() -> float:
    """As traps and sightings are stamped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
