"""Steady load on a running server: hosts' requests at a fixed rate, open loop, every reply checked.

`run()` is the library call, `start()` the same while something else happens.  `highest()` searches the rate that a
server still answers.  Latency counts from when a request was due: a stall is in the figures, whoever stalled; what the
generator itself was late by is in them a second time, on its own.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.engine.blast import Blast
from bench.engine.forms import DISCOVER, REQUEST, Form, add, form
from bench.engine.target import Mac, Population, Target, population
from bench.engine.underway import UnderWay
from bench.lab.lab import Host
from bench.report.outcome import Result, result

LIMIT_S, PRECISION = 0.005, 0.05
MOMENTS = 1000


class Load:
    """A load under way.  `wait()` for its Result, `stop()` to end it early; sent and answered may be watched."""

    def __init__(self, blast: Blast, sock: socket.socket, rate: float, limit_s: float, core: int | None) -> None:
        self._blast, self._rate, self._limit_s = blast, rate, limit_s
        self._under_way = UnderWay("load", blast, sock, core)

    @property
    def sent(self) -> int:
        return int(self._blast.sent)

    @property
    def answered(self) -> int:
        return int(self._blast.answered)

    @property
    def running(self) -> bool:
        return self._under_way.running

    def stop(self) -> None:
        """Send no more; `wait()` still awaits the replies to what was sent."""
        self._under_way.stop()

    def wait(self, watch: Callable[[int], None] | None = None) -> Result:
        """Until the last reply.  watch: called a few times a second with the number of requests sent."""
        own_drops = self._under_way.await_end(None if watch is None else lambda: watch(self.sent))
        return result(self._blast, self._rate, self._limit_s, own_drops, self._under_way.cpu_s)


def start(
    target: Target,
    people: Population,
    rate: float,
    count: int,
    *,
    forms: Sequence[Form] = (),
    limit_s: float = LIMIT_S,
    tail_s: float = 2.0,
    core: int | None = None,
    seed: int = 0,
    unchecked: bool = False,
) -> Load:
    """Begin to send `count` requests, `rate` a second: every host the first form, then every host the second, ...

    forms: default DISCOVER and REQUEST.  core: that the sender's thread is kept on.  seed: of the transaction ids."""
    if rate <= 0 or count < 1:
        raise ValueError(f"{count} requests at {rate}/s: wanted at least one, and a rate above 0")
    sock, known = target.open()
    try:
        blast = Blast(
            sock.fileno(),
            **known,
            first_xid=random.Random(seed or None).getrandbits(32),
            limit_ns=int(limit_s * 1e9),
            tail_ns=int(tail_s * 1e9),
            moment_ns=max(1_000_000, int(count / rate / MOMENTS * 1e9)),
            unchecked=unchecked,
        )
        blast.set_peers(*people.arrays())
        blast.steady(rate, count, [add(blast, each) for each in forms or (form(DISCOVER), form(REQUEST))])
        return Load(blast, sock, rate, limit_s, core)
    except BaseException:
        sock.close()
        raise


def run(
    server_address: str,
    macs: Iterable[Mac],
    rate: float,
    seconds: float,
    *,
    giaddr: str | Sequence[str] = (),
    addresses: Sequence[str | int] | None = None,
    ifname: str = "",
    host: Host | None = None,
    limit_s: float = LIMIT_S,
    core: int | None = None,
    watch: Callable[[int], None] | None = None,
) -> Result:
    """Ask a server for `seconds`, `rate` requests a second, DISCOVERs and REQUESTs of all hosts; check every reply.

    giaddr: relay or relays to pose as (addresses of this machine, or of the laboratory host `host`); or ifname: the
    interface to broadcast from.  addresses: what each host has to get; default: whatever it gets first, each its own.
    OSError when the socket cannot be opened, ValueError for senseless arguments."""
    giaddrs = (giaddr,) if isinstance(giaddr, str) and giaddr else tuple(giaddr)
    target = Target(server_address, giaddrs, ifname, host)
    people = population(macs, addresses, max(1, len(giaddrs)))
    count = max(1, int(rate * seconds))
    return start(target, people, rate, count, limit_s=limit_s, core=core).wait(watch)


@dataclass(frozen=True, slots=True)
class Search:
    """What a search tried, in order."""

    trials: list[Result]

    @property
    def best(self) -> Result | None:
        """The highest rate with an acceptable loss that the generator really sent."""
        good = (trial for trial in self.trials if trial.sustained and trial.kept_up)
        return max(good, key=lambda trial: trial.offered_rate, default=None)

    @property
    def limit(self) -> str:
        """Who ended the search: "server", "generator", "others" who took the cores from both, or "steps": nobody."""
        failed = [trial for trial in self.trials if not (trial.sustained and trial.kept_up)]
        if not failed:
            return "steps"
        clear = [trial for trial in failed if not trial.disturbed]
        if not clear:
            return "others"
        return "server" if any(trial.kept_up for trial in clear) else "generator"


def highest(
    measure: Callable[[float], Result], first: float, steps: int = 14, *, tries: int = 2, budget_s: float | None = None
) -> Search:
    """Highest rate that is sustained with less than LOSS_MAX lost: doubling, then bisection until PRECISION.

    A rate counts as too high when it failed `tries` times: on a shared machine one failure says little.  budget_s: no
    step begins later than that."""
    trials: list[Result] = []
    low, high, rate, failed = 0.0, 0.0, first, 0
    end = None if budget_s is None else time.monotonic() + budget_s
    while len(trials) < steps and (not high or high > low * (1 + PRECISION)):
        if end is not None and time.monotonic() >= end:
            break
        trial = measure(rate)
        trials.append(trial)
        if trial.wrong or trial.duplicate:
            break  # no figure for a server that answers wrongly
        if trial.sustained and trial.kept_up:
            low, failed = rate, 0
        elif (failed := failed + 1) < tries:
            continue
        else:
            high, failed = rate, 0
        rate = (low + high) / 2 if high else low * 2
    return Search(trials)
