"""The power comes back: N machines boot at once, each with its firmware's timers, until the last one has its address.

The figures that count are not replies a second but whether anybody had to ask twice, whose fault that was, and when the
last machine was up.
"""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.engine.firmware import BMC, IPXE, IPXE_HASTY, OS, ROM, Firmware
from bench.engine.forms import add
from bench.engine.storms import STEPS, Storm
from bench.engine.target import Population, Target
from bench.engine.underway import UnderWay
from bench.report import record
from bench.report.figures import Histogram, milliseconds
from bench.report.outcome import describe, shared
from bench.report.picture import draw_funnel
from bench.rig.options import Chosen, finish, place, record_options, target_options, tell

LIMIT_S, MOMENTS = 600.0, 6000
FIRST_TIMEOUT_S = 0.25  # the shortest of all clients' timers


@dataclass(frozen=True, slots=True)
class Scene:
    """stages: what every machine boots through, in order; bmc: whether each has a card with a MAC of its own.

    starts_s: for each host, when it gets its power.  With cards: first all machines, then all cards."""

    stages: tuple[Firmware, ...]
    bmc: bool
    starts_s: Sequence[float]
    circuit: bool = True

    @property
    def every(self) -> tuple[Firmware, ...]:
        return (*self.stages, BMC) if self.bmc else self.stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a storm came to.  blamed: retransmissions by stage and by whose they are; funnel: (stage step) -> points."""

    hosts: int
    tally: dict[str, Any]
    stages: tuple[str, ...]
    blamed: dict[str, dict[str, int]]
    histograms: dict[str, Histogram]
    funnel: dict[str, list[tuple[float, int]]]
    faults: dict[str, int]
    examples: list[str]
    dark: list[str]
    own_drops: int

    def retransmissions(self, whose: str) -> int:
        return sum(stage[whose] for stage in self.blamed.values())

    @property
    def ours(self) -> int:
        return self.retransmissions("ours")

    @property
    def last_ack_s(self) -> float:
        return float(self.tally["last_ack_ns"] / 1e9)

    @property
    def all_right(self) -> bool:
        return self.tally["up"] == self.hosts and not (self.tally["wrong"] or self.tally["duplicate"])

    def record(self) -> dict[str, Any]:
        kept = ("up", "dark", "sent", "answered", "wrong", "wasted", "duplicate", "stray")
        return {name: self.tally[name] for name in kept} | {
            "hosts": self.hosts,
            "last_ack_s": round(self.last_ack_s, 4),
            "retransmissions": self.blamed,
            "retransmissions_of_ours": self.ours,
            "latency_ms": self.histograms["latency"].record(),
            "service_ms": self.histograms["service"].record(),
            "send_lateness_ms": self.histograms["lateness"].record(),
            "up_after_ms": self.histograms["boot"].record(),
            "funnel": {name: points[-1] if points else None for name, points in self.funnel.items()},
            "faults": self.faults,
            "examples": self.examples,
            "still_dark": self.dark,
            "generator": {"own_drops": self.own_drops, "stalled_s": round(self.tally["stalled_ns"] / 1e9, 4)},
        }

    def lines(self) -> list[str]:
        """The funnel and what it means, for people."""
        said = [f"{'':8}" + "".join(f"{step:>12}" for step in STEPS) + f"{'last ACK':>12}{'retransmissions':>18}"]
        for i, stage in enumerate(self.stages):
            reached = [self.funnel[f"{stage} {step}"] for step in STEPS]
            row = "".join(f"{points[-1][1] if points else 0:>12,}" for points in reached)
            last = self.tally["stage_last_ack_ns"][i] / 1e9
            said.append(f"{stage:8}{row}{last:>10.2f} s{sum(self.blamed[stage].values()):>18,}")
        late = self.histograms["lateness"]
        said.append(f"up: {self.tally['up']:,} of {self.hosts:,}, the last after {self.last_ack_s:.3f} s")
        for name, which in (("latency from the scheduled time", "latency"), ("from the send", "service")):
            found = self.histograms[which]
            at = ", ".join(f"p{p:g} {milliseconds(found.percentile(p))}" for p in (50, 99, 99.9))
            said.append(f"{name}: {at}, max {milliseconds(found.percentile(100))}")
        said.append(
            f"wasted replies: {self.tally['wasted']:,}, duplicate: {self.tally['duplicate']:,}, "
            f"wrong: {self.tally['wrong']:,}, stray: {self.tally['stray']:,}"
        )
        said.append(f"retransmissions of ours: {self.ours}")
        said.append(
            f"other retransmissions: {self.retransmissions('client'):,} the clients' own habit, "
            f"{self.retransmissions('generator'):,} the generator's, {self.retransmissions('machine'):,} while the "
            "machine stood still"
        )
        if late.percentile(99) > FIRST_TIMEOUT_S:
            said.append(
                f"the GENERATOR needed its time: machines that were due together left within "
                f"{milliseconds(late.percentile(100))}; the server met that rate, not all of them at once"
            )
        if self.dark:
            said.append(f"still dark: {', '.join(self.dark)}")
        return said + self.examples


class Running:
    """A storm under way; `wait()` for its Outcome."""

    def __init__(self, target: Target, people: Population, scene: Scene, *, core: int | None, seed: int) -> None:
        sock, known = target.open()
        moment_ns = int(LIMIT_S / MOMENTS * 1e9)
        self._storm = Storm(
            sock.fileno(),
            **known,
            first_xid=random.Random(seed).getrandbits(32),
            seed=seed,
            limit_ns=int(LIMIT_S * 1e9),
            moment_ns=moment_ns,
        )
        self._scene, self._hosts = scene, len(people.macs)
        self._storm.set_peers(*people.arrays())
        self._add_stages(bool(target.giaddrs))
        machines = self._hosts // 2 if scene.bmc else self._hosts
        first = array("B", [0] * machines + [len(scene.stages)] * (self._hosts - machines))
        self._storm.set_hosts(first, array("q", (int(at * 1e9) for at in scene.starts_s)))
        self._under_way = UnderWay("storm", self._storm, sock, core)

    def _add_stages(self, relayed: bool) -> None:
        every = self._scene.every
        for i, stage in enumerate(every):
            discover, request = (add(self._storm, each) for each in stage.forms(self._scene.circuit and relayed))
            self._storm.add_stage(
                discover=discover,
                request=request,
                discover_s=stage.discover_s,
                request_s=stage.request_s,
                collect_s=stage.collect_s,
                insists=stage.insists,
                wait_s=stage.wait_s,
                last=i >= len(self._scene.stages) - 1,
            )

    @property
    def done(self) -> int:
        return int(self._storm.done)

    def wait(self, watch: Callable[[int], None] | None = None) -> Outcome:
        """Until every host is up or dark.  watch: called a few times a second with their number."""
        return self._outcome(self._under_way.await_end(None if watch is None else lambda: watch(self.done)))

    def _outcome(self, own_drops: int) -> Outcome:
        storm, tally = self._storm, self._storm.tally()
        stages = tuple(stage.name for stage in self._scene.every)
        faults = {name: count for name, count in storm.figures()["faults"].items() if name != "right" and count}
        if same := shared(storm.addresses()):
            faults["shared"] = len(same)
            tally["wrong"] += sum(len(peers) for peers in same.values())
        blamed = dict(zip(stages, tally["blamed"], strict=True))
        return Outcome(
            hosts=self._hosts,
            tally=tally,
            stages=stages,
            blamed=_without_own(blamed, own_drops),
            histograms={name: Histogram(buckets) for name, buckets in storm.histograms().items()},
            funnel=_funnel(stages, storm.funnel_counts()),
            faults=faults,
            examples=[describe(*sample) for sample in storm.samples_kept()],
            dark=[f"{mac.hex(':')} ({stages[stage]})" for mac, stage in storm.dark()],
            own_drops=own_drops,
        )


def _without_own(blamed: dict[str, dict[str, int]], own_drops: int) -> dict[str, dict[str, int]]:
    """Replies that our own socket dropped left the server in time: at most as many are not the server's."""
    found, left = {}, own_drops
    for stage, counts in blamed.items():
        moved = min(left, counts["ours"])
        left -= moved
        found[stage] = counts | {"ours": counts["ours"] - moved, "generator": counts["generator"] + moved}
    return found


def _funnel(stages: tuple[str, ...], rows: list[list[tuple[int, int]]]) -> dict[str, list[tuple[float, int]]]:
    """Counts by moment -> hosts so far, a curve for each stage and step."""
    found: dict[str, list[tuple[float, int]]] = {}
    for i, row in enumerate(rows):
        total, points = 0, []
        for at, count in row:
            total += count
            points.append((at / 1e9, total))
        found[f"{stages[i // len(STEPS)]} {STEPS[i % len(STEPS)]}"] = points
    return found


def starts(hosts: int, spread_s: float, racks: int, rack_s: float, seed: int) -> list[float]:
    """When each host gets its power: racks one after the other every rack_s, hosts within spread_s of their rack's."""
    draw = random.Random(seed)
    return [(i % racks) * rack_s + (draw.uniform(0.0, spread_s) if spread_s else 0.0) for i in range(hosts)]


def _between(text: str) -> list[tuple[float, float]]:
    """ "1:3,5:10" -> spreads of what lies between the stages.  BadParameter."""
    try:
        found = [(float(low), float(high)) for low, high in (part.split(":") for part in text.split(","))]
    except ValueError:
        raise click.BadParameter(f"{text!r}: wanted two spreads in seconds, as in 1:3,5:10") from None
    if len(found) != 2 or any(not 0 <= low <= high for low, high in found):
        raise click.BadParameter(f"{text!r}: wanted two spreads, each with its least first, as in 1:3,5:10")
    return found


@click.command("storm")
@target_options(10_000)
@record_options
@click.option("--spread", default=0.0, show_default=True, help="Machines get their power within so many seconds.")
@click.option("--racks", default=1, show_default=True, type=click.IntRange(1), help="Powered on one after the other.")
@click.option("--rack-interval", default=0.0, show_default=True, help="Seconds from one rack to the next.")
@click.option("--between", default="1:3,5:10", show_default=True, help="Seconds from ROM to iPXE, from iPXE to system.")
@click.option("--bmc", is_flag=True, help="Every machine has a management card that asks, too (--hosts counts both).")
@click.option("--hasty-ipxe", is_flag=True, help="iPXE takes the first offer, as with option 175.176.")
def main(
    spread: float,
    racks: int,
    rack_interval: float,
    between: str,
    bmc: bool,
    hasty_ipxe: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
    **chosen_options: Any,
) -> None:
    """N machines switched on at once, until the last ACK.  Exit 1: one stays dark, or a reply was wrong or double."""
    chosen = Chosen(**chosen_options)
    people = chosen.people()
    waits = _between(between)
    stages = (ROM, (IPXE_HASTY if hasty_ipxe else IPXE).after(*waits[0]), OS.after(*waits[1]))
    scene = Scene(stages, bmc, starts(len(people.macs), spread, racks, rack_interval, seed))
    scenario = chosen.scenario() | {"hosts": len(people.macs), "spread_s": spread, "racks": racks}
    scenario |= {"rack_interval_s": rack_interval, "between_s": between, "bmc": bmc, "hasty_ipxe": hasty_ipxe}
    begun = record.begin("storm", scenario, seed)
    with place(chosen, people) as (target, stage, core):
        watch, before = record.Watch(), stage.service() if stage else {}
        with click.progressbar(length=len(people.macs), label="up", file=sys.stderr) as bar:
            found = Running(target, people, scene, core=core, seed=seed).wait(lambda done: bar.update(done - bar.pos))
        if stage is not None:
            begun["server_used"] = stage.since(before)
            tell(f"the server used {begun['server_used']['cpu_s']} CPU s and dropped {begun['server_used']['dropped']}")
        begun |= {"disturbance": watch.figures(found.tally["stalled_ns"] / 1e9), "best": found.record()}
    for line in found.lines():
        click.echo(line)
    drawn = None
    if picture is not None:
        title = f"storm of {found.hosts:,} hosts, retransmissions of ours: {found.ours}"
        drawn = draw_funnel(found.funnel, found.hosts, record.resolved(picture), title)
    finish(begun, file, drawn)
    if not found.all_right:
        dark = found.hosts - found.tally["up"]
        raise click.ClickException(f"{dark} hosts are not up; {found.tally['wrong']} replies were wrong")
