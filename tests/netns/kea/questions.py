"""Requests for two servers to be asked alike: the captures', and a seeded set over states, relays, ids and sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.ext.captures import dhcp_captures
from tests.ext.exchanges import FAR, NEAR, PERF, exchanges
from tests.ext.packets import (
    BROADCAST,
    BROADCAST_FLAG,
    DECLINE,
    RELEASE,
    Parsed,
    discover,
    inform,
    ip,
    message,
    request,
    tlv,
)

SEED, COUNT = 2131, 300
STRANGER = 0x0200000000FF
LOOPBACK = "192.0.2.1"  # a relay's, in no network of the site
CAPTURED_MOST = 40  # of one file: perfdhcp's 400 are all of a kind


@dataclass(frozen=True)
class Question:
    """ifname: the wire.  A machine that has no relay sends from its own MAC."""

    name: str
    ifname: str
    payload: bytes
    source: int
    source_port: int
    destination: int

    @property
    def asked(self) -> Parsed:
        return Parsed.of(self.payload)


@dataclass(frozen=True)
class Link:
    """Where a machine may stand: the wire, its relay if any, who serves it there, its addresses there."""

    name: str
    ifname: str
    giaddr: str
    server: str
    addresses: dict[int, str]
    agent: bytes = b""


NEAR_HOSTS = {0x02E2E0000011: "10.88.0.11", 0x525400E20001: "10.88.0.21"} | {
    0x525400E20100 + i: f"10.88.0.{100 + i}" for i in range(4)
}
FAR_HOSTS = {0x02E2E0000011: "10.77.0.11", 0x525400E20001: "10.77.0.21"}
PERF_HOSTS = {0x000C01020304 + i: f"10.96.1.{i}" for i in range(6)}
DECLINING = {0x000C01020304 + i: f"10.96.1.{i}" for i in range(100, 200)}  # nothing else is asked of these
CIRCUIT = tlv(1, b"Ethernet12") + tlv(2, b"\x00\x06switch")
LINKS = (
    Link("near", NEAR.ifname, "", NEAR.address, NEAR_HOSTS),
    Link("far", FAR.ifname, "", FAR.address, FAR_HOSTS),
    Link("perf", PERF.ifname, "", PERF.address, PERF_HOSTS),
    Link("relay", NEAR.ifname, "10.77.0.1", NEAR.address, FAR_HOSTS),
    Link("relay-82", NEAR.ifname, "10.77.0.1", NEAR.address, FAR_HOSTS, CIRCUIT),
    Link("relay-perf", PERF.ifname, "10.96.255.2", PERF.address, PERF_HOSTS),
    Link("relay-82.5", NEAR.ifname, LOOPBACK, NEAR.address, FAR_HOSTS, CIRCUIT + tlv(5, "10.77.0.0")),
    Link("relay-82.11", NEAR.ifname, "10.77.0.1", "10.77.0.1", FAR_HOSTS, tlv(11, "10.77.0.1")),
    Link("relay-82.19", NEAR.ifname, "10.77.0.1", NEAR.address, FAR_HOSTS, tlv(19)),
)
VENDORS = (b"", b"", tlv(60, b"udhcp 1.35.0"), tlv(60, b"PXEClient:Arch:00007:UNDI:003016") + tlv(93, b"\0\7"),
           tlv(60, b"HTTPClient:Arch:00016:UNDI:003001") + tlv(93, b"\0\x10"), tlv(60, b"iDRAC"))  # fmt: skip
LISTS = (b"", tlv(55, bytes((1, 3, 6, 12, 15, 28, 42))), tlv(55, bytes((1, 3))), tlv(55, bytes((66, 67, 43, 60, 12))))
SIZES = (b"", b"", tlv(57, b"\x02\x40"), tlv(57, b"\x01\x2c"), tlv(57, b"\x05\xdc"), tlv(57, b"\xff\x00"))
Builder = Callable[..., bytes]


def captured() -> Iterator[Question]:
    """Those in which somebody declines come last: a server with leases never forgives."""
    for name in sorted(dhcp_captures(), key=lambda name: "decline" in name):
        for each in exchanges(name)[:CAPTURED_MOST]:
            one = each.asked
            yield Question(one.name, each.wire.ifname, one.payload, one.source, one.source_port, one.destination)


class Draw:
    """The seeded set: every request says how it was made in its name."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.number = 0

    def dress(self, mac: int) -> tuple[bytes, dict[str, object]]:
        """Options and header fields that must not change who gets what."""
        chance = self.chance
        ids = (b"", b"", b"\x01" + mac.to_bytes(6, "big"), b"\xff" + chance.randbytes(18), b"\x00node", bytes(17))
        picked = chance.choice(ids)
        options = chance.choice(VENDORS) + chance.choice(LISTS) + chance.choice(SIZES)
        options += tlv(61, picked) if picked else b""
        fields: dict[str, object] = {
            "flags": chance.choice((0, 0, BROADCAST_FLAG)),
            "secs": chance.choice((0, 0, 4, 27497, 0xFFFF)),
            "hops": chance.choice((0, 1, 3, 16)),
            "xid": chance.getrandbits(32),
            "end": b"\xff".ljust(chance.choice((1, 1, 60, 200)), b"\0"),
        }
        return options, fields

    def ask(self, what: str, link: Link, make: Builder, mac: int, *, ciaddr: str = "", **more: object) -> Question:
        """ciaddr: the machine has that address, and sends from it by unicast unless a relay does."""
        options, fields = self.dress(mac)
        own = more.pop("options", b"")
        to_all = more.pop("to_all", not ciaddr)
        assert isinstance(own, bytes)
        fields |= more | {"options": own + options, "agent": link.agent}
        fields |= {"giaddr": link.giaddr} if link.giaddr else {"hops": 0}
        fields |= {"ciaddr": ciaddr} if ciaddr and make is not inform else {}
        payload = make(mac, ciaddr, **fields) if make is inform else make(mac, **fields)
        self.number += 1
        name = f"{self.number}-{what}-{link.name}"
        if link.giaddr:
            port = 1067 if link.name == "relay-82.19" else 67
            source = "10.96.255.2" if link.ifname == PERF.ifname else "10.88.0.2"
            return Question(name, link.ifname, payload, ip(source), port, ip(self.at(link)))
        destination = BROADCAST if to_all else ip(self.at(link))
        return Question(name, link.ifname, payload, ip(ciaddr) if ciaddr else 0, 68, destination)

    @staticmethod
    def at(link: Link) -> str:
        """The server's own address there."""
        return {NEAR.ifname: NEAR.address, FAR.ifname: FAR.address, PERF.ifname: PERF.address}[link.ifname]

    def lease(self, link: Link, mac: int) -> list[Question]:
        """DISCOVER and REQUEST: whoever keeps leases has one afterwards."""
        picked = {"requested": link.addresses[mac], "server_id": link.server}
        return [self.ask("DISCOVER", link, discover, mac), self.ask("SELECTING", link, request, mac, **picked)]

    def drawn(self) -> list[Question]:
        chance = self.chance
        link = chance.choice(LINKS)
        mac = chance.choice(list(link.addresses))
        own = link.addresses[mac]
        net = own.rpartition(".")[0]
        wrong = chance.choice((f"{net}.222", next(each for each in NEAR_HOSTS.values() if each != own), "192.168.7.7"))
        kinds: list[Callable[[], list[Question]]] = [
            lambda: self.lease(link, mac),
            lambda: [self.ask("DISCOVER-50", link, discover, mac, options=tlv(50, wrong))],
            lambda: [self.ask("DISCOVER-ciaddr", link, discover, mac, ciaddr=own, to_all=True)],
            lambda: [self.ask("stranger", link, discover, STRANGER)],
            lambda: [self.ask("SELECTING-wrong", link, request, mac, requested=wrong, server_id=link.server)],
            lambda: [self.ask("SELECTING-other", link, request, mac, requested=own, server_id="10.88.0.77")],
            lambda: [self.ask("INIT-REBOOT", link, request, mac, requested=own)],
            lambda: [self.ask("INIT-REBOOT-wrong", link, request, mac, requested=wrong)],
            lambda: [self.ask("RENEWING", link, request, mac, ciaddr=own)],
            lambda: [self.ask("REBINDING", link, request, mac, ciaddr=own, to_all=True)],
            lambda: [self.ask("RENEWING-wrong", link, request, mac, ciaddr=f"{net}.222")],
            lambda: [self.ask("REQUEST-of-nothing", link, request, mac)],
            lambda: [self.ask("INFORM", link, inform, mac, ciaddr=own)],
            lambda: [self.ask("INFORM-wrong", link, inform, mac, ciaddr=f"{net}.222")],
            lambda: [self.ask("RELEASE", link, self.release(link), mac, ciaddr=own), *self.lease(link, mac)],
            self.declining,
        ]
        return chance.choice(kinds)()

    def declining(self) -> list[Question]:
        link = replace(
            self.chance.choice([each for each in LINKS if each.addresses is PERF_HOSTS]), addresses=DECLINING
        )
        mac = self.chance.choice(list(DECLINING))
        decline = self.decline(link, DECLINING[mac])
        return [*self.lease(link, mac), self.ask("DECLINE", link, decline, mac), self.ask("again", link, discover, mac)]

    @staticmethod
    def release(link: Link) -> Builder:
        def make(mac: int, *, options: bytes, **fields: object) -> bytes:
            return message(RELEASE, mac, tlv(54, link.server) + options, **fields)  # type: ignore[arg-type]

        return make

    @staticmethod
    def decline(link: Link, address: str) -> Builder:
        def make(mac: int, *, options: bytes, **fields: object) -> bytes:
            named = tlv(50, address) + tlv(54, link.server)
            return message(DECLINE, mac, named + options, **fields)  # type: ignore[arg-type]

        return make


def generated(seed: int = SEED, count: int = COUNT) -> Iterator[Question]:
    """First a lease for everybody everywhere, then at least `count` requests at random."""
    draw = Draw(seed)
    for link in LINKS[:3]:
        for mac in link.addresses:
            yield from draw.lease(link, mac)
    while draw.number < count:
        yield from draw.drawn()
