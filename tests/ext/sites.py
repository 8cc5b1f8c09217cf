"""The small datacenter that most tests ask, and short ways to build another and to ask it.

ifindex 2 has 10.1.0.1/24 (primary) and 10.2.0.1/24; 3 has 10.3.0.1/24; 4 has 172.31.0.1/24, which the inventory does
not know.  10.9.0.0/24 and 10.8.0.0/24 stand behind relays.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ext.builder import TEMPLATE_FLAGS, Builder, Surroundings
from ext.classify import ClientClass
from ext.codec import Reply
from ext.leases import LeaseState

from ext import codec, table
from tests.ext.packets import BROADCAST, ip, tlv

ALICE, TWO, REMOTE, OWN_ID, PUBLIC = (0x020000000000 + i for i in range(1, 6))
DISABLED, NO_ADDRESS, CONFLICT, QUARANTINED, THIEF, PROXIED, NOTHING_TO_BOOT = (0x020000000010 + i for i in range(7))
OTHER_PORT, HELD = 0x020000000017, 0x020000000018
NOTHING: Mapping[str, Any] = MappingProxyType({})
STRANGER = 0x0200000000FF
STATES = {DISABLED: 1, NO_ADDRESS: 2, CONFLICT: 3, QUARANTINED: 4}
SERVED = (0x0A010000, 0x0A020000, 0x0A030000, 0x0A090000, 0x0A080000)
NETWORKS = tuple((first, first + 255) for first in SERVED)
LINKS = (
    (2, ip("10.1.0.1"), 24, 1500, True),
    (2, ip("10.2.0.1"), 24, 1500, True),
    (3, ip("10.3.0.1"), 24, 1500, False),
    (4, ip("172.31.0.1"), 24, 1500, False),
)
BROADCAST_FLAG, BOOTS = TEMPLATE_FLAGS["broadcast"], TEMPLATE_FLAGS["boots"]
PROXY_OPTIONS = tlv(43, b"\6\1\x08\xff") + tlv(60, b"PXEClient")  # discovery control 8
OPTIONS = tlv(1, "255.255.255.0") + tlv(3, "10.1.0.254")


def surroundings(**changes: Any) -> Surroundings:
    return Surroundings(**{"networks": NETWORKS, "links": LINKS, **changes})


def generation(builder: Builder, number: int = 1, around: Surroundings | None = None) -> table.Generation:
    """Seal, map, verify."""
    fd = builder.seal(number, around or surroundings(), created_s=5)
    try:
        made = table.Generation(fd)
    finally:
        os.close(fd)
    made.verify()
    return made


def hosts() -> Builder:
    builder = Builder()
    plain = builder.add_template(options=OPTIONS, file=b"/pxelinux.0", siaddr=ip("10.1.0.5"))
    own_id = builder.add_template(options=OPTIONS, server_id=ip("10.99.0.7"))
    builder.add_host(ALICE, name=b"alice", own=tlv(12, b"alice"), leases=((ip("10.1.0.50"), 24, plain),))
    both = ((ip("10.1.0.60"), 24, plain), (ip("10.9.0.60"), 24, plain))
    builder.add_host(TWO, name=b"two", own=tlv(12, b"two"), leases=both)
    builder.add_host(REMOTE, name=b"remote", leases=((ip("10.9.0.70"), 24, plain),))
    builder.add_host(OWN_ID, name=b"own-id", leases=((ip("10.1.0.80"), 24, own_id),))
    builder.add_host(PUBLIC, name=b"second", leases=((ip("10.2.0.90"), 24, plain),))
    for mac, state in STATES.items():
        builder.add_host(mac, name=b"unserved", state=state)
    add_proxied(builder)
    builder.add_host(THIEF, name=b"thief", leases=((ip("10.1.0.1"), 24, plain),))  # bound to the server's own address
    return builder


def add_proxied(builder: Builder) -> None:
    """Hosts whose address another server gives: with a boot file for all but `os`, and without any."""
    boots = {"options": PROXY_OPTIONS, "file": b"/pxelinux.0", "siaddr": ip("10.1.0.5")}
    roms = range(ClientClass.OS + 1, ClientClass.PXE)
    variants = {int(client): boots | {"flags": BROADCAST_FLAG | BOOTS} for client in roms}
    booting = builder.add_template(flags=BROADCAST_FLAG, variants=variants)
    builder.add_host(PROXIED, name=b"proxied", state=5, leases=((0, 32, booting),))
    nothing = builder.add_template(flags=BROADCAST_FLAG)
    builder.add_host(NOTHING_TO_BOOT, name=b"nothing", state=5, leases=((0, 32, nothing),))


def site(**changes: Any) -> table.Pair:
    """The datacenter of this module; changes go into its Surroundings."""
    builder = hosts()
    builder.add_host(OTHER_PORT, name=b"unserved", state=int(LeaseState.OTHER_PORT), port=2)
    builder.add_host(HELD, name=b"held", state=int(LeaseState.HELD))
    return table.Pair(generation(builder, around=surroundings(**changes)))


def one_host(
    *,
    mac: int = ALICE,
    address: str = "10.1.0.50",
    prefix: int = 24,
    options: bytes = OPTIONS,
    own: bytes = b"",
    around: dict[str, Any] | None = None,
    **template: Any,
) -> table.Pair:
    builder = Builder()
    index = builder.add_template(options=options, **template)
    builder.add_host(mac, name=b"one", own=own, leases=((ip(address), prefix, index),))
    return table.Pair(generation(builder, around=surroundings(**(around or {}))))


def ask(pair: table.Pair | None, payload: bytes, **place: Any) -> Reply:
    """A broadcast on ifindex 2 unless said otherwise."""
    return codec.answer(pair, payload, **{"ifindex": 2, "local": ip("10.1.0.1"), **place})


def broadcast(ifindex: int = 2, local: str = "10.1.0.1") -> dict[str, Any]:
    return {"ifindex": ifindex, "destination": BROADCAST, "local": ip(local)}


def unicast(to: str = "10.1.0.1", source: str = "10.1.0.50", ifindex: int = 2, port: int = 68) -> dict[str, Any]:
    return {
        "ifindex": ifindex, "destination": ip(to), "local": ip(to), "source": ip(source), "source_port": port,
    }  # fmt: skip


def boot_port(source: str = "10.1.0.150", port: int = 68, ifindex: int = 2) -> dict[str, Any]:
    """By unicast to port 4011."""
    return unicast(source=source, port=port, ifindex=ifindex) | {"at_boot_port": True}


def relayed(relay: str = "10.9.0.1", to: str = "10.1.0.1", port: int = 67) -> dict[str, Any]:
    return unicast(to, relay, 2, port)


def addresses(texts: Sequence[str]) -> tuple[int, ...]:
    return tuple(ip(text) for text in texts)
