"""Writes the corpus: `python -m tests.fuzz.scenarios`.  One file an input, named by what happens in it.

From real captures, one of each shape; from the tables of tests/ext; and bad input made by hand.  Files with other
names (found-...) are findings that somebody added, and stay.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from tests.ext.answering.test_destination import WAYS
from tests.ext.answering.test_judge import CASES
from tests.ext.captures import datagrams, dhcp_captures
from tests.ext.inventory import LINKS as CAPTURE_LINKS
from tests.ext.packets import (
    BROADCAST,
    DECLINE,
    DISCOVER,
    INFORM,
    RELEASE,
    REQUEST,
    discover,
    inform,
    ip,
    message,
    request,
    tlv,
)
from tests.ext.sites import ALICE, CONFLICT, PROXIED, REMOTE, STRANGER, THIEF, TWO
from tests.fuzz.population import (
    ALONE,
    AT_BOOT_PORT,
    BMC,
    CHANGED,
    CLASSED,
    CORPUS,
    FLAGGED,
    FOREIGN,
    GUID,
    LIMITED,
    LONG,
    LONG_PROXIED,
    NEW,
    NO_TABLE,
    POINT_TO_POINT,
    TINY_MTU,
    TRUNCATED,
    VARIANTS,
    VIP,
    WIDE,
    Place,
    ask,
)

Input = tuple[str, bytes, Place]
RELAY = Place(source=ip("10.9.0.1"), source_port=67, destination=ip("10.1.0.1"))
ON_LINK = Place(source=ip("10.1.0.50"), destination=ip("10.1.0.1"))
HERE = Place()
EVERYTHING = bytes(range(1, 255))


def from_place(place: dict[str, Any], site: int) -> Place:
    """A place of tests/ext/sites.py (keywords of codec.answer) as ours."""
    known = {field.name for field in fields(Place)}
    kept = {name: value for name, value in place.items() if name in known and name not in ("age_s", "capacity")}
    return Place(
        **kept, site=site,
        flags=(TRUNCATED if place.get("truncated") else 0) | (AT_BOOT_PORT if place.get("at_boot_port") else 0),
        age_s=max(-(2**31), min(place.get("age_s", 0), 2**31 - 1)),
        capacity=min(place.get("capacity", 0), 0xFFFF),
    )  # fmt: skip


def from_tables() -> Iterator[Input]:
    for name, case in CASES.items():
        yield f"judge-{name}", case.packet, from_place(dict(case.place), LIMITED if case.around else 0)
    for name, way in WAYS.items():
        yield f"destination-{name}", way.packet, from_place(dict(way.place), 0)


def shape(payload: bytes) -> tuple[object, ...]:
    """Requests of one shape differ in numbers only."""
    options = re.sub(rb"[^\x35\x37\x39\x3c\x3d\x4d\x52\x5d\x61\xaf]", b"", payload[240:300])
    return payload[1], len(payload), payload[10], payload[12:16] != bytes(4), payload[24:28] != bytes(4), options


def from_captures() -> Iterator[Input]:
    seen = set()
    for name in dhcp_captures():
        for datagram in datagrams(name):
            if datagram.payload[0] != 1 or (known := shape(datagram.payload)) in seen:
                continue
            seen.add(known)
            where = 3 if name.startswith("perfdhcp") else 4 if "-clientside" in name else 2
            ours = next(link[1] for link in CAPTURE_LINKS if link[0] == where)
            place = Place(
                ifindex=where, source=datagram.source, source_port=datagram.source_port,
                destination=datagram.destination,
                local=ours if datagram.destination == BROADCAST else datagram.destination,
            )  # fmt: skip
            yield f"captured-{datagram.name}", datagram.payload, place


def bad_options() -> Iterator[Input]:
    whole = discover(ALICE)
    for size in (0, 1, 28, 34, 236, 239, 240, 241, 242):
        yield f"truncated-header-at-{size}", whole[:size], HERE
    values = {50: 4, 52: 1, 53: 1, 54: 4, 55: 7, 57: 2, 60: 9, 61: 7, 77: 4, 82: 6, 93: 2, 97: 17, 118: 4, 175: 3}
    for code, length in values.items():
        cut = tlv(code, bytes(range(1, length + 1)))
        yield f"truncated-option-{code}", message(REQUEST, ALICE, cut[:-1], end=b""), HERE
        yield f"truncated-option-{code}-no-length", message(REQUEST, ALICE, cut[:1], end=b""), HERE
        yield f"option-{code}-one-too-short", message(REQUEST, ALICE, tlv(code, bytes(length - 1))), HERE
        yield f"option-{code}-empty", message(DISCOVER, ALICE, tlv(code)), HERE
        yield f"option-{code}-of-255", message(DISCOVER, ALICE, tlv(code, b"\1" * 255)), HERE
    yield "overlapping-length-swallows-the-end", message(DISCOVER, ALICE, b"\x37\x03\1\3", end=b"\xff"), HERE
    yield "overlapping-82-sub-option-past-its-end", discover(REMOTE, giaddr="10.9.0.1", agent=b"\5\x40\x0a\x09"), RELAY
    yield "overlapping-82-sub-option-without-length", discover(REMOTE, giaddr="10.9.0.1", agent=b"\1\1a\5"), RELAY
    yield "overlapping-175-feature-past-its-end", discover(VARIANTS, options=tlv(175, b"\x13\x09\1")), HERE
    yield "looping-1000-empty-options", message(DISCOVER, ALICE, tlv(200) * 1000), HERE
    yield "looping-pads-only", message(None, ALICE, bytes(1200)), HERE
    yield "looping-zero-length-82", discover(REMOTE, giaddr="10.9.0.1", options=tlv(82) * 100), RELAY
    yield "no-end", message(DISCOVER, ALICE, end=b""), HERE
    for kind in (0, 2, 5, 6, 9, 255):
        yield f"message-type-{kind}", message(kind, ALICE), HERE
    yield "message-type-of-two-octets", message(None, ALICE, tlv(53, b"\1\1")), HERE
    yield "message-type-twice", message(DISCOVER, ALICE, tlv(53, 3)), HERE
    yield "82-twice", discover(REMOTE, giaddr="10.9.0.1", options=tlv(82, tlv(1, b"forged")), agent=tlv(1, b"a")), RELAY
    yield "82-twice-empty-first", discover(REMOTE, giaddr="10.9.0.1", options=tlv(82), agent=tlv(1, b"a")), RELAY
    yield "82-without-giaddr", discover(ALICE, agent=tlv(5, "10.9.0.0") + tlv(19)), HERE
    yield (
        "82-and-61-of-255-leave-no-room",
        discover(TINY_MTU, options=tlv(61, b"c" * 255), agent=b"r" * 255),
        Place(ifindex=5),
    )


def overloads() -> Iterator[Input]:
    """Option 52, which says that file and sname hold options."""
    for said in (0, 1, 2, 3, 4, 255):
        yield f"52-says-{said}-of-empty-fields", discover(ALICE, options=tlv(52, said)), HERE
    itself = tlv(52, 3) + b"\xff"
    yield "52-pointing-into-itself", discover(ALICE, options=tlv(52, 3), file=itself, sname=itself), HERE
    yield "52-in-file-only", discover(ALICE, file=tlv(52, 3) + b"\xff"), HERE
    yield "52-file-points-to-sname", discover(ALICE, options=tlv(52, 1), file=tlv(52, 2), sname=tlv(52, 1)), HERE
    yield "52-message-type-in-file", message(None, ALICE, tlv(52, 1), file=tlv(53, 1) + b"\xff"), HERE
    yield "52-message-type-in-sname", message(None, ALICE, tlv(52, 2), sname=tlv(53, 1) + b"\xff"), HERE
    yield "52-option-across-the-end-of-file", discover(ALICE, options=tlv(52, 1), file=tlv(61, b"x" * 126)), HERE
    yield "52-length-past-the-end-of-sname", discover(ALICE, options=tlv(52, 2), sname=bytes(62) + b"\x3d\x40"), HERE
    yield "52-82-in-file", discover(ALICE, options=tlv(52, 1), file=tlv(82, tlv(19)) + b"\xff"), HERE
    yield "52-twice", discover(ALICE, options=tlv(52, 1) + tlv(52, 2), file=tlv(61, b"ab"), sname=tlv(61, b"cd")), HERE


def bad_fields() -> Iterator[Input]:
    for op in (0, 2, 3, 255):
        yield f"op-{op}", discover(ALICE, op=op), HERE
    for hlen in (0, 1, 5, 7, 16, 17, 255):
        yield f"hlen-{hlen}-ethernet", discover(ALICE, hlen=hlen), HERE
        yield f"hlen-{hlen}-other-hardware", discover(ALICE, hlen=hlen, htype=6), HERE
    yield "infiniband-20-octets", discover(ALICE, htype=32, hlen=20), HERE
    yield "infiniband-no-address", discover(0, htype=32, hlen=0), HERE
    yield "cookie-zero", discover(ALICE, cookie=bytes(4)), HERE
    yield "cookie-one-bit", discover(ALICE, cookie=bytes((99, 130, 83, 98))), HERE
    yield "bootp-without-options", message(None, ALICE), HERE
    yield "8kB-of-pads", message(DISCOVER, ALICE, bytes(7900)), HERE
    yield "8kB-of-options", message(DISCOVER, ALICE, tlv(77, b"u" * 255) * 30), HERE
    yield "8kB-of-82", message(DISCOVER, REMOTE, tlv(82, b"r" * 255) * 30, giaddr="10.9.0.1"), RELAY
    yield "8kB-cut-by-the-receive-buffer", message(DISCOVER, ALICE, bytes(7900))[:1536], Place(flags=TRUNCATED)
    addresses = {
        "nobody-s": "10.1.0.77", "another-host-s": "10.1.0.60", "ours": "10.1.0.1", "broadcast": "255.255.255.255",
        "loopback": "127.0.0.1", "multicast": "224.0.0.1", "zero-net": "0.0.0.1", "class-e": "240.0.0.1",
        "link-broadcast": "10.1.0.255", "host-network-broadcast": "10.9.0.255", "third-party": "192.0.2.1",
    }  # fmt: skip
    for what, address in addresses.items():
        yield f"ciaddr-{what}-renew", request(ALICE, ciaddr=address), ON_LINK
        yield f"ciaddr-{what}-inform", inform(ALICE, address), ON_LINK
        yield f"giaddr-{what}", discover(REMOTE, giaddr=address, agent=tlv(5, "10.9.0.0") + tlv(19)), RELAY
        yield f"giaddr-{what}-renew", request(TWO, ciaddr="10.9.0.60", giaddr=address), RELAY
    yield "giaddr-third-party-by-118", discover(REMOTE, giaddr="192.0.2.1", options=tlv(118, "10.9.0.0")), RELAY
    yield "ciaddr-of-the-thief-is-ours", request(THIEF, ciaddr="10.1.0.1"), ON_LINK


def of_site_classes() -> Iterator[Input]:
    """Each rule of the site with classes met, nearly met, and with its options where 52 hides them."""
    here, relay = Place(site=CLASSED), replace(RELAY, site=CLASSED)
    said = {
        "vendor": tlv(60, b"vendor:"), "vendor-exact": tlv(60, b"vendor"), "vendor-short": tlv(60, b"v"),
        "vendor-none": tlv(60, b"vendox"), "narrow": tlv(60, b"vendor:xy") + tlv(77, b"\4user"),
        "narrow-list-of-two": tlv(60, b"vendor:xy") + tlv(77, b"\1u\2se"),
        "board": tlv(97, bytes(17)) + tlv(93, b"\0\7"),
        "board-other": tlv(97, bytes(17)) + tlv(93, b"\0\x0b"), "client": tlv(61, b"\1abc") + tlv(200),
        "enterprise-short": tlv(124, b"\0\0\0"), "enterprise": tlv(124, b"\0\0\0\x09\0"),
        "enterprise-125": tlv(125, (42623).to_bytes(4, "big") + b"\0") + tlv(125, b"again"),
    }  # fmt: skip
    for name, options in said.items():
        for mac in (VARIANTS, TWO):
            yield f"class-{name}-{mac & 0xFF:02x}", discover(mac, options=options), here
        yield f"class-{name}-relayed", discover(REMOTE, giaddr="10.9.0.1", options=options), relay
    yield (
        "class-in-file",
        discover(VARIANTS, options=tlv(52, 1) + tlv(61, b"\1abc"), file=tlv(43, b"x") + b"\xff"),
        here,
    )
    yield "class-in-sname", discover(VARIANTS, options=tlv(52, 2), sname=tlv(124, b"\0\0\0\x09") + b"\xff"), here
    yield "class-options-cut-off", message(DISCOVER, VARIANTS, tlv(61, b"\1abc") + b"\xc8", end=b""), here
    yield "shared-network", discover(ALICE, giaddr="10.9.0.1"), relay
    yield "shared-network-reboot", request(ALICE, requested="10.1.0.50", giaddr="10.9.0.1"), relay


def reflected() -> Iterator[Input]:
    """Our own replies, as they are and made to look like requests."""
    asked = discover(ALICE, options=tlv(61, b"\1id"), agent=tlv(1, b"port"))
    offer = ask(HERE.packed() + asked).data
    ack = ask(HERE.packed() + request(LONG, requested="10.1.0.51", options=tlv(55, EVERYTHING))).data
    for name, data in (("offer", offer), ("ack-with-overload", ack)):
        if not data:
            raise RuntimeError(f"{name}: no reply to reflect")
        yield f"reflected-{name}", data, HERE
        yield (
            f"reflected-{name}-from-port-67",
            data,
            Place(source=ip("10.1.0.1"), source_port=67, destination=ip("10.1.0.1")),
        )
        yield f"reflected-{name}-with-op-1", b"\1" + data[1:], HERE
        yield f"reflected-{name}-with-op-1-as-discover", b"\1" + data[1:242] + b"\1" + data[243:], HERE


def unusual_hosts() -> Iterator[Input]:
    yield "variants-bios", discover(VARIANTS, options=tlv(60, b"PXEClient:Arch:00000:UNDI:002001")), HERE
    for arch in (0, 6, 7, 9, 11, 16, 99):
        yield (
            f"variants-arch-{arch}",
            discover(VARIANTS, options=tlv(60, b"PXEClient") + tlv(93, bytes((0, arch)))),
            HERE,
        )
    yield "variants-arch-not-digits", discover(VARIANTS, options=tlv(60, b"PXEClient:Arch:0x007:UNDI:3")), HERE
    yield "variants-http", discover(VARIANTS, options=tlv(60, b"HTTPClient:Arch:00016")), HERE
    yield "variants-raspberry", discover(VARIANTS, options=tlv(60, b"PXEClient") + tlv(97, b"\0RPi4" + bytes(12))), HERE
    yield "variants-ipxe-http", discover(VARIANTS, options=tlv(77, b"iPXE") + tlv(175, tlv(19, 1))), HERE
    yield "classify-ipxe-without-175", discover(VARIANTS, options=tlv(77, b"iPXE")), HERE
    yield "variants-ipxe-list", discover(VARIANTS, options=tlv(77, b"\4iPXE")), HERE
    for size in (0, 300, 576, 700, 1200, 0xFFFF):
        asks = tlv(57, size.to_bytes(2, "big")) + tlv(55, bytes((12, 43, 253, 214)))
        yield f"long-options-57-of-{size}", discover(LONG, options=asks), HERE
        yield f"long-options-57-of-{size}-file-is-free", discover(LONG, options=asks, giaddr="10.9.0.1"), RELAY
    for capacity in (1, 299, 300, 301, 400):
        yield f"long-options-capacity-{capacity}", discover(LONG), Place(capacity=capacity)
    yield "tiny-mtu", discover(TINY_MTU), Place(ifindex=5, local=ip("10.7.0.1"))
    yield "point-to-point", discover(POINT_TO_POINT), Place(ifindex=6, local=ip("10.6.0.1"))
    yield "point-to-point-relay", discover(POINT_TO_POINT, giaddr="10.6.0.0"), RELAY
    yield "prefix-32", request(ALONE, ciaddr="10.9.1.1"), Place(source=ip("10.9.1.1"), destination=ip("10.1.0.1"))
    yield "prefix-0", discover(WIDE), Place(ifindex=4)
    yield "bmc-row-is-not-the-host", discover(BMC), HERE
    yield "no-table", discover(ALICE), Place(flags=NO_TABLE)
    for name, kind in (("decline", DECLINE), ("release", RELEASE), ("inform", INFORM)):
        yield f"forged-{name}-for-another", message(kind, STRANGER, tlv(50, "10.1.0.50"), ciaddr="10.1.0.50"), HERE
        yield f"forged-{name}-by-another-host", message(kind, TWO, tlv(50, "10.1.0.50"), ciaddr="10.1.0.50"), HERE
    yield "conflict", request(CONFLICT, requested="10.1.0.77"), HERE


def who_asks() -> Iterator[Input]:
    here = Place(site=CHANGED, local=ip("10.1.0.2"))
    udhcp = tlv(60, b"udhcp 0.9.9-pre")
    for name, site in (("no-rules", HERE), ("rules", here)):
        yield f"role-{name}-udhcp", discover(LONG, options=udhcp), site
        yield f"role-{name}-other-mac", discover(LONG, options=tlv(61, b"\1\2\0\0\0\0\x77")), site
        yield f"role-{name}-bmc-card", discover(BMC), site
        yield f"role-{name}-no-address", discover(VARIANTS, options=udhcp), site
        yield f"bootp-{name}", message(None, LONG), site
        yield f"bootp-{name}-relayed", message(None, TWO, giaddr="10.9.0.1", agent=tlv(1, b"p")), site
        yield f"bootp-{name}-ciaddr", message(None, TWO, ciaddr="10.1.0.60"), site
        yield f"bootp-{name}-wrong-ciaddr", message(None, TWO, ciaddr="10.1.0.61"), site
        yield f"bootp-{name}-of-a-bmc", message(None, LONG, udhcp), site
    yield "role-user-class", discover(LONG, options=tlv(77, b"BMC")), here
    yield "role-client-id-host", discover(LONG, options=tlv(61, b"\0host7")), here
    yield "role-requested-options", discover(LONG, options=tlv(55, b"\1\3")), here
    for name, identity in (
        ("guid", b"\x20" + GUID), ("duid-ll", b"\xffiaid\0\3\0\x20" + GUID), ("48-bits", b"\x20" + GUID[:3] + GUID[5:]),
        ("too-short", b"\x20" + GUID[:4]), ("no-type", GUID),
    ):  # fmt: skip
        packet = message(DISCOVER, 0, tlv(61, identity), htype=32, hlen=0, flags=0x8000)
        yield f"infiniband-{name}", packet, HERE
        yield f"infiniband-{name}-rules", packet, here
    yield "flagged", discover(FLAGGED), HERE
    yield "flagged-renew", request(FLAGGED, ciaddr="10.1.0.56"), ON_LINK
    for code in (55, 60, 61, 77, 175):
        yield f"parts-of-{code}", discover(ALICE, options=tlv(code, b"a" * 200) + tlv(12) + tlv(code, b"b" * 200)), HERE
        yield f"parts-of-{code}-fill-all-room", discover(ALICE, options=tlv(code, b"\1" * 255) * 5), HERE
    yield "parts-of-61-echoed", discover(ALICE, options=tlv(57, b"\5\xdc") + tlv(61, b"i" * 255) * 2), HERE
    yield "parts-by-turns", discover(ALICE, options=(tlv(61, b"i" * 60) + tlv(77, b"u" * 60)) * 6), HERE
    yield "parts-in-overload", discover(ALICE, options=tlv(52, 3) + tlv(61, b"\1a"), file=tlv(61, b"b")), HERE


def boot_service() -> Iterator[Input]:
    """Hosts whose address another server gives, and port 4011."""
    rom, source = tlv(60, b"PXEClient:Arch:00007:UNDI:003000"), ip("10.1.0.150")
    at = Place(flags=AT_BOOT_PORT, source=source, destination=ip("10.1.0.1"))
    for name, kind in (("pxe", rom), ("http", tlv(60, b"HTTPClient")), ("ipxe", tlv(77, b"iPXE")), ("os", b"")):
        yield f"proxied-discover-{name}", discover(PROXIED, options=kind), HERE
        yield (
            f"proxied-relayed-{name}",
            discover(LONG_PROXIED, options=kind, giaddr="10.9.0.1", agent=tlv(1, b"p")),
            RELAY,
        )
        yield f"proxied-4011-{name}", request(PROXIED, ciaddr=source, options=kind), at
    for size in (0, 576, 700, 1500):
        asks = rom + tlv(57, size.to_bytes(2, "big")) + tlv(97, bytes(17))
        yield f"proxied-long-57-of-{size}", discover(LONG_PROXIED, options=asks), HERE
        yield f"proxied-long-4011-57-of-{size}", request(LONG_PROXIED, ciaddr=source, options=asks), at
    yield "proxied-guid-of-255", discover(PROXIED, options=rom + tlv(97, bytes(255))), HERE
    for mac, name, own in ((PROXIED, "proxied", source), (ALICE, "served", ip("10.1.0.50"))):
        for what, ciaddr, come in (
            ("own", own, own), ("forged-ciaddr", ip("192.0.2.1"), own), ("forged-source", own, ip("192.0.2.1")),
            ("broadcast", ip("10.1.0.255"), ip("10.1.0.255")), ("ours", ip("10.1.0.1"), ip("10.1.0.1")),
            ("limited-broadcast", BROADCAST, BROADCAST), ("loopback", ip("127.0.0.1"), ip("127.0.0.1")),
            ("nothing", 0, 0), ("far", ip("10.9.0.77"), ip("10.9.0.77")),
        ):  # fmt: skip
            place = Place(flags=AT_BOOT_PORT, source=come, source_port=4011, destination=ip("10.1.0.1"))
            yield f"4011-{name}-{what}", request(mac, ciaddr=ciaddr, options=rom), place
            yield f"4011-{name}-{what}-inform", inform(mac, ciaddr, options=rom), place
            yield f"4011-{name}-{what}-relayed", request(mac, ciaddr=ciaddr, options=rom, giaddr="10.9.0.1"), place
            yield f"67-{name}-{what}-inform", inform(mac, ciaddr, options=rom), Place(source=come)
    yield (
        "4011-bootp",
        message(None, LONG, rom, ciaddr="10.1.0.54"),
        Place(
            site=CHANGED, flags=AT_BOOT_PORT, source=ip("10.1.0.54"), local=ip("10.1.0.2"), destination=ip("10.1.0.2")
        ),
    )


def other_sites() -> Iterator[Input]:
    for mac, name in ((ALICE, "moved"), (REMOTE, "gone"), (NEW, "new"), (0x020000000004, "quarantined")):
        yield f"delta-{name}-discover", discover(mac), Place(site=CHANGED, local=ip("10.1.0.2"))
        yield (
            f"delta-{name}-renews-the-old",
            request(mac, ciaddr="10.1.0.50"),
            Place(site=CHANGED, source=ip("10.1.0.50")),
        )
    yield "delta-nak-for-the-old", request(ALICE, requested="10.1.0.50"), Place(site=CHANGED, local=ip("10.1.0.2"))
    yield "delta-id-of-a-replica", request(ALICE, requested="10.1.0.99", server_id="10.99.0.2"), Place(site=CHANGED)
    yield "delta-id-of-the-vip", request(ALICE, requested="10.1.0.99", server_id=VIP), Place(site=CHANGED)
    limited = Place(site=LIMITED, source=ip("10.9.0.1"), destination=ip("10.1.0.1"))
    yield "limited-relay-is-listed", discover(REMOTE, giaddr="10.9.0.1"), limited
    yield "limited-relay-is-not", discover(REMOTE, giaddr="10.8.0.1", agent=tlv(5, "10.9.0.0")), limited
    yield "limited-interface", discover(ALICE), Place(site=LIMITED, ifindex=3)
    yield "limited-nak-by-a-stale-table", request(ALICE, requested="10.1.0.77"), Place(site=LIMITED, age_s=1)
    yield "foreign-mtu-68", discover(WIDE), Place(site=FOREIGN, ifindex=4, local=ip("172.31.0.1"))
    yield (
        "foreign-nak-unknown-link",
        request(WIDE, requested="10.1.0.77", giaddr="10.9.0.1"),
        Place(site=FOREIGN, ifindex=4),
    )
    yield "foreign-no-server-id", discover(WIDE, giaddr="10.9.0.1"), Place(site=FOREIGN, ifindex=9, local=0)
    yield "age-negative", request(ALICE, requested="10.1.0.77"), Place(age_s=-1)
    yield "age-most", request(ALICE, requested="10.1.0.77"), Place(age_s=2**31 - 1)


def late() -> Iterator[Input]:
    """Of a worker that does not keep up: on either side of each client's patience, in Place.waited's units."""
    ipxe = tlv(77, b"iPXE") + tlv(175, tlv(19, 1))
    for name, packet, patience in (
        ("os", discover(ALICE), 112),
        ("rom", discover(ALICE, options=tlv(60, b"PXEClient:Arch:00000:UNDI:002001")), 200),
        ("ipxe-discover", discover(ALICE, options=ipxe), 56),
        ("ipxe-request", request(ALICE, requested="10.1.0.50", options=ipxe), 14),
        ("stranger", discover(STRANGER), 112),
    ):
        yield f"waited-{name}-in-time", packet, Place(waited=patience)
        yield f"waited-{name}-too-long", packet, Place(waited=patience + 1)


def inputs() -> dict[str, bytes]:
    """File name -> content, contents of the same bytes once."""
    made: dict[bytes, str] = {}
    for source in (
        bad_options,
        overloads,
        bad_fields,
        reflected,
        of_site_classes,
        unusual_hosts,
        other_sites,
        who_asks,
        late,
        boot_service,
        from_captures,
        from_tables,
    ):
        for name, datagram, place in source():
            made.setdefault(place.packed() + datagram, re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-").lower())
    return {name: content for content, name in made.items()}


def main() -> None:
    written = inputs()
    CORPUS.mkdir(exist_ok=True)
    for path in CORPUS.iterdir():
        if path.name not in written and not path.name.startswith("found-"):
            path.unlink()
    for name, content in written.items():
        (CORPUS / name).write_bytes(content)
    size = sum(len(content) for content in written.values())
    sys.stdout.write(f"{len(written)} inputs, {size} bytes in {CORPUS}\n")


if __name__ == "__main__":
    main()
