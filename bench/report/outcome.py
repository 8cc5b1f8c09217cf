"""What became of a load: every request in one class, latencies, and how far the generator itself is to blame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from bench.engine.blast import Blast
from bench.engine.forms import OPTIONS_AT, kind_of
from bench.report.figures import Histogram, milliseconds
from bench.report.record import DISTURBED

LOSS_MAX = 0.001
KEPT_UP = 0.98  # share of the asked rate that the generator has to reach
BACKLOG_MAX = 0.02  # share of the requests that may wait when the last one is sent
LATE_SEND_S, LATE_SENDS_MAX = 0.002, 0.01  # sends that late, and the share of them from which a run is not punctual
FAULTS_SHOWN = 5
COUNTS = ("offered", "answered", "wrong", "lost", "silent", "duplicate", "stray", "late", "late_after_send")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of every request: each is in exactly one of answered, wrong, lost, silent (none was wanted).

    duplicate, stray: replies beyond the first, and to nothing that was asked.  late: answered, but more than limit_s
    after it was due; late_after_send: after it was really sent.  Histograms: latency from when it was due, service from
    when it was sent, lateness of the sends.  timeline: (s, sent, answered, late, worst latency in s) by due time."""

    asked_rate: float
    offered: int
    answered: int
    wrong: int
    lost: int
    silent: int
    duplicate: int
    stray: int
    late: int
    late_after_send: int
    limit_s: float
    seconds: float  # from the first request to the last
    latency: Histogram
    service: Histogram
    lateness: Histogram
    timeline: list[tuple[float, int, int, int, float]]
    faults: dict[str, int]  # wrong replies by what is wrong with them
    examples: list[str]
    own_drops: int  # replies that our own socket had no room for
    send_errors: int
    backlog: int  # requests without a reply when the last one was sent: a queue that only grew is no rate
    stalled_s: float  # that the generator was ready to run and somebody else had its core
    generator_cpu_s: float

    @property
    def loss(self) -> float:
        """Share of the requests that wanted a reply and got none, or a wrong one."""
        wanted = self.offered - self.silent
        return (self.lost + self.wrong) / wanted if wanted else 0.0

    @property
    def offered_rate(self) -> float:
        return (self.offered - 1) / self.seconds if self.seconds else 0.0

    @property
    def answered_rate(self) -> float:
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def kept_up(self) -> bool:
        """The generator sent what it was asked to in the time that it had for it, and lost nothing itself."""
        had = max(self.seconds - self.stalled_s, 1e-9)
        return (self.offered - 1) / had >= KEPT_UP * self.asked_rate and not (self.own_drops or self.send_errors)

    @property
    def punctual(self) -> bool:
        """Nearly every request left when it was due.  If not, latency is the generator's or the machine's, too."""
        return self.lateness.above(LATE_SEND_S) <= LATE_SENDS_MAX * self.offered

    @property
    def disturbed(self) -> bool:
        """The generator had no core for a good part of the run; most likely the server had none either."""
        return self.stalled_s > DISTURBED * self.seconds

    @property
    def good(self) -> bool:
        return self.loss < LOSS_MAX and not self.wrong and not self.duplicate

    @property
    def sustained(self) -> bool:
        """The server kept pace: what it owed at the end was no queue that had grown all the time."""
        return self.good and self.backlog <= max(BACKLOG_MAX * self.offered, 1)

    def record(self) -> dict[str, Any]:
        counts = {
            name: getattr(self, name)
            for name in (
                "offered",
                "answered",
                "wrong",
                "lost",
                "silent",
                "duplicate",
                "stray",
                "late",
                "late_after_send",
            )
        }
        return counts | {
            "asked_rate": self.asked_rate,
            "offered_rate": round(self.offered_rate, 1),
            "answered_rate": round(self.answered_rate, 1),
            "loss": round(self.loss, 6),
            "limit_ms": 1000 * self.limit_s,
            "seconds": round(self.seconds, 6),
            "backlog": self.backlog,
            "sustained": self.sustained,
            "latency_ms": self.latency.record(),
            "service_ms": self.service.record(),
            "send_lateness_ms": self.lateness.record(),
            "faults": self.faults,
            "examples": self.examples,
            "generator": {
                "kept_up": self.kept_up,
                "punctual": self.punctual,
                "own_drops": self.own_drops,
                "send_errors": self.send_errors,
                "stalled_s": round(self.stalled_s, 4),
                "cpu_s": round(self.generator_cpu_s, 4),
            },
        }

    def lines(self) -> list[str]:
        """For people."""
        said = [
            f"offered {self.offered:,} at {self.offered_rate:,.0f}/s, answered {self.answered:,}, lost {self.lost:,}, "
            f"wrong {self.wrong:,}, duplicate {self.duplicate:,}, stray {self.stray:,}"
            + (f", rightly silent {self.silent:,}" if self.silent else "")
        ]
        if self.latency.count:
            at = ", ".join(f"p{p:g} {milliseconds(self.latency.percentile(p))}" for p in (50, 99, 99.9))
            limit = milliseconds(self.limit_s)
            said.append(
                f"latency from the scheduled time: {at}, max {milliseconds(self.latency.percentile(100))}; later than "
                f"{limit}: {self.late:,} ({self.late_after_send:,} counted from the real send)"
            )
        if not self.kept_up:
            said.append(
                f"the GENERATOR is a limit here: {self.offered_rate:,.0f}/s of {self.asked_rate:,.0f}/s, own drops "
                f"{self.own_drops}, send errors {self.send_errors}"
            )
        if not self.punctual:
            said.append(
                f"NOT PUNCTUAL: sends late by p99 {milliseconds(self.lateness.percentile(99))}, max "
                f"{milliseconds(self.lateness.percentile(100))}; for {self.stalled_s:.2f} s the generator had no core: "
                "latencies above are the machine's as well"
            )
        return said + self.examples


def result(blast: Blast, rate: float, limit_s: float, own_drops: int, cpu_s: float = 0.0) -> Result:
    """The figures of a Blast that has run.  Hosts that got the same address are all answered wrongly."""
    faults: dict[str, int] = {}
    examples: list[str] = []
    if same := shared(blast.addresses()):
        blast.condemn([peer for peers in same.values() for peer in peers])
        faults["shared"] = len(same)
        examples = [
            f"{IPv4Address(a)} was given to {len(peers)} hosts" for a, peers in list(same.items())[:FAULTS_SHOWN]
        ]
    tally, wire = blast.tally(), blast.figures()
    faults |= {name: count for name, count in wire["faults"].items() if name != "right" and count}
    examples += [describe(*sample) for sample in blast.samples_kept()]
    histograms = {name: Histogram(buckets) for name, buckets in blast.histograms().items()}
    return Result(
        asked_rate=rate,
        **{name: tally[name] for name in COUNTS},
        limit_s=limit_s,
        seconds=tally["sending_ns"] / 1e9,
        latency=histograms["latency"],
        service=histograms["service"],
        lateness=histograms["lateness"],
        timeline=[(at / 1e9, sent, back, late, worst / 1e9) for at, sent, back, late, worst in blast.timeline()],
        faults=faults,
        examples=examples[:FAULTS_SHOWN],
        own_drops=own_drops,
        send_errors=wire["send_errors"],
        backlog=tally["backlog"],
        stalled_s=tally["stalled_ns"] / 1e9,
        generator_cpu_s=cpu_s,
    )


def shared(addresses: Sequence[int]) -> dict[int, list[int]]:
    """Address -> the hosts (indices) that have it, where they are several."""
    found: dict[int, list[int]] = {}
    for peer, address in enumerate(addresses):
        if address:
            found.setdefault(address, []).append(peer)
    return {address: peers for address, peers in found.items() if len(peers) > 1}


def describe(fault: str, mac: bytes, reply: bytes) -> str:
    """A faulty reply in words."""
    if len(reply) < OPTIONS_AT:
        return f"wrong {fault}: {len(reply)} bytes, {reply[:16].hex()}..."
    return (
        f"wrong {fault}: asked by {mac.hex(':') if mac else 'nobody'}, reply of type {kind_of(reply)} for "
        f"{reply[28:34].hex(':')} with address {IPv4Address(reply[16:20])}, giaddr {IPv4Address(reply[24:28])}"
    )
