"""`bootstorm bench overload`: more than the server can answer; who is answered then, and how soon it is over.

A declared brake slows the worker down, so that three times its capacity can be offered here.  Goodput:
right replies that arrive before their client asks again, by the timers of its class.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from bench.engine.blast import Blast
from bench.engine.forms import DISCOVER, REQUEST, Form, add, form
from bench.engine.target import Population
from bench.engine.underway import UnderWay
from bench.lab.lab import Lab
from bench.report import record
from bench.report.machine import await_drained, pinned
from bench.report.outcome import Result
from bench.report.picture import draw_overload
from bench.rig import load
from bench.rig.options import finish, record_options, tell
from bench.rig.stage import Stage, invented, own_site

PXE = ((60, b"PXEClient:Arch:00007:UNDI:003016"),)
IPXE = (*PXE, (77, b"iPXE"))
# (form, seconds until such a client asks again): PXE ROM, iPXE, system.
KNOWN: tuple[tuple[Form, float], ...] = (
    (form(DISCOVER, PXE), 3.6),
    (form(REQUEST, PXE), 3.6),
    (form(DISCOVER, IPXE), 1.0),
    (form(REQUEST, IPXE), 0.25),
    (form(DISCOVER), 2.0),
    (form(REQUEST), 2.0),
)
PROMPT_S = 0.075  # from here on the server itself calls a wait long
HOSTS, STRANGERS, RELAYS = 2000, 20_000, 10
BEFORE_S, AFTER_S, TAIL_S, MOMENT_S = 1.0, 3.0, 4.0, 0.1
CALM, FACTOR = 0.5, 3.0  # shares of the capacity that are offered before and after, and meanwhile
NEIGHBOUR = 0.09  # and by each of the nine relays beside the one that floods
FLOOD, OTHERS, NEVER_SEEN = 0, 1, 2  # groups: hosts of the first relay, of the others, of nobody


@dataclass(frozen=True, slots=True)
class Stream:
    """`rate` a second from begin_s to end_s, by random hosts of a group, with random forms."""

    group: int
    rate: float
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """Hosts of the inventory, then strangers; the group of each."""

    people: Population
    groups: array[int]

    def of(self, group: int) -> list[int]:
        return [peer for peer, its in enumerate(self.groups) if its == group]


def crowd(hosts: int, strangers: int, relays: int, seed: int) -> Crowd:
    known, dice = invented(hosts, relays), random.Random(seed)
    unknown = [(0x06 << 40 | dice.getrandbits(40)).to_bytes(6, "big") for _ in range(strangers)]
    at = [*known.relays, *(i % relays for i in range(strangers))]
    groups = [*(OTHERS if relay else FLOOD for relay in known.relays), *[NEVER_SEEN] * strangers]
    return Crowd(Population([*known.macs, *unknown], [*known.addresses, *[0] * strangers], at), array("B", groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one group of hosts got, from begin_s to end_s of a run."""

    sent: int
    in_time: int  # replies before the client asks again
    late: int  # replies after that
    p50_ms: float
    p99_ms: float

    @property
    def kept(self) -> float:
        return self.in_time / self.sent if self.sent else 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario: by group (sent, in time, prompt) of each moment; the server's own counters meanwhile."""

    name: str
    moments: dict[int, list[list[int]]]
    parts: dict[int, Part]
    counters: dict[str, int]
    stalled_s: float

    def rate(self, begin_s: float, end_s: float, groups: Sequence[int], column: int = 1) -> float:
        """Replies in time a second to these groups; column 0: requests."""
        first, last = round(begin_s / MOMENT_S), round(end_s / MOMENT_S)
        rows = [row for group in groups for row in self.moments.get(group, [])[first:last]]
        return sum(row[column] for row in rows) / (end_s - begin_s)

    def recovery_s(self, end_s: float) -> float:
        """From end_s until every request is answered promptly again; a moment may lose one to the machine."""
        rows = self.moments.get(OTHERS, [])
        slow = [i for i, row in enumerate(rows) if i * MOMENT_S >= end_s and row[2] < 0.98 * row[0]]
        return max(0.0, (slow[-1] + 1) * MOMENT_S - end_s) if slow else 0.0

    def record(self) -> dict[str, Any]:
        return {
            "groups": {str(group): asdict(part) | {"kept": round(part.kept, 5)} for group, part in self.parts.items()},
            "counters": self.counters,
            "stalled_s": round(self.stalled_s, 3),
            "timeline": {str(group): rows for group, rows in self.moments.items()},
        }


@dataclass(slots=True)
class Bench:
    """A slowed-down site with its crowd, and what was measured on it."""

    stage: Stage
    crowd: Crowd
    seed: int
    capacity: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def find_capacity(self, first: float, steps: int = 9) -> float:
        """The highest rate without loss, of all hosts behind all relays."""
        known = [peer for peer, group in enumerate(self.crowd.groups) if group != NEVER_SEEN]
        whole = self.crowd.people
        people = Population(
            [whole.macs[i] for i in known], [whole.addresses[i] for i in known], [whole.relays[i] for i in known]
        )

        def measure(rate: float) -> Result:
            await_drained(self.stage.server)
            trial = load.start(
                self.stage.target,
                people,
                rate,
                int(2 * rate),  # two seconds: a brake makes up for 50 ms of delay
                forms=[made for made, _ in KNOWN],
                core=self.stage.cores[1],
                seed=self.seed,
            ).wait()
            tell(f"  {trial.lines()[0]}")
            return trial

        best = load.highest(measure, first, steps).best
        if best is None:
            raise click.ClickException("no rate was without loss: nothing to take three times of")
        self.capacity = best.offered_rate
        return self.capacity

    def run(self, name: str, streams: Sequence[Stream], begin_s: float, end_s: float) -> Run:
        """begin_s, end_s: the stretch that parts are counted in."""
        await_drained(self.stage.server)
        before = self.counters()
        blast, under_way = self.start(streams)
        drops = under_way.await_end()
        faults = blast.figures()["faults"]
        if wrong := {fault: count for fault, count in faults.items() if fault != "right" and count}:
            raise click.ClickException(f"{name}: wrong replies {wrong}: there is no figure")
        moments, parts = {}, {}
        patience = [round(1e9 * asks_s) for _, asks_s in KNOWN]
        found = blast.in_time(self.crowd.groups, patience, round(1e9 * PROMPT_S), round(1e9 * MOMENT_S))
        for group, (rows, times) in found.items():
            moments[group] = rows
            inside = rows[round(begin_s / MOMENT_S) : round(end_s / MOMENT_S)]
            ordered = sorted(times)
            at = [ordered[int((len(ordered) - 1) * share)] / 1e6 if ordered else 0.0 for share in (0.5, 0.99)]
            answered, in_time = len(times), sum(row[1] for row in rows)
            parts[group] = Part(
                sent=sum(row[0] for row in inside),
                in_time=sum(row[1] for row in inside),
                late=answered - in_time,
                p50_ms=round(at[0], 2),
                p99_ms=round(at[1], 2),
            )
        after = self.counters()
        counters = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
        run = Run(name, moments, parts, counters | {"own_drops": drops}, blast.tally()["stalled_ns"] / 1e9)
        self.runs.append(run)
        tell(f"{name}: {', '.join(f'{k} {v:,}' for k, v in run.counters.items())}")
        return run

    def counters(self) -> dict[str, int]:
        assert self.stage.site is not None
        status = self.stage.site.ctl("status")
        return dict(status["counters"]) | {"DROPPED_STRANGERS": (status.get("strangers") or {}).get("dropped", 0)}

    def start(self, streams: Sequence[Stream]) -> tuple[Blast, UnderWay]:
        dice = random.Random(self.seed)
        shots: list[tuple[int, int, int]] = []
        for stream in streams:
            hosts, step_ns = self.crowd.of(stream.group), 1e9 / stream.rate
            count = int((stream.end_s - stream.begin_s) * stream.rate)
            shots += [
                (int(1e9 * stream.begin_s + n * step_ns), dice.choice(hosts), dice.randrange(len(KNOWN)))
                for n in range(count)
            ]
        shots.sort()
        sock, known = self.stage.target.open()
        try:
            blast = Blast(
                sock.fileno(),
                **known,
                first_xid=dice.getrandbits(32),
                tail_ns=round(1e9 * TAIL_S),
                moment_ns=round(1e9 * MOMENT_S),
            )
            blast.set_peers(*self.crowd.people.arrays())
            for made, _asks_s in KNOWN:
                add(blast, made)
            blast.plan([due for due, _, _ in shots], [peer for _, peer, _ in shots], [made for _, _, made in shots])
            return blast, UnderWay("overload", blast, sock, self.stage.cores[1])
        except BaseException:
            sock.close()
            raise

    # --- scenarios ---------------------------------------------------------------------------------------------------

    def all_want_more(self, seconds: float) -> dict[str, Any]:
        """All relays alike want three times the capacity."""
        begin, end = BEFORE_S, BEFORE_S + seconds
        shares = ((0, begin, CALM), (begin, end, FACTOR), (end, end + AFTER_S, CALM))
        run = self.run(
            "three times the capacity",
            [Stream(OTHERS, self.capacity * share, a, b) for a, b, share in shares],
            begin,
            end,
        )
        return {
            "goodput": round(run.rate(begin, end, [OTHERS]) / self.capacity, 3),
            "late_replies": run.parts[OTHERS].late,
            "recovery_s": round(run.recovery_s(end), 2),
        }

    def one_relay_floods(self, seconds: float) -> dict[str, Any]:
        run = self.run(
            "one relay floods",
            [
                Stream(FLOOD, FACTOR * self.capacity, BEFORE_S, BEFORE_S + seconds),
                Stream(OTHERS, NEIGHBOUR * (RELAYS - 1) * self.capacity, 0, BEFORE_S + seconds),
            ],
            BEFORE_S,
            BEFORE_S + seconds,
        )
        return {
            "others_kept": round(run.parts[OTHERS].kept, 4),
            "flooding_goodput": round(run.rate(BEFORE_S, BEFORE_S + seconds, [FLOOD]) / self.capacity, 3),
        }

    def strangers_come(self, seconds: float, factor: float, name: str) -> dict[str, Any]:
        """Known hosts at 0.6 of the capacity, without strangers and with."""
        known = Stream(OTHERS, 0.6 * self.capacity, 0, BEFORE_S + seconds)
        alone = self.run(f"{name}: known hosts alone", [known], BEFORE_S, BEFORE_S + seconds).parts[OTHERS]
        strangers = Stream(NEVER_SEEN, factor * self.capacity, BEFORE_S, BEFORE_S + seconds)
        beside = self.run(name, [known, strangers], BEFORE_S, BEFORE_S + seconds).parts[OTHERS]
        return {
            "known_alone": round(alone.kept, 4),
            "known_beside": round(beside.kept, 4),
            "goodput": round(beside.kept / alone.kept, 3) if alone.kept else None,
            "p99_alone_ms": alone.p99_ms,
            "p99_beside_ms": beside.p99_ms,
        }


@contextmanager
def slowed_down(brake: str, hosts: int, seed: int, **dhcp: Any) -> Iterator[Bench]:
    """Our own server with one worker, slowed down, all of it on the first core."""
    everybody = crowd(hosts, STRANGERS, RELAYS, seed)
    environment = {"BOOTSTORM_BENCH_BRAKE_NS": brake}
    site = own_site(invented(hosts, RELAYS), RELAYS, 1, environment=environment, **dhcp)
    with site as stage, pinned(stage.cores[1]):
        yield Bench(stage, everybody, seed)


@click.command("overload")
@click.option(
    "--seconds", default=30.0, show_default=True, type=click.FloatRange(1), help="Of three times the capacity."
)
@click.option("--short", default=5.0, show_default=True, type=click.FloatRange(1), help="Of each other scenario.")
@click.option("--brake", default=150_000, show_default=True, type=click.IntRange(1000, 1_000_000), help="ns an answer.")
@click.option("--brake-other", default=0, show_default=True, type=click.IntRange(0, 1_000_000), help="ns a refusal.")
@click.option("--hosts", default=HOSTS, show_default=True, type=click.IntRange(100, 100_000))
@record_options
def main(
    seconds: float,
    short: float,
    brake: int,
    brake_other: int,
    hosts: int,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """Three times what a slowed-down worker can answer; a relay that floods; strangers, with and without their drop."""
    if reason := Lab.available():
        raise click.ClickException(f"overload is measured in a laboratory, and cannot be here: {reason}")
    scenario = {"seconds": seconds, "short": short, "brake_ns": [brake, brake_other], "hosts": hosts, "relays": RELAYS}
    begun, watch = record.begin("overload", scenario, seed), record.Watch()
    figures: dict[str, Any] = {}
    runs: list[Run] = []
    for drop in (False, True):
        with slowed_down(f"{brake},{brake_other}", hosts, seed, drop_strangers=drop) as bench:
            bench.find_capacity(0.6e9 / brake)
            if not drop:
                figures["capacity"] = round(bench.capacity)
                figures["three_times"] = bench.all_want_more(seconds)
                figures["flooding_relay"] = bench.one_relay_floods(short)
                figures["strangers_a_third"] = bench.strangers_come(short, 1 / 3, "strangers at a third")
            name = f"strangers at three times, {'dropped in the kernel' if drop else 'not dropped'}"
            figures["strangers_three_times" + ("_dropped" if drop else "")] = bench.strangers_come(short, FACTOR, name)
            runs += bench.runs
    begun |= {"figures": figures, "runs": {run.name: run.record() for run in runs}}
    begun["disturbance"] = watch.figures(sum(run.stalled_s for run in runs))
    for name, found in figures.items():
        click.echo(f"{name}: {found}")
    drawn = None
    if picture is not None:
        drawn = draw_overload(
            [(row[0] / MOMENT_S, row[1] / MOMENT_S) for row in runs[0].moments[OTHERS]],
            MOMENT_S,
            figures["capacity"],
            record.resolved(picture),
            f"three times the capacity for {seconds:g} s",
        )
    finish(begun, file, drawn)
