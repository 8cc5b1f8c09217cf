"""One server's turn: its highest rate on its core, what a reply costs it, and who else was on the two cores meanwhile.

`limit`, `peers` and `growth` are series of such turns.  A figure is the best of several short runs, and each run knows
how disturbed it was: on a shared machine the best one says most about the server.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.engine.forms import Form
from bench.engine.target import Population, Target
from bench.report.machine import await_drained, cpu_s, idle_s, pinned
from bench.report.outcome import Result
from bench.report.record import DISTURBED, core_times
from bench.rig import load
from bench.rig.load import Search
from bench.rig.options import tell
from bench.rig.stage import Stage

REPEATS = 2  # of the best rate, when the search is over
TRIES = 3  # before a rate counts as too high
REPEATS_SHARE = 0.2  # of the time, kept for them
# After a burst: a reply that nobody counted would have cost CPU all the same.
BURST_TAIL_S = 10.0
# Requests that find the server busy: as many as it needs BURST_CPU_S for, by the burst before.
BURSTS, BURST_RATE, BURST_CPU_S, BURST_LEAST, BURST_MOST = 4, 1e6, 0.4, 1000, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took: CPU seconds of all the server's processes, and of everybody else on its core.

    stolen_s: by the hypervisor from either core, if it owns up to it; stalled_s: the generator was without its core."""

    wall_s: float
    server_cpu_s: float
    others_s: float
    stolen_s: float
    stalled_s: float

    @property
    def disturbance(self) -> float:
        """Share of the run for which somebody else had what was the server's or the generator's."""
        return max(self.others_s, self.stolen_s, self.stalled_s) / self.wall_s if self.wall_s else 0.0


@dataclass(frozen=True, slots=True)
class Burst:
    """A queue that waits for the server from beginning to end: what a reply costs when it is busy."""

    answered: int
    cost: Cost

    @property
    def cpu_ns(self) -> float | None:
        """None for one that was too short: the clocks of /proc tick every 10 ms."""
        told = self.answered and self.cost.server_cpu_s >= BURST_CPU_S / 4
        return 1e9 * self.cost.server_cpu_s / self.answered if told else None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a server's search tried, in order, and what each run took."""

    name: str
    search: Search
    costs: list[Cost]
    bursts: list[Burst] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    note: str = ""
    wrong: str = ""  # why it has no figure

    @property
    def best(self) -> Result | None:
        return None if self.wrong else self.search.best

    @property
    def cost(self) -> Cost | None:
        """Of the best run."""
        best = self.best
        return (
            None if best is None else next(c for t, c in zip(self.search.trials, self.costs, strict=True) if t is best)
        )

    @property
    def replies_s(self) -> float:
        return self.best.answered_rate if self.best is not None else 0.0

    @property
    def cpu_ns(self) -> float | None:
        """CPU of the server for one reply while a queue waits, the least of the bursts.

        Whoever else had the core does not enter into it, but for the caches that he left cold."""
        known = [burst.cpu_ns for burst in self.bursts if burst.cpu_ns is not None]
        return None if self.wrong else min(known, default=None)

    @property
    def cpu_noise(self) -> float:
        """Share by which the two cheapest bursts differ; 1 when there are not two."""
        known = sorted(burst.cpu_ns for burst in self.bursts if burst.cpu_ns is not None)
        return known[1] / known[0] - 1 if len(known) > 1 else 1.0

    @property
    def core_second(self) -> float | None:
        """Replies for one second of CPU: what the core would give if it were the server's alone."""
        return None if self.cpu_ns is None else 1e9 / self.cpu_ns

    @property
    def disturbance(self) -> float:
        """Of the best run; without one, of the least disturbed of all."""
        if self.cost is not None:
            return self.cost.disturbance
        every = [*self.costs, *(burst.cost for burst in self.bursts)]
        return min((cost.disturbance for cost in every), default=0.0)

    @property
    def runs(self) -> tuple[int, int]:
        """At the best rate: how many were sustained, of how many."""
        if self.best is None:
            return 0, 0
        same = [trial for trial in self.search.trials if trial.asked_rate == self.best.asked_rate]
        return sum(trial.sustained and trial.kept_up for trial in same), len(same)

    def record(self) -> dict[str, Any]:
        head = {"note": self.note, "checked": self.checked}
        if self.wrong:
            return head | {"wrong": self.wrong, "replies_s": None}
        trials = [
            trial.record() | {"server_cpu_s": round(cost.server_cpu_s, 3), "disturbance": round(cost.disturbance, 3)}
            for trial, cost in zip(self.search.trials, self.costs, strict=True)
        ]
        return head | {
            "limit": self.search.limit,
            "replies_s": round(self.replies_s),
            "cpu_us_a_reply": None if self.cpu_ns is None else round(self.cpu_ns / 1000, 3),
            "replies_a_core_second": None if self.core_second is None else round(self.core_second),
            "cpu_noise": round(self.cpu_noise, 3),
            "disturbance": round(self.disturbance, 3),
            "runs": self.runs,
            "best": self.best.record() if self.best is not None else None,
            "trials": trials,
            "bursts": [
                {"answered": burst.answered, "server_cpu_s": round(burst.cost.server_cpu_s, 3)} for burst in self.bursts
            ],
        }


def hold(
    name: str,
    stage: Stage,
    people: Population,
    *,
    seconds: float,
    first: float,
    budget_s: float,
    forms: Sequence[Form] = (),
    target: Target | None = None,
    unchecked: bool = False,
    seed: int = 1,
) -> Turn:
    """A server's turn, which ends some seconds after `budget_s`.  target: default the stage's.  It serves already."""
    costs: list[Cost] = []
    core = stage.cores[1]

    def run(rate: float, count: int, tail_s: float = 2.0) -> tuple[Result, Cost]:
        await_drained(stage.server)
        watch = _Costs(stage)
        trial = load.start(
            target or stage.target,
            people,
            rate,
            count,
            forms=forms,
            tail_s=tail_s,
            core=core,
            seed=seed,
            unchecked=unchecked,
        ).wait()
        return trial, watch.end(trial)

    def measure(rate: float) -> Result:
        trial, cost = run(rate, max(1, int(rate * seconds)))
        costs.append(cost)
        tell(f"  {trial.lines()[0]}; disturbed {100 * cost.disturbance:.0f} %")
        return trial

    started = time.monotonic()
    with pinned(core):
        found = load.highest(measure, first, 20, tries=TRIES, budget_s=(1 - REPEATS_SHARE) * budget_s)
        trials = list(found.trials)
        if found.best is not None and not any(trial.wrong or trial.duplicate for trial in trials):
            for _ in range(REPEATS):
                if time.monotonic() - started < budget_s:
                    trials.append(measure(found.best.asked_rate))
        bursts: list[Burst] = []
        each_s = 1 / max([1.0, *(trial.answered_rate for trial in trials)])
        for _ in range(BURSTS if not _wrong(trials) else 0):
            last, cost = run(BURST_RATE, int(min(max(BURST_CPU_S / each_s, BURST_LEAST), BURST_MOST)), BURST_TAIL_S)
            if wrong := _wrong([last]):
                return Turn(name, Search(trials), costs, wrong=wrong)
            bursts.append(Burst(last.answered, cost))
            tell(f"  burst of {last.offered:,}: answered {last.answered:,} with {cost.server_cpu_s:.2f} CPU s")
            each_s = min(each_s, max(cost.server_cpu_s, 0.01) / max(last.answered, 1))
    return Turn(name, Search(trials), costs, bursts, wrong=_wrong(trials))


def _wrong(trials: Sequence[Result]) -> str:
    bad = [trial for trial in trials if trial.wrong or trial.duplicate]
    if not bad:
        return ""
    return f"{bad[0].wrong} wrong and {bad[0].duplicate} double replies in {bad[0].offered}: {bad[0].examples}"


class _Costs:
    """What the server's and the generator's core did from here to `end()`."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._start = stage, time.monotonic()
        self._cpu, self._idle, self._times = cpu_s(stage.server), idle_s(stage.cores[0]), core_times()

    def end(self, trial: Result) -> Cost:
        wall, used = time.monotonic() - self._start, cpu_s(self._stage.server) - self._cpu
        now = core_times()
        stolen = max(now[core][2] - self._times[core][2] for core in self._stage.cores)
        idle = idle_s(self._stage.cores[0]) - self._idle
        # The clocks of /proc tick every 10 ms: a difference below two ticks is none.
        others = wall - idle - used - stolen
        return Cost(
            wall_s=wall,
            server_cpu_s=used,
            others_s=others if others > 0.02 else 0.0,
            stolen_s=stolen,
            stalled_s=trial.stalled_s,
        )


def disturbed(turns: Sequence[Turn]) -> list[str]:
    """What a reader of the figures must know."""
    names = [f"{turn.name} {100 * turn.disturbance:.0f} %" for turn in turns if turn.disturbance > DISTURBED]
    if not names:
        return []
    return [
        f"DISTURBED: others had a core of the best run for a good part of it ({', '.join(names)}); repeat on a quiet "
        "machine before quoting a figure (replies a core-second suffer least)"
    ]
