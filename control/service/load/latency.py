"""How long requests wait and how long their answers take, lately and in all: from the workers' histograms.

The pages count since the service was started.  So that "lately" is the last minute, what they have counted is kept
every few seconds; what has come since is the difference.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ext.page import LATENCIES, LATENCY_BOUNDS_S, WorkerPage

WINDOW_S = 60.0
STEP_S = 5.0  # a window is longer than WINDOW_S by at most this
Totals = dict[str, dict[str, Any]]  # of each of LATENCIES: {"counts", "sum_s"}


class Latency:
    """clock: seconds, never set back."""

    def __init__(self, pages: Sequence[WorkerPage], clock: Callable[[], float] = time.monotonic) -> None:
        self.pages = pages
        self.clock = clock
        self.kept: deque[tuple[float, Totals]] = deque()
        self.keep()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            self.keep()

    def keep(self) -> None:
        """The first one that stays is the youngest that is as old as the window, once there is one."""
        now_s = self.clock()
        self.kept.append((now_s, add_up(page.latency() for page in self.pages)))
        while len(self.kept) > 1 and self.kept[1][0] <= now_s - WINDOW_S:
            self.kept.popleft()

    def status(self) -> dict[str, Any]:
        """{"window_s", "wait", "answer": as summary() of that window, "totals": of all workers since the service was
        started, "bounds_s": of the totals' counts, which have one more, of what took longer than all of them;
        "workers": [{"slot", "wait", "answer": {"count", "sum_s"}}] since the service was started}."""
        since_s, before = self.kept[0]
        window_s = round(self.clock() - since_s, 1)
        found = {page.slot: page.latency() for page in self.pages}
        totals = add_up(found.values())
        window = {name: summary(since(totals[name]["counts"], before[name]["counts"])) for name in LATENCIES}
        workers = [
            {"slot": slot}
            | {name: {"count": sum(each[name]["counts"]), "sum_s": each[name]["sum_ns"] / 1e9} for name in LATENCIES}
            for slot, each in found.items()
        ]
        bounds_s = list(LATENCY_BOUNDS_S)
        return {"window_s": window_s, **window, "totals": totals, "bounds_s": bounds_s, "workers": workers}


def add_up(pages: Iterable[dict[str, Any]]) -> Totals:
    """pages: as ext.page.WorkerPage.latency()."""
    totals: Totals = {name: {"counts": [0] * (len(LATENCY_BOUNDS_S) + 1), "sum_s": 0.0} for name in LATENCIES}
    for page in pages:
        for name, total in totals.items():
            total["counts"] = [a + b for a, b in zip(total["counts"], page[name]["counts"], strict=True)]
            total["sum_s"] += page[name]["sum_ns"] / 1e9
    return totals


def since(now: Sequence[int], before: Sequence[int]) -> list[int]:
    """A page that begins anew has counted less than before."""
    return [max(0, a - b) for a, b in zip(now, before, strict=True)]


def summary(counts: Sequence[int]) -> dict[str, Any]:
    """{"count", "p50_s", "p99_s", "max_bucket_s"}: half of them, 99 % and all took at most so long, as far as powers
    of two tell; None: longer than the last bound, or there are none."""
    return {
        "count": sum(counts),
        "p50_s": bound_of(counts, 0.50),
        "p99_s": bound_of(counts, 0.99),
        "max_bucket_s": bound_of(counts, 1.0),
    }


def bound_of(counts: Sequence[int], share: float) -> float | None:
    """The least bound that so many of them do not exceed."""
    missing = math.ceil(share * sum(counts))
    bounds_s: tuple[float, ...] = LATENCY_BOUNDS_S
    for bound_s, count in zip(bounds_s, counts, strict=False):
        missing -= count
        if missing <= 0 < sum(counts):
            return bound_s
    return None
