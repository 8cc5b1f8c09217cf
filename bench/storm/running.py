"""Machines that boot, under way: stages, who gets power when and who hangs where, and what it all came to."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.engine.firmware import BMC, Firmware
from bench.engine.forms import add
from bench.engine.storms import STEPS, Storm
from bench.engine.target import Population, Target
from bench.engine.underway import UnderWay
from bench.report.figures import Histogram, milliseconds
from bench.report.outcome import describe, shared

LIMIT_S, MOMENTS = 600.0, 6000
NOWHERE = 255  # of Storm.set_ends and Storm.where
FIRST_TIMEOUT_S = 0.25  # the shortest of all clients' timers


@dataclass(frozen=True, slots=True)
class Scene:
    """stages: what every machine boots through, in order; bmc: whether each has a card with a MAC of its own.

    starts_s: for each host, when it gets its power; below 0: it gets none.  With cards: first all machines, then all
    cards.  ends: for each host an octet, where it hangs (Storm.set_ends); empty: nobody does."""

    stages: tuple[Firmware, ...]
    bmc: bool
    starts_s: Sequence[float]
    circuit: bool = True
    ends: bytes = b""

    @property
    def every(self) -> tuple[Firmware, ...]:
        return (*self.stages, BMC) if self.bmc else self.stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a storm came to.  blamed: retransmissions by stage and by whose they are; funnel: (stage step) -> points.

    datagrams: stage -> step -> how many, repeated ones too.  where: for each host (stage, step), the furthest that it
    knows of itself, None without power.  asked: for each host its requests and the replies that it heard."""

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
    datagrams: dict[str, dict[str, int]]
    where: list[tuple[str, str] | None]
    asked: list[tuple[int, int]]

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
        return self.tally["up"] + self.tally["hung"] == self.hosts and not (
            self.tally["wrong"] or self.tally["duplicate"]
        )

    def record(self) -> dict[str, Any]:
        kept = ("up", "dark", "hung", "sent", "answered", "wrong", "wasted", "duplicate", "stray")
        return {name: self.tally[name] for name in kept} | {
            "hosts": self.hosts,
            "last_ack_s": round(self.last_ack_s, 4),
            "retransmissions": self.blamed,
            "retransmissions_of_ours": self.ours,
            "latency_ms": self.histograms["latency"].record(),
            "service_ms": self.histograms["service"].record(),
            "send_lateness_ms": self.histograms["lateness"].record(),
            "up_after_ms": self.histograms["boot"].record(),
            "datagrams": self.datagrams,
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
        hung = f", {self.tally['hung']:,} hang as they were to" if self.tally["hung"] else ""
        said.append(f"up: {self.tally['up']:,} of {self.hosts:,}, the last after {self.last_ack_s:.3f} s{hung}")
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
        if scene.ends:
            self._storm.set_ends(scene.ends)
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

    def stop(self) -> None:
        self._under_way.stop()

    def wait(self, watch: Callable[[int], None] | None = None) -> Outcome:
        """Until every host is up, dark or where it hangs.  watch: called a few times a second with their number."""
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
            datagrams={
                stage: dict(zip(STEPS, counts, strict=True))
                for stage, counts in zip(stages, storm.datagrams(), strict=True)
            },
            where=[_place(stages, octet) for octet in storm.where()],
            asked=storm.asked(),
        )


def _place(stages: tuple[str, ...], octet: int) -> tuple[str, str] | None:
    """Of Storm.where()."""
    return None if octet == NOWHERE else (stages[octet // len(STEPS)], STEPS[octet % len(STEPS)])


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
