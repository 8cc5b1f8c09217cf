"""Replies to real clients as readable text, checked by a person against what the captured server said.

BOOTSTORM_GOLDEN=write makes them anew; read the difference before you keep it.  Each file shows what the client asked,
what we answer, and what the server of the capture answered (dnsmasq, for perfdhcp Kea).
"""

import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ext import table
from tests.ext import inventory, racks
from tests.ext.captures import Datagram, datagrams
from tests.ext.inventory import replay
from tests.ext.packets import DISCOVER, REQUEST, TYPE_NAMES, Parsed, described, discover, request, tlv

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
CLIENTS = (
    "dhclient", "udhcpc", "dhcpcd", "ipxe-bios", "ovmf-uefi-pxe", "relay", "relay82", "perfdhcp-kea-20",
)  # fmt: skip
pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def pair() -> table.Pair:
    return inventory.pair()


def way(source: int, destination: int, port: int, how: str) -> str:
    return f"from {IPv4Address(source)} to {IPv4Address(destination)}:{port} {how}".rstrip()


def exchange(name: str, kind: int) -> tuple[Datagram, Datagram]:
    """The capture's first request of a kind, and what the server there replied."""
    found = list(datagrams(name))
    at = next(i for i, one in enumerate(found) if one.payload[0] == 1 and Parsed.of(one.payload).kind == kind)
    xid = Parsed.of(found[at].payload).xid
    answer = next(one for one in found[at:] if one.payload[0] == 2 and Parsed.of(one.payload).xid == xid)
    return found[at], answer


def portrait(name: str, kind: int, known: table.Pair) -> str:
    asked, theirs = exchange(name, kind)
    reply = replay(known, asked)
    mac = f" to MAC {reply.mac.hex(':')}" if reply.route == "frame" else ""
    parts = {
        f"asked ({name}.pcap)": described(
            asked.payload, [way(asked.source, asked.destination, asked.destination_port, "")]
        ),
        "our answer": described(
            reply.data, [way(reply.source, reply.destination, reply.port, f"by {reply.route}{mac}")]
        ),
        "the captured server's answer": described(
            theirs.payload, [way(theirs.source, theirs.destination, theirs.destination_port, "")]
        ),
    }
    return "\n".join(f"## {title}\n{text}" for title, text in parts.items())


@pytest.mark.parametrize("kind", [DISCOVER, REQUEST], ids=lambda kind: TYPE_NAMES[kind])
@pytest.mark.parametrize("name", CLIENTS)
def test_golden(name: str, kind: int, pair: table.Pair) -> None:
    path = GOLDEN / f"{name}-{TYPE_NAMES[kind].lower()}.txt"
    text = portrait(name, kind, pair)
    if os.environ.get("BOOTSTORM_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


PROXIED = ("bios-pxe", "uefi-x64", "http-boot", "ipxe", "ipxe-http", "raspberry-pi")


def of_a_proxied_host(stage: str) -> str:
    """What a machine whose address another server gives is told, and what at port 4011 when it has that address."""
    mac, guid = racks.mac("proxied"), b"" if stage == "raspberry-pi" else tlv(97, b"\0" + bytes(range(16)))
    stages = {
        "DISCOVER at port 67": (discover(mac, options=racks.STAGES[stage] + guid), {}),
        "REQUEST at port 4011": (
            request(mac, ciaddr="10.1.0.150", options=racks.STAGES[stage] + guid),
            racks.renewing("10.1.0.150") | {"at_boot_port": True},
        ),
    }
    parts = []
    for title, (packet, place) in stages.items():
        reply = racks.ask(packet, **place)
        to = f" to MAC {reply.mac.hex(':')}" if reply.route == "frame" else ""
        lines = [way(reply.source, reply.destination, reply.port, f"by {reply.route}{to}")]
        parts.append(f"## {title}\n{described(packet)}\n## our answer\n{described(reply.data, lines)}")
    return "\n".join(parts)


@pytest.mark.parametrize("stage", PROXIED)
def test_golden_of_a_proxied_host(stage: str) -> None:
    path = GOLDEN / f"proxied-{stage}.txt"
    text = of_a_proxied_host(stage)
    if os.environ.get("BOOTSTORM_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


def test_no_golden_is_left_over() -> None:
    wanted = {f"proxied-{stage}.txt" for stage in PROXIED}
    wanted |= {f"{name}-{TYPE_NAMES[kind].lower()}.txt" for name in CLIENTS for kind in (DISCOVER, REQUEST)}
    assert {path.name for path in GOLDEN.iterdir()} == wanted
