"""One fault under load and what became of the requests meanwhile; the rows and the table of many."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.faults.faults import CALM, TURN_S, Fault
from bench.faults.trouble import NotRecovered
from bench.faults.watched import Watched

# A calm run's longest wait is one value of many; nothing is worse than calm before it is twice that, or this.
CALM_TIMES, CALM_FLOOR_S = 2.0, 0.05
HEAD = ("fault", "times", "requests", "lost", "wrong", "twice", "unheard", "longest wait", "limit", "stalled", "result")


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault that was tried; the times are of CLOCK_MONOTONIC, failure is what the service did not do."""

    fault: Fault
    from_ns: int
    to_ns: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the requests that were sent during a fault's trials.  unheard: sent while nobody held the socket;
    wait_s is the longest, or how long nobody held it; limit_s: 0 for none.  stalled_s: the longest that the generator
    itself was late by: others had the cores, and a wait may be so much longer."""

    fault: str
    times: int
    requests: int
    lost: int
    wrong: int
    twice: int
    unheard: int
    wait_s: float
    limit_s: float
    stalled_s: float
    failure: str = ""

    @property
    def faults(self) -> list[str]:
        """All that is not as it should be, in words."""
        said = [self.failure] if self.failure else []
        for name in ("lost", "wrong", "twice"):
            if count := getattr(self, name):
                said.append(f"{count} {name}")
        if self.limit_s and self.wait_s > self.limit_s + self.stalled_s:
            said.append(f"waited {self.wait_s:.3f} s, limit {self.limit_s:.3f} s")
        if not self.requests:
            said.append("nothing was asked meanwhile")
        return said

    @property
    def good(self) -> bool:
        return not self.faults

    def cells(self) -> tuple[str, ...]:
        counts = (self.times, self.requests, self.lost, self.wrong, self.twice, self.unheard)
        limit = f"{self.limit_s:.3f} s" if self.limit_s else "-"
        times = f"{self.wait_s:.3f} s", limit, f"{self.stalled_s:.3f} s"
        return self.fault, *(f"{n:,}" for n in counts), *times, "; ".join(self.faults) or "good"

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"good": self.good}


def attempt(watched: Watched, fault: Fault) -> Trial:
    """Do it, heal it, and watch a moment longer."""
    watched.say(f"begin: {fault.name}")
    from_ns, failure = time.monotonic_ns(), ""
    try:
        fault.run(watched)
    except NotRecovered as late:
        first = late.__context__  # what healing then met follows from it
        failure = f"{first}; and then {late}" if isinstance(first, NotRecovered) else str(late)
    except (OSError, RuntimeError) as error:
        failure = f"{type(error).__name__}: {error}"
    time.sleep(TURN_S)  # requests of now may be answered late for what happened before
    watched.say(f"end: {fault.name}{f': {failure}' if failure else ''}")
    return Trial(fault, from_ns, time.monotonic_ns(), failure)


def calm(watched: Watched, seconds: float) -> Trial:
    """Nothing happens for so long."""
    from_ns = time.monotonic_ns()
    time.sleep(seconds)
    return Trial(Fault("calm", lambda _watched: None), from_ns, time.monotonic_ns())


def calm_limit_s(row: Row) -> float:
    return max(CALM_TIMES * row.wait_s, CALM_FLOOR_S)


def row_of(watched: Watched, trials: Sequence[Trial], calm_s: float) -> Row:
    """The account of trials of one fault; all their requests are settled.  calm_s: the limit of CALM; 0: none."""
    fault = trials[0].fault
    sums = [watched.ledger.between(trial.from_ns, trial.to_ns) for trial in trials]
    total = {name: sum(each[name] for each in sums) for name in ("sent", "lost", "wrong", "twice", "unheard")}
    waits = [each["wait_ns"] for each in sums] + [
        to_ns - from_ns
        for from_ns, to_ns in watched.ledger.spells()
        if any(trial.from_ns <= to_ns and from_ns <= trial.to_ns for trial in trials)
    ]
    return Row(
        fault.name,
        len(trials),
        total["sent"],
        total["lost"],
        total["wrong"],
        total["twice"],
        total["unheard"],
        max(waits) / 1e9,
        calm_s if fault.limit_s == CALM else fault.limit_s,
        max(each["late_ns"] for each in sums) / 1e9,
        next((trial.failure for trial in trials if trial.failure), ""),
    )


def render(rows: Iterable[Row]) -> list[str]:
    """Lines of the table; the last column as long as it is."""
    table = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(HEAD) - 1)]
    lines = []
    for name, *cells, result in table:
        counts = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *counts, result]))
    return lines
