"""Where the fuzzer's inputs are asked: four sites as sealed generations, and the Place that every input begins with.

An input is 24 bytes of Place, all numbers in network order, then the datagram.  The harness maps the same sites from
files; harness.pyx has the same Place as a struct.
"""

import os
import struct
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from ext.builder import TEMPLATE_FLAGS, Builder, Surroundings
from ext.classify import ClientClass
from ext.codec import Reply
from ext.leases import LeaseState

from ext import codec, table
from tests.ext import inventory
from tests.ext.packets import BROADCAST, ip, mac_bytes, tlv
from tests.ext.sites import (
    ALICE,
    BOOTS,
    BROADCAST_FLAG,
    HELD,
    NETWORKS,
    NOTHING_TO_BOOT,
    OPTIONS,
    OTHER_PORT,
    OWN_ID,
    PROXIED,
    PROXY_OPTIONS,
    REMOTE,
    STRANGER,
    TWO,
    hosts,
)

CORPUS = Path(__file__).parent / "corpus"
TX_BYTES_MAX = 1508  # UDP payload in a worker's reply buffer
TRUNCATED, NO_TABLE, AT_BOOT_PORT = 1, 2, 4  # Place.flags
WAITED_NS = 16_000_000  # a unit of Place.waited: 4 s in all, more than any client waits
PLAIN, CHANGED, LIMITED, FOREIGN, CLASSED = range(5)  # Place.site

LONG, VARIANTS, TINY_MTU, POINT_TO_POINT, ALONE, WIDE, BMC, NEW, FLAGGED, LONG_PROXIED = (
    0x020000000020 + i for i in range(10)
)
GUID = bytes.fromhex("0002c90300a1b2c3")  # an InfiniBand port's, and the MAC that firmware makes of it
PSEUDO = int.from_bytes(GUID[:3] + GUID[5:], "big")
RULES = (("vendor_class", "bmc", b"udhcp 0.9."), ("user_class", "bmc", b"BMC"), ("client_id", "host", b"\0host"),
         ("requested_options", "bmc", b"\1\3"), ("other_mac", "bmc", b""))  # fmt: skip
VIP, REPLICA = ip("10.99.0.1"), ip("10.99.0.2")
LINKS = (
    (2, ip("10.1.0.1"), 24, 1500, True),
    (2, ip("10.2.0.1"), 24, 1500, True),
    (2, ip(inventory.SERVER), 24, 1500, True),
    (3, ip("10.3.0.1"), 24, 1500, False),
    (3, ip(inventory.KEA), 16, 1500, False),
    (4, ip("172.31.0.1"), 24, 1500, False),
    (4, ip("10.77.0.2"), 24, 1500, True),
    (5, ip("10.7.0.1"), 24, 420, True),
    (6, ip("10.6.0.1"), 31, 9000, True),
)


@dataclass(frozen=True)
class Place:
    """How a datagram came in.  Addresses are ints in host order; capacity 0: the whole reply buffer.

    waited: in the queue of a worker that does not keep up, in WAITED_NS."""

    site: int = PLAIN
    ifindex: int = 2
    flags: int = 0
    waited: int = 0
    source_port: int = 68
    capacity: int = 0
    source: int = 0
    destination: int = BROADCAST
    local: int = LINKS[0][1]
    age_s: int = 0

    FORM = struct.Struct("!BBBBHHIIIi")

    def packed(self) -> bytes:
        return self.FORM.pack(*astuple(self))

    @classmethod
    def of(cls, case: bytes) -> "Place":
        return cls(*cls.FORM.unpack_from(case))

    @property
    def room(self) -> int:
        """Bytes that the reply may have."""
        return min(self.capacity or TX_BYTES_MAX, TX_BYTES_MAX)


def population() -> Builder:
    """Everybody of tests/ext/sites.py and of the captures, and hosts with something unusual about them."""
    builder = hosts()
    plain = builder.add_template(options=OPTIONS, file=b"boot.ipxe", siaddr=ip(inventory.SERVER))
    for mac, (name, addresses) in inventory.known_hosts().items():
        leases = tuple((ip(text), 16 if text.startswith("10.96.") else 24, plain) for text in addresses)
        builder.add_host(mac, name=name.encode(), own=tlv(12, name.encode()), leases=leases)
    blob = b"".join(tlv(code, bytes((code,)) * (code % 97)) for code in range(214, 254))
    blob += tlv(43, b"a" * 255) + tlv(43, b"b")  # more than fits, one option in two parts (RFC 3396)
    long = builder.add_template(options=OPTIONS + blob, file=b"f" * 127)
    long_free = builder.add_template(options=OPTIONS + blob)  # its file field is free for options
    both = ((ip("10.1.0.51"), 24, long), (ip("10.9.0.51"), 24, long_free))
    builder.add_host(LONG, name=b"long", own=tlv(12, b"l" * 63) * 5, leases=both)
    each = {
        client: {
            "options": OPTIONS + tlv(224, bytes((client,))),
            "file": str(client).encode(),
            "server_id": VIP + client,
        }
        for client in map(int, ClientClass)
    }
    mine = {name: {"options": OPTIONS + tlv(225, name.encode())} for name in ("vendor", "board", "narrow")}
    variants = builder.add_template(options=OPTIONS, variants=each | mine)
    builder.add_host(VARIANTS, name=b"variants", leases=((ip("10.1.0.52"), 24, variants),))
    builder.add_host(TINY_MTU, name=b"tiny", leases=((ip("10.7.0.50"), 24, plain),))
    builder.add_host(POINT_TO_POINT, name=b"p2p", leases=((ip("10.6.0.0"), 31, plain),))
    builder.add_host(ALONE, name=b"alone", leases=((ip("10.9.1.1"), 32, plain),))
    builder.add_host(WIDE, name=b"wide", leases=((ip("10.5.0.5"), 0, plain),))
    builder.add_host(BMC, name=b"bmc", leases=((ip("10.1.0.53"), 24, plain),), role=1)
    builder.add_host(LONG, name=b"long", leases=((ip("10.1.0.54"), 24, plain),), role=1)
    builder.add_host(PSEUDO, name=b"ib", leases=((ip("10.1.0.55"), 24, plain),))
    flagged = builder.add_template(options=OPTIONS + blob, flags=sum(TEMPLATE_FLAGS.values()))
    builder.add_host(FLAGGED, name=b"flagged", leases=((ip("10.1.0.56"), 24, flagged),))
    proxied = builder.add_template(options=PROXY_OPTIONS + blob, flags=BROADCAST_FLAG | BOOTS)
    builder.add_host(OTHER_PORT, name=b"unserved", state=int(LeaseState.OTHER_PORT), port=2)
    builder.add_host(HELD, name=b"held", state=int(LeaseState.HELD))
    builder.add_host(LONG_PROXIED, name=b"long-proxied", own=tlv(15, b"l" * 63), state=5, leases=((0, 32, proxied),))
    return builder


def changes(base: table.Generation) -> Builder:
    """A delta: one host moved, one gone, one new, one in quarantine."""
    builder = Builder(base)
    index = builder.add_template(options=OPTIONS, file=b"/changed")
    builder.add_host(ALICE, name=b"alice", leases=((ip("10.1.0.99"), 24, index),))
    builder.add_host(NEW, name=b"new", leases=((ip("10.1.0.98"), 24, index), (ip("10.9.0.98"), 24, index)))
    builder.add_host(OWN_ID, name=b"own-id", state=4)
    builder.add_tombstone(REMOTE)
    return builder


def sealed(builder: Builder, number: int, around: Surroundings) -> tuple[table.Generation, bytes]:
    fd = builder.seal(number, around, created_s=5)
    try:
        made, content = table.Generation(fd), os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    made.verify()
    return made, content


@cache
def sites() -> tuple[tuple[table.Pair, dict[str, bytes], Surroundings], ...]:
    """One for each Place.site: the pair, its generations as files, and what it knows of itself."""
    known = Surroundings(networks=(*NETWORKS, *((first, first + 255) for first in map(ip, MORE_NETWORKS))), links=LINKS)
    changed = Surroundings(
        networks=known.networks, links=((2, ip("10.1.0.2"), 24, 1500, True), *LINKS[1:]), server_id=VIP,
        server_ids=(REPLICA, ip("10.3.0.1")), bootp=True, rules=RULES,
    )  # fmt: skip
    limited = Surroundings(
        networks=known.networks, links=LINKS, interfaces_limited=True, server_id=ip("10.3.0.1"), server_ids=(REPLICA,),
        relays=((ip("10.9.0.0"), 24), (ip("10.88.0.2"), 32)), max_nak_age_s=0,
    )  # fmt: skip
    foreign = Surroundings(links=((4, ip("172.31.0.1"), 24, 68, True),), server_id=VIP)
    classed = Surroundings(networks=known.networks, links=LINKS, classes=CLASSES, shared=SHARED)
    made = []
    for number, around in enumerate((known, known, limited, foreign, classed), 1):
        base, content = sealed(population(), number, around)
        files = {"base": content}
        delta = None
        if number - 1 == CHANGED:
            delta, files["delta"] = sealed(changes(base), 100, changed)
        made.append((table.Pair(base, delta), files, changed if delta is not None else around))
    return tuple(made)


# Rules over every field, texts that begin with each other among them; and two networks on one link.
CLASSES = (
    ("narrow", "vendor", (("vendor_class", ((b"vendor:x", True),)), ("user_class", ((b"user", False), (b"us", True))))),
    ("vendor", "os", (("vendor_class", ((b"vendor:", True), (b"vendor", False), (b"v", False))),)),
    ("board", "uefi-x64", (("machine_guid", ((bytes(9), True),)), ("architecture", ((7, 9),)))),
    ("client", "ipxe", (("client_id", ((b"\x01", True),)), ("present", (43, 200)))),
    ("far", "os", (("relay", ((ip("10.9.0.0"), ip("10.9.0.255")),)), ("enterprise", ((9, 9), (42623, 42623))))),
    ("here", "bios-pxe", (("link", ((ip("10.1.0.0"), ip("10.1.0.255")),)), ("mac", ((TWO, TWO),)))),
)
SHARED = ((ip("10.1.0.0"), ip("10.1.0.255"), 1), (ip("10.9.0.0"), ip("10.9.0.255"), 1))
MORE_NETWORKS = ("10.88.0.0", "10.77.0.0", "10.96.0.0", "10.96.1.0", "10.7.0.0", "10.6.0.0")
HOSTS = (
    ALICE,
    TWO,
    REMOTE,
    OWN_ID,
    STRANGER,
    LONG,
    VARIANTS,
    TINY_MTU,
    POINT_TO_POINT,
    ALONE,
    WIDE,
    BMC,
    NEW,
    PSEUDO,
    FLAGGED,
    PROXIED,
    NOTHING_TO_BOOT,
    LONG_PROXIED,
    HELD,
    OTHER_PORT,
)


def addresses(pair: table.Pair, mac: bytes, role: int) -> set[int]:
    """What the table binds to a MAC in a role, {0} where another server does; empty for a stranger and for who is not
    answered."""
    row = pair.lookup(int.from_bytes(mac, "big"), role)
    answered = row is not None and row["state"] in ("served", "proxied")
    return {lease["address"] for lease in row["leases"]} if answered else set()


def ask(case: bytes) -> Reply:
    """One input through the packet path, by its Python face."""
    place = Place.of(case)
    pair = None if place.flags & NO_TABLE else sites()[place.site % len(sites())][0]
    return codec.answer(
        pair, case[Place.FORM.size :], ifindex=place.ifindex, source=place.source, source_port=place.source_port,
        destination=place.destination, local=place.local, truncated=bool(place.flags & TRUNCATED),
        age_s=place.age_s, capacity=place.room, at_boot_port=bool(place.flags & AT_BOOT_PORT),
        waited_ns=place.waited * WAITED_NS,
    )  # fmt: skip


def write_sites(folder: Path) -> None:
    """The files that the harness maps: N.base, and N.delta where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_, files, _) in enumerate(sites()):
        for kind, content in files.items():
            (folder / f"{number}.{kind}").write_bytes(content)


def write_dictionary(path: Path) -> None:
    """libFuzzer's -dict: addresses and MACs of the sites, option heads that the packet path knows."""
    words = [mac_bytes(mac) for mac in HOSTS]
    words += [link[1].to_bytes(4, "big") for link in LINKS]
    words += [ip(text).to_bytes(4, "big") for text in ("10.1.0.50", "10.9.0.60", "10.9.0.1", "10.9.0.255", "10.1.0.99")]
    words += [tlv(53, kind) for kind in range(1, 9)] + [tlv(52, fields) for fields in (1, 2, 3)]
    words += [bytes((code, 4)) for code in (50, 54, 118)] + [bytes((57, 2)), bytes((255,))]
    words += [bytes((code,)) for code in (55, 60, 61, 77, 82, 93, 97, 175)]
    words += [
        tlv(82, tlv(5, "10.9.0.0")),
        tlv(82, tlv(19)),
        tlv(175, bytes((19, 1, 1))),
        tlv(77, b"iPXE"),
        tlv(77, b"\4iPXE"),
    ]
    words += [GUID, b"\x20" + GUID, *(text for _, _, text in RULES if text)]
    words += [b"PXEClient:Arch:00007", b"HTTPClient", b"gPXE", b"\0RPi", b"\0" + b"D" * 8]
    path.write_text("".join('"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n' for word in words))
