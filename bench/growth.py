"""`bootstorm bench growth`: how a reply's cost grows with hosts, workers, relays, the way it goes, and its length.

Each axis is a curve of our server's figures with a control beside it: what grows in the same way without the server
(the echo, the packet path without I/O).  Why a curve bends is said from the two, not guessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import click

from bench import core
from bench.engine import sockets
from bench.engine.forms import DISCOVER, REQUEST, Form, form
from bench.engine.target import Target
from bench.lab.site import RunningSite
from bench.peers.answers import Relay
from bench.peers.run import impossible
from bench.peers.table import Table
from bench.report import record
from bench.report.growth_words import why
from bench.report.machine import pinned
from bench.report.picture import draw_growth
from bench.rig.contest import Turn, hold
from bench.rig.host_file import host_file
from bench.rig.options import finish, record_options, tell
from bench.rig.stage import (
    FIRST_ADDRESS,
    FIRST_MAC,
    HOSTS_MAX,
    NETWORK,
    RELAY,
    SERVER,
    Stage,
    echo_server,
    invented,
    two_hosts,
)

USUAL_HOSTS = 10_000
RELAYS = (1, 10, 100, 1000)
PADDING = (0, 250, 650, 1050)  # bytes of one option that the hosts get on top
BIG = ((57, (1500).to_bytes(2, "big")),)  # clients that take whatever fits the wire
FIRST, START_S, FEW = 10_000.0, 900.0, 1_000
CORE_BATCHES = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place of a curve.  noise: share by which the cheapest runs of it differ.

    controls: name -> ns that the same takes without our server, or with another load."""

    x: float
    label: str
    replies_s: float
    cpu_ns: float | None
    noise: float
    disturbance: float
    controls: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What each turn may take; stalled_s: for how long the generator had no core, turn by turn."""

    seconds: float
    budget_s: float
    seed: int
    stalled_s: list[float] = field(default_factory=list)


@contextmanager
def site(hosts: int, *, relays: int = 1, workers: int = 1, padding: int = 0) -> Iterator[Stage]:
    """Our server with these hosts from a file, on all cores but the generator's."""
    with two_hosts(relays) as stage:
        path = stage.server.scratch / "hosts.csv"
        extra = ("option-224", "0x" + "ab" * padding) if padding else None
        with path.open("w") as out:
            out.writelines(host_file(hosts, extra=extra))
        running = RunningSite(stage.server, workers, api_url=f"file://{path}")
        try:
            with pinned(*server_cores(stage)):
                running.serve()
                running.await_status(
                    lambda s: s["hosts"] == hosts and all(w["generation"] for w in s["workers"]), START_S
                )
            yield stage
        finally:
            running.stop()


def server_cores(stage: Stage) -> list[int]:
    return sorted(os.sched_getaffinity(0) - {stage.cores[1]}) or [stage.cores[0]]


def turn(name: str, stage: Stage, hosts: int, effort: Effort, **more: Any) -> Turn:
    """RuntimeError when an answer was wrong: then there is no curve."""
    people = invented(hosts, more.pop("relays", 1))
    found = hold(
        name, stage, people, seconds=effort.seconds, first=FIRST, budget_s=effort.budget_s, seed=effort.seed, **more
    )
    effort.stalled_s.append(sum(cost.stalled_s for cost in found.costs))
    if found.wrong:
        raise RuntimeError(f"growth, {name}: {found.wrong}")
    return found


def point(x: float, label: str, found: Turn, **controls: float | None) -> Point:
    return Point(
        x=x,
        label=label,
        replies_s=found.replies_s,
        cpu_ns=found.cpu_ns,
        noise=found.cpu_noise,
        disturbance=found.disturbance,
        controls=controls,
    )


def by_hosts(effort: Effort, largest: int) -> Iterator[Point]:
    """Control: the packet path alone at that size; and few hosts of the same table, which the caches hold."""
    for hosts in (size for size in core.SIZES if size <= largest):
        tell(f"{hosts:,} hosts:")
        with site(hosts) as stage:
            every = turn(f"{hosts:,} hosts", stage, hosts, effort)
            few = turn(f"{FEW:,} of {hosts:,}", stage, min(FEW, hosts), effort)
        table = core.table(hosts)
        alone = [core.measure_in(table, asked, CORE_BATCHES, effort.seed) for asked in (hosts, min(FEW, hosts))]
        yield point(
            hosts,
            f"{hosts:,}",
            every,
            few_hosts=few.cpu_ns,
            path=alone[0]["median_ns"],
            path_few_hosts=alone[1]["median_ns"],
        )


def by_workers(effort: Effort, largest: int) -> Iterator[Point]:
    """1, 2, 4 ... up to twice the cores that the server has."""
    with two_hosts() as stage:
        cores = len(server_cores(stage))
    workers = 1
    while workers <= max(2, 2 * cores):
        tell(f"{workers} workers on {cores} cores:")
        with site(min(USUAL_HOSTS, largest), workers=workers) as stage:
            found = turn(f"{workers} workers", stage, min(USUAL_HOSTS, largest), effort)
        yield point(workers, str(workers), found, cores=float(cores))
        workers *= 2


def by_relays(effort: Effort, largest: int) -> Iterator[Point]:
    """Control: the echo to as many relays."""
    hosts = min(USUAL_HOSTS, largest)
    for relays in RELAYS:
        tell(f"{relays} relays:")
        with site(hosts, relays=relays) as stage:
            found = turn(f"{relays} relays", stage, hosts, effort, relays=relays)
        with two_hosts(relays) as stage, echo_server(stage, bare=False, reply_bytes=348):
            echo = turn(f"echo, {relays} relays", stage, hosts, effort, relays=relays, unchecked=True)
        yield point(relays, str(relays), found, echo=echo.cpu_ns)


def by_way(effort: Effort, largest: int) -> Iterator[Point]:
    """Through a relay by UDP, and on the segment itself in Ethernet frames; one server."""
    hosts = min(USUAL_HOSTS, largest)
    with site(hosts) as stage:
        tell("relayed:")
        yield point(0, "relayed", turn("relayed", stage, hosts, effort))
        tell("direct:")
        direct = Target(SERVER, ifname="cl", host=stage.client)
        yield point(1, "direct", turn("direct", stage, hosts, effort, target=direct))


def by_length(effort: Effort, largest: int) -> Iterator[Point]:
    """Control: the echo with replies of that length."""
    hosts = min(USUAL_HOSTS, largest)
    forms: tuple[Form, ...] = (form(DISCOVER, BIG), form(REQUEST, BIG))
    for padding in PADDING:
        with site(hosts, padding=padding) as stage:
            length = reply_length(stage, hosts)
            tell(f"replies of {length} bytes:")
            found = turn(f"{length} bytes", stage, hosts, effort, forms=forms)
        with two_hosts() as stage, echo_server(stage, bare=False, reply_bytes=length):
            echo = turn(f"echo, {length} bytes", stage, hosts, effort, forms=forms, unchecked=True)
        yield point(length, str(length), found, echo=echo.cpu_ns)


def reply_length(stage: Stage, hosts: int) -> int:
    """Bytes of the reply to the first host's DISCOVER.  RuntimeError without one."""
    first = Table(
        count=hosts, network=NETWORK, server=IPv4Address(SERVER), first_mac=FIRST_MAC, first_address=FIRST_ADDRESS
    ).hosts()
    with sockets.open_relay((RELAY,), 67, stage.client) as sock:
        length = len(Relay(sock, IPv4Address(RELAY), IPv4Address(SERVER)).ask(DISCOVER, next(first), 1, 10.0, BIG))
    if not length:
        raise RuntimeError("growth: the server did not answer its first host within 10 s, wanted its reply's length")
    return length


AXES = {
    "hosts": (by_hosts, "hosts in the table"),
    "workers": (by_workers, "workers"),
    "relays": (by_relays, "relays"),
    "way": (by_way, "way"),
    "length": (by_length, "bytes of a reply"),
}


def lines(axis: str, points: Sequence[Point], sentence: str) -> Iterator[str]:
    yield f"{AXES[axis][1]:>20}{'replies/s':>12}{'CPU ns':>10}{'noise':>8}{'disturbed':>11}  controls, ns"
    for each in points:
        controls = ", ".join(
            f"{name.replace('_', ' ')} {value:,.0f}" for name, value in each.controls.items() if value is not None
        )
        cpu = "-" if each.cpu_ns is None else f"{each.cpu_ns:,.0f}"
        rate = f"{each.replies_s:,.0f}" if each.replies_s else "-"
        shares = f"{100 * each.noise:>6.0f} %{100 * each.disturbance:>9.0f} %"
        yield f"{each.label:>20}{rate:>12}{cpu:>10}{shares}  {controls}"
    yield f"why: {sentence}"


@click.command("growth")
@click.option("--axis", "axes", multiple=True, type=click.Choice(list(AXES)), help="Default: all of them.")
@click.option("--largest", default=HOSTS_MAX, show_default=True, type=click.IntRange(1000, HOSTS_MAX), help="Hosts.")
@click.option("--seconds", default=0.5, show_default=True, type=click.FloatRange(0.1), help="Of one run.")
@click.option("--budget", default=4.0, show_default=True, type=click.FloatRange(0.5), help="Seconds of one point.")
@record_options
def main(
    axes: tuple[str, ...],
    largest: int,
    seconds: float,
    budget: float,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """Replies a second and ns a reply as hosts, workers, relays and replies grow; why a curve bends, from controls."""
    if reason := impossible():
        raise click.ClickException(f"growth is measured in a laboratory, and cannot be here: {reason}")
    wanted = [name for name in AXES if name in axes or not axes]
    scenario = {"axes": wanted, "largest": largest, "seconds": seconds, "budget_s": budget}
    begun, watch = record.begin("growth", scenario, seed), record.Watch()
    effort = Effort(seconds=seconds, budget_s=budget, seed=seed)
    curves: dict[str, list[Point]] = {}
    begun["curves"] = {}
    for name in wanted:
        curves[name] = list(AXES[name][0](effort, largest))
        sentence = why(name, curves[name])
        click.echo("\n".join(lines(name, curves[name], sentence)))
        rows = [{slot: getattr(each, slot) for slot in Point.__slots__} for each in curves[name]]
        begun["curves"][name] = {"points": rows, "why": sentence}
    begun["disturbance"] = watch.figures(sum(effort.stalled_s))
    drawn = None
    if picture is not None:
        panels = {AXES[name][1]: points for name, points in curves.items()}
        drawn = draw_growth(panels, record.resolved(picture), "cost of a reply as things grow, one core")
    finish(begun, file, drawn)
