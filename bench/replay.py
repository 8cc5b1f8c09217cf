"""`bootstorm bench replay`: captures as traffic, by more hosts, faster or slower, every reply checked.

A capture's hosts become groups of hosts: copy k of every machine sends what the machine sent, with a MAC, an address
and transaction ids of its own.  The requests are the client's own words; what names a host or a server is filled in.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.engine.blast import Blast
from bench.engine.forms import NAK, Form, add, captured, kind_of
from bench.engine.target import Population, Target
from bench.report import record
from bench.report.figures import milliseconds
from bench.report.picture import draw_load
from bench.rig.load import LIMIT_S, Load
from bench.rig.options import Chosen, finish, place, progress, record_options, target_options, tell
from bench.rig.stage import server_used
from control.messages.capture import CaptureBroken, read_capture

PORTS = (67, 68)
BROADCAST = 0xFFFFFFFF
COOKIE = b"\x63\x82\x53\x63"
REPLY_KINDS = {2: (1,), 5: (3, 8), NAK: (3,)}  # reply -> requests that it may answer


@dataclass(frozen=True, slots=True)
class Captured:
    """One DHCP message of a capture: seconds since 1970, BOOTP payload, whether it was sent to one host alone."""

    time_s: float
    payload: bytes
    unicast: bool

    @property
    def is_request(self) -> bool:
        return self.payload[0] == 1

    @property
    def mac(self) -> bytes:
        return self.payload[28:34]

    @property
    def xid(self) -> int:
        return int.from_bytes(self.payload[4:8], "big")


@dataclass(frozen=True, slots=True)
class Said:
    """One request of a capture: seconds since its first, number of the machine, index of the form."""

    time_s: float
    machine: int
    form: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Distinct requests (forms), the machines that sent them, and who sent which when, in order."""

    forms: list[Form]
    macs: list[bytes]
    said: list[Said]
    skipped: int  # requests that are no DHCP (BOOTP, unknown types)

    @property
    def seconds(self) -> float:
        return self.said[-1].time_s if self.said else 0.0


def messages_of(path: Path) -> list[Captured]:
    """DHCP over Ethernet hardware, in order; everything else in the file is left out.  ValueError for no capture."""
    try:
        datagrams = read_capture(path).datagrams
    except CaptureBroken as broken:
        raise ValueError(str(broken)) from broken
    return [
        Captured(each.time_s, each.payload, each.destination != BROADCAST)
        for each in datagrams
        if each.destination_port in PORTS and each.payload[1:3] == b"\x01\x06" and each.payload[236:240] == COOKIE
    ]


def traffic(paths: Sequence[Path], *, circuit: bool = False) -> Traffic:
    """Several captures, all from the same moment on.  ValueError when no DHCP request is in them."""
    forms: dict[Form, int] = {}
    machines: dict[bytes, int] = {}
    said, skipped = [], 0
    for path in paths:
        datagrams = messages_of(path)
        requests = [i for i, datagram in enumerate(datagrams) if datagram.is_request]
        for i in requests:
            datagram = datagrams[i]
            refused = _refused(datagrams, i)
            made = captured(datagram.payload, refused, unicast=datagram.unicast, circuit=circuit)
            if made is None:
                skipped += 1
                continue
            machine = machines.setdefault(datagram.mac, len(machines))
            at = datagram.time_s - datagrams[requests[0]].time_s
            said.append(Said(max(0.0, at), machine, forms.setdefault(made, len(forms))))
    if not said:
        raise ValueError(f"{', '.join(map(str, paths))}: no DHCP request of an Ethernet host in there")
    return Traffic(list(forms), list(machines), sorted(said, key=lambda each: each.time_s), skipped)


def _refused(datagrams: Sequence[Captured], at: int) -> bool:
    """The next reply to this request was a NAK."""
    asked = datagrams[at]
    for later in datagrams[at + 1 :]:
        if later.mac == asked.mac and later.xid == asked.xid and not later.is_request:
            kind = kind_of(later.payload)
            if kind_of(asked.payload) in REPLY_KINDS.get(kind, ()):
                return kind == NAK
    return False


@dataclass(frozen=True, slots=True)
class Plan:
    """What Blast.plan wants, and the hosts that it speaks of."""

    due_ns: array[int]
    peers: array[int]
    templates: array[int]

    @property
    def rate(self) -> float:
        """Requests a second, on average."""
        return len(self.due_ns) / max(1e-9, self.due_ns[-1] / 1e9)


def plan(source: Traffic, copies: int, *, speed: float = 1.0, spread_s: float = 0.0, seed: int = 1) -> Plan:
    """Every copy of every machine says its part.  speed: 2 is twice as fast; spread_s: copies begin within that time.

    Host number: copy x machines + machine."""
    if speed <= 0 or copies < 1:
        raise ValueError(f"{copies} copies at speed {speed}: wanted at least one, and a speed above 0")
    draw = random.Random(seed)
    rows = []
    for copy in range(copies):
        begin = draw.uniform(0.0, spread_s)
        first = copy * len(source.macs)
        rows += [(int((begin + each.time_s / speed) * 1e9), first + each.machine, each.form) for each in source.said]
    rows.sort()
    earliest = rows[0][0]
    return Plan(
        array("q", (due - earliest for due, *_ in rows)),
        array("I", (peer for _due, peer, _form in rows)),
        array("H", (form for *_, form in rows)),
    )


def start(
    target: Target,
    people: Population,
    forms: Sequence[Form],
    planned: Plan,
    *,
    limit_s: float,
    core: int | None = None,
    seed: int = 1,
) -> Load:
    """Begin to send; the forms' order is that of the plan's templates."""
    sock, known = target.open()
    try:
        blast = Blast(
            sock.fileno(),
            **known,
            templates=len(forms),
            first_xid=random.Random(seed).getrandbits(32),
            limit_ns=int(limit_s * 1e9),
            moment_ns=max(1_000_000, planned.due_ns[-1] // 1000),
        )
        blast.set_peers(*people.arrays())
        for each in forms:
            add(blast, each)
        blast.plan(planned.due_ns, planned.peers, planned.templates)
        return Load(blast, sock, planned.rate, limit_s, core)
    except BaseException:
        sock.close()
        raise


@click.command("replay")
@click.argument("pcap", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@target_options(1)
@record_options
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="2: twice as fast."
)
@click.option("--spread", default=0.0, show_default=True, help="Copies of a machine begin within so many seconds.")
@click.option("--option-82/--no-option-82", default=True, show_default=True, help="Relays add it, replies echo it.")
def replay_command(
    pcap: tuple[Path, ...],
    speed: float,
    spread: float,
    option_82: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
    **chosen_options: Any,
) -> None:
    """What a capture's clients said, by --hosts hosts at least, every reply checked.  Exit 1 unless each was right."""
    relayed = not chosen_options["ifname"]
    source = traffic(pcap, circuit=option_82 and relayed)
    copies = -(-chosen_options["hosts"] // len(source.macs))
    chosen_options["hosts"] = copies * len(source.macs)
    chosen = Chosen(**chosen_options)
    people = chosen.people()
    planned = plan(source, copies, speed=speed, spread_s=spread, seed=seed)
    scenario = chosen.scenario() | {"pcap": [path.name for path in pcap], "copies": copies, "speed": speed}
    begun = record.begin("replay", scenario | {"spread_s": spread}, seed)
    tell(f"{len(source.forms)} distinct requests of {len(source.macs)} machines, {copies} copies of each machine")
    with place(chosen, people) as (target, stage, core):
        watch, before = record.Watch(), stage.service() if stage else {}
        with progress("replay", len(planned.due_ns)) as bar:
            going = start(target, people, source.forms, planned, limit_s=LIMIT_S, core=core, seed=seed)
            found = going.wait(bar)
        begun |= server_used(stage, before) | {"disturbance": watch.figures(found.stalled_s), "best": found.record()}
    for line in found.lines():
        click.echo(line)
    if source.skipped:
        click.echo(f"left out: {source.skipped} requests without a DHCP message type of a client")
    drawn = draw_load(found, record.resolved(picture), f"replay of {len(pcap)} captures") if picture else None
    finish(begun, file, drawn)
    if found.wrong or found.duplicate or found.lost:
        raise click.ClickException(
            f"{found.lost} requests without a reply, {found.wrong} wrong, {found.duplicate} replies too many; "
            f"p99 {milliseconds(found.latency.percentile(99))}"
        )
