"""The captures through sockets: the served worker says octet for octet what answer() says, and to the same place.

tests/ext/recorded/test_exchanges.py holds what answer() says in goldens; here its words go over three real wires.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.lab.lab import Lab
from bench.lab.site import running_site
from tests.ext import scapy_view
from tests.ext.captures import dhcp_captures
from tests.ext.exchanges import FAR, NEAR, PERF, WIRES, Exchange, exchanges, host_count, host_file
from tests.ext.packets import ACK, BROADCAST, Parsed, discover, ip, request
from tests.netns.asker import ALL, Asker, Heard, described

pytestmark = pytest.mark.netns

CLIENT = 0x02E2E0000011  # e2e-client
SENTINEL = 0x525400E20002  # e2e-uefi; asks on near, where it is at home
RELAYS = {NEAR: "10.88.0.2/24", FAR: "10.77.0.1/24", PERF: "10.96.255.2/16"}  # ours on each wire, as in the captures


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        for wire in WIRES:
            ends = {"a_addr": f"{wire.address}/{wire.prefix}", "b_addr": RELAYS[wire]}
            lab.wire(server, client, a_if=wire.ifname, b_if=wire.ifname, **ends)
        names = tuple(wire.ifname for wire in WIRES)
        with (
            running_site(server, host_file(), host_count(), 1),
            Asker(client, server, names, SENTINEL, NEAR.ifname) as asker,
        ):
            yield asker


def must_be(found: Heard, exchange: Exchange, asker: Asker) -> None:
    """The same octets, from the same address, to the same place; lengths and checksums are right."""
    wanted = exchange.reply
    assert found.payload == wanted.data
    assert (found.source, found.destination, found.port) == (wanted.source, wanted.destination, wanted.port)
    if wanted.route == "udp":
        assert found.to_mac == asker.ways[found.ifname].mac, "a relay's own"
    else:
        assert found.ifname == exchange.wire.ifname, "out where the request came in"
        assert found.to_mac == (wanted.mac if wanted.route == "frame" else ALL)
    scapy_view.checked_frame(found.frame)
    scapy_view.compare(found.payload)


@pytest.mark.parametrize("name", dhcp_captures())
def test_over_the_wire(asker: Asker, name: str) -> None:
    asked = exchanges(name)
    for at, exchange in enumerate(asked):
        one = exchange.asked
        asker.send(exchange.wire.ifname, one.payload, one.source, one.source_port, one.destination)
        if exchange.reply.data:
            (found,) = asker.hear(bool)
            must_be(found, exchange, asker)
        elif at + 1 < len(asked):  # silence: nothing comes before the next reply
            assert asker.settle() == []
    rest = asker.settle()
    assert rest == [], f"answered more than once, or where silence was due: {[described(each) for each in rest]}"


@pytest.mark.parametrize("checked", [True, False], ids=["checksum", "udp-checksum-0"])
def test_renewals_without_udp_checksum(asker: Asker, checked: bool) -> None:
    """dhcpcd sends renewals and releases with UDP checksum 0: RFC 768 allows it, so the kernel must let them in."""
    exchange = next(each for each in exchanges("renew") if each.asked.source)
    one = exchange.asked
    (found,) = asker.ask(
        exchange.wire.ifname, one.payload, one.source, one.source_port, one.destination, checked=checked
    )
    must_be(found, exchange, asker)


@pytest.mark.parametrize("port", [1, 67, 1067, 65535])
def test_any_source_port_is_answered_at_68(asker: Asker, port: int) -> None:
    """A server that looks at the source port leaves machines dark."""
    for exchange in exchanges("udhcpc"):
        one = exchange.asked
        (found,) = asker.ask(exchange.wire.ifname, one.payload, one.source, port, one.destination)
        must_be(found, exchange, asker)
        assert found.port == 68


def test_a_renewal_that_arrives_twice_is_answered_twice_and_alike(asker: Asker) -> None:
    """Routed by the relay that heard it as well: both go back the way that they came."""
    renewal = request(CLIENT, ciaddr="10.77.0.11", xid=77)
    relayed = request(CLIENT, ciaddr="10.77.0.11", xid=77, giaddr="10.77.0.1", hops=1)
    asker.host.address(FAR.ifname, "10.77.0.11/24")  # the server's kernel asks for it
    asker.send(NEAR.ifname, renewal, ip("10.77.0.11"), 68, ip(NEAR.address))
    asker.send(NEAR.ifname, relayed, ip("10.88.0.2"), 67, ip(NEAR.address))
    found = asker.hear(lambda some: len(some) == 2)
    assert asker.settle() == []
    assert sorted((each.destination, each.port) for each in found) == [
        (ip("10.77.0.1"), 67),
        (ip("10.77.0.11"), 68),
    ]
    one, other = (Parsed.of(each.payload) for each in found)
    assert (one.kind, one.yiaddr, one.order) == (ACK, "10.77.0.11", other.order)
    assert {each.source for each in found} == {ip(NEAR.address)}


@pytest.mark.parametrize("length", [244, 253])
def test_short_payloads(asker: Asker, length: int) -> None:
    """dhcping and networkd send fewer than BOOTP's 300 octets."""
    packet = discover(CLIENT, end=b"\xff".ljust(length - 243, b"\0"))
    (found,) = asker.ask(NEAR.ifname, packet, 0, 68, BROADCAST)
    assert (len(packet), Parsed.of(found.payload).yiaddr) == (length, "10.88.0.11")
