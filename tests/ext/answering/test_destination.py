"""Where replies go and in whose name: the two truth tables of DESIGN section 3."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from ext.verdict import Verdict

from tests.ext.packets import BROADCAST_FLAG, Parsed, discover, inform, ip, mac_bytes, request, tlv
from tests.ext.sites import (
    ALICE,
    LINKS,
    NOTHING,
    OWN_ID,
    PUBLIC,
    REMOTE,
    TWO,
    addresses,
    ask,
    broadcast,
    one_host,
    relayed,
    site,
    unicast,
)

LIMITED = "255.255.255.255"
BEHIND_ROUTER = unicast(source="10.9.0.70")
SOURCE_PORT_82_19 = tlv(19)


class Way(NamedTuple):
    packet: bytes
    route: str
    destination: str
    port: int = 68
    place: Mapping[str, Any] = NOTHING


WAYS = {
    # 1. giaddr, whatever else the packet says
    "1-giaddr-OFFER": Way(discover(REMOTE, giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed()),
    "1-giaddr-ACK": Way(
        request(REMOTE, requested="10.9.0.70", giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed()
    ),
    "1-giaddr-other-source-address": Way(
        discover(REMOTE, giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed("10.8.0.77")
    ),
    "1-giaddr-other-source-port-is-not-followed": Way(
        discover(REMOTE, giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed(port=1067)
    ),
    "1-RFC8357-82.19-follows-the-source-port": Way(
        discover(REMOTE, giaddr="10.9.0.1", agent=SOURCE_PORT_82_19), "udp", "10.9.0.1", 1067, relayed(port=1067)
    ),
    "1-RFC8357-82.19-NAK": Way(
        request(REMOTE, requested="10.9.0.71", giaddr="10.9.0.1", agent=SOURCE_PORT_82_19),
        "udp", "10.9.0.1", 1067, relayed(port=1067),
    ),
    "1-giaddr-before-broadcast-flag": Way(
        discover(REMOTE, giaddr="10.9.0.1", flags=BROADCAST_FLAG), "udp", "10.9.0.1", 67, relayed()
    ),
    "1-giaddr-before-hardware": Way(
        discover(REMOTE, giaddr="10.9.0.1", htype=6), "udp", "10.9.0.1", 67, relayed()
    ),
    "1-giaddr-before-NAK": Way(
        request(REMOTE, requested="10.9.0.71", giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed()
    ),
    "1-giaddr-before-ciaddr": Way(
        request(REMOTE, ciaddr="10.9.0.70", giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed()
    ),
    "1-giaddr-before-INFORM's-ciaddr": Way(
        inform(REMOTE, "10.9.0.70", giaddr="10.9.0.1"), "udp", "10.9.0.1", 67, relayed()
    ),
    "1-giaddr-on-our-own-link": Way(
        discover(ALICE, giaddr="10.1.0.2"), "udp", "10.1.0.2", 67, broadcast()
    ),
    "1-giaddr-82.5-goes-to-giaddr": Way(
        discover(REMOTE, giaddr="192.0.2.1", agent=tlv(5, "10.9.0.0")), "udp", "192.0.2.1", 67, relayed("192.0.2.1")
    ),
    # 2. NAK
    "2-NAK": Way(request(ALICE, requested="10.1.0.77"), "broadcast", LIMITED),
    "2-NAK-to-a-unicast-request": Way(request(ALICE, requested="10.1.0.77"), "broadcast", LIMITED, 68, unicast()),
    "2-NAK-without-giaddr-82.19-is-nothing": Way(
        request(ALICE, requested="10.1.0.77", agent=SOURCE_PORT_82_19), "broadcast", LIMITED, 68,
        {**broadcast(), "source_port": 1067},
    ),
    # 3. ciaddr of the host itself
    "3-RENEW-on-link": Way(request(ALICE, ciaddr="10.1.0.50"), "frame", "10.1.0.50", 68, unicast()),
    "3-REBIND-on-link": Way(request(ALICE, ciaddr="10.1.0.50"), "frame", "10.1.0.50"),
    "3-REBIND-second-network-of-the-interface": Way(request(PUBLIC, ciaddr="10.2.0.90"), "frame", "10.2.0.90"),
    "3-RENEW-off-link": Way(request(REMOTE, ciaddr="10.9.0.70"), "udp", "10.9.0.70", 68, BEHIND_ROUTER),
    "3-RENEW-through-another-interface": Way(
        request(ALICE, ciaddr="10.1.0.50"), "udp", "10.1.0.50", 68, unicast(ifindex=3)
    ),
    "3-INFORM-on-link": Way(inform(ALICE, "10.1.0.50"), "frame", "10.1.0.50"),
    "3-INFORM-off-link": Way(inform(REMOTE, "10.9.0.70"), "udp", "10.9.0.70", 68, BEHIND_ROUTER),
    "3-INFORM-broadcast-flag-does-not-count": Way(
        inform(ALICE, "10.1.0.50", flags=BROADCAST_FLAG), "frame", "10.1.0.50"
    ),
    "3-RENEW-other-hardware-on-link": Way(
        request(ALICE, ciaddr="10.1.0.50", htype=6), "udp", "10.1.0.50", 68, unicast()
    ),
    "3-RENEW-source-port-is-not-followed": Way(
        request(ALICE, ciaddr="10.1.0.50"), "frame", "10.1.0.50", 68, unicast(port=1068)
    ),
    "3-not-for-a-DISCOVER": Way(discover(ALICE, ciaddr="10.1.0.77"), "frame", "10.1.0.50"),
    "3-not-for-SELECTING": Way(
        request(ALICE, requested="10.1.0.50", server_id="10.1.0.1", ciaddr="10.1.0.77"), "frame", "10.1.0.50"
    ),
    # 4. broadcast
    "4-flag-OFFER": Way(discover(ALICE, flags=BROADCAST_FLAG), "broadcast", LIMITED),
    "4-flag-ACK": Way(request(ALICE, requested="10.1.0.50", flags=BROADCAST_FLAG), "broadcast", LIMITED),
    "4-flag-with-rubbish-in-the-other-bits": Way(discover(ALICE, flags=0xFFFF), "broadcast", LIMITED),
    "4-other-hardware": Way(discover(ALICE, htype=6), "broadcast", LIMITED),
    "4-infiniband-htype": Way(discover(ALICE, htype=32), "broadcast", LIMITED),
    # 5. a frame to the client's MAC
    "5-OFFER": Way(discover(ALICE), "frame", "10.1.0.50"),
    "5-OFFER-must-be-zero-bits-are-no-flag": Way(discover(ALICE, flags=0x7FFF), "frame", "10.1.0.50"),
    "5-OFFER-to-a-unicast-DISCOVER": Way(discover(ALICE), "frame", "10.1.0.50", 68, unicast(source="0.0.0.0")),
    "5-ACK-INIT-REBOOT": Way(request(ALICE, requested="10.1.0.50"), "frame", "10.1.0.50"),
    "5-ACK-without-address": Way(request(ALICE), "frame", "10.1.0.50"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_destination(way: Way) -> None:
    reply = ask(site(), way.packet, **way.place)
    assert (reply.route, reply.destination, reply.port) == (way.route, ip(way.destination), way.port)
    if way.route != "udp":
        assert reply.ifindex == way.place.get("ifindex", 2)
    if way.route == "frame":
        assert reply.mac == way.packet[28:34]


def test_frames_go_out_where_the_request_came_in() -> None:
    pair = one_host(mac=ALICE, address="10.3.0.50")
    for flags in (0, BROADCAST_FLAG):
        assert ask(pair, discover(ALICE, flags=flags), **broadcast(3, "10.3.0.1")).ifindex == 3


def test_a_relayed_NAK_must_be_broadcast_by_the_relay() -> None:
    """RFC 2131 section 4.3.2."""
    packet = request(REMOTE, requested="10.9.0.71", giaddr="10.9.0.1")
    said = Parsed.of(ask(site(), packet, **relayed()).data)
    assert (said.kind, said.flags) == (6, BROADCAST_FLAG)
    local = Parsed.of(ask(site(), request(ALICE, requested="10.1.0.77")).data)
    assert (local.kind, local.flags) == (6, 0)


def test_on_link_is_what_the_interface_says() -> None:
    """DESIGN section 3, row 3: "a connected prefix of the receiving interface".  Here the inventory keeps a /16 of
    which the interface has a /24: 10.1.5.50 stands behind a router, a frame to its MAC meets nobody on this wire."""
    pair = one_host(address="10.1.5.50", prefix=16)
    reply = ask(pair, request(ALICE, ciaddr="10.1.5.50"), **unicast(source="10.1.5.50"))
    assert (reply.verdict, reply.route) == (Verdict.ACKED, "udp")


def test_on_link_with_a_narrower_inventory() -> None:
    """The inventory keeps a /26 of the interface's /24: still at least answered."""
    pair = one_host(address="10.1.0.200", prefix=26)
    reply = ask(pair, request(ALICE, ciaddr="10.1.0.200"), **unicast(source="10.1.0.200"))
    assert (reply.verdict, reply.destination) == (Verdict.ACKED, ip("10.1.0.200"))


class Name(NamedTuple):
    packet: bytes
    server_id: str
    source: str
    place: Mapping[str, Any] = NOTHING
    around: Mapping[str, Any] = NOTHING


OURS, SECOND, VIP, REPLICA = "10.1.0.1", "10.2.0.1", "10.99.0.1", "10.99.0.2"
RELAY_ID = tlv(82, tlv(11, "10.9.0.1"))
NAMES = {
    "link-in-the-lease's-network": Name(discover(ALICE), OURS, OURS),
    "link-in-the-lease's-network-not-the-primary": Name(discover(PUBLIC), SECOND, SECOND),
    "primary-for-a-relayed-broadcast": Name(discover(REMOTE, giaddr="10.9.0.1"), OURS, OURS, broadcast()),
    "primary-of-the-receiving-interface": Name(
        discover(REMOTE, giaddr="10.9.0.1"), "10.3.0.1", "10.3.0.1", broadcast(3, "10.3.0.1")
    ),
    "unicast-destination": Name(discover(REMOTE, giaddr="10.9.0.1"), SECOND, SECOND, relayed(to=SECOND)),
    "unicast-destination-before-the-link": Name(discover(ALICE), SECOND, SECOND, unicast(SECOND, "0.0.0.0")),
    "unicast-destination-that-no-link-knows": Name(discover(REMOTE, giaddr="10.9.0.1"), VIP, VIP, relayed(to=VIP)),
    "server_id": Name(discover(ALICE), VIP, OURS, around={"server_id": ip(VIP)}),
    "server_id-before-the-unicast-destination": Name(
        discover(REMOTE, giaddr="10.9.0.1"), VIP, SECOND, relayed(to=SECOND), {"server_id": ip(VIP)}
    ),
    "server_id-that-is-an-address-of-ours": Name(
        discover(ALICE), "10.3.0.1", "10.3.0.1", around={"server_id": ip("10.3.0.1")}
    ),
    "template": Name(discover(OWN_ID), "10.99.0.7", OURS),
    "template-before-server_id": Name(discover(OWN_ID), "10.99.0.7", OURS, around={"server_id": ip(VIP)}),
    "template-INFORM": Name(inform(OWN_ID, "10.1.0.80"), "10.99.0.7", OURS),
    "echo-of-our-other-address": Name(
        request(ALICE, requested="10.1.0.50", server_id="10.3.0.1"), "10.3.0.1", "10.3.0.1"
    ),
    "echo-of-an-accepted-id": Name(
        request(ALICE, requested="10.1.0.50", server_id=REPLICA), REPLICA, OURS,
        around={"server_ids": addresses([REPLICA])},
    ),
    "echo-of-an-accepted-id-before-server_id": Name(
        request(ALICE, requested="10.1.0.50", server_id=REPLICA), REPLICA, OURS,
        around={"server_ids": addresses([REPLICA]), "server_id": ip(VIP)},
    ),
    "echo-in-a-NAK": Name(
        request(ALICE, requested="10.1.0.77", server_id=REPLICA), REPLICA, OURS,
        around={"server_ids": addresses([REPLICA])},
    ),
    "echo-of-server_id": Name(
        request(ALICE, requested="10.1.0.50", server_id=VIP), VIP, OURS, around={"server_id": ip(VIP)}
    ),
    "no-echo-in-an-OFFER": Name(discover(ALICE, options=tlv(54, REPLICA)), OURS, OURS,
                                around={"server_ids": addresses([REPLICA])}),
    "no-echo-in-INFORM": Name(inform(ALICE, "10.1.0.50", options=tlv(54, REPLICA)), OURS, OURS),
    "INIT-REBOOT": Name(request(ALICE, requested="10.1.0.50"), OURS, OURS),
    "RENEW": Name(request(ALICE, ciaddr="10.1.0.50"), OURS, OURS, unicast()),
    "RENEW-to-a-second-address-of-ours": Name(request(ALICE, ciaddr="10.1.0.50"), SECOND, SECOND, unicast(SECOND)),
    "REBIND": Name(request(PUBLIC, ciaddr="10.2.0.90"), SECOND, SECOND),
    "NAK": Name(request(ALICE, requested="10.1.0.77"), OURS, OURS),
    "RFC5107-the-relay's-word": Name(
        discover(REMOTE, giaddr="10.9.0.1", options=RELAY_ID), "10.9.0.1", OURS, relayed()
    ),
    "RFC5107-before-server_id": Name(
        discover(REMOTE, giaddr="10.9.0.1", options=RELAY_ID), "10.9.0.1", OURS, relayed(), {"server_id": ip(VIP)}
    ),
    "RFC5107-REQUEST-that-names-it": Name(
        request(REMOTE, requested="10.9.0.70", server_id="10.9.0.1", giaddr="10.9.0.1", options=RELAY_ID),
        "10.9.0.1", OURS, relayed(),
    ),
    "RFC5107-without-giaddr-it-is-a-client's-word": Name(discover(ALICE, options=RELAY_ID), OURS, OURS),
    "two-addresses-relay": Name(discover(TWO, giaddr="10.9.0.1"), OURS, OURS, relayed()),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_server_id_and_source(name: Name) -> None:
    reply = ask(site(**name.around), name.packet, **name.place)
    assert (Parsed.of(reply.data).server_id, reply.source) == (name.server_id, ip(name.source))


def test_links_of_one_interface_are_asked_in_order() -> None:
    """Two addresses of ours in the lease's network: the first listed, the primary."""
    links = ((2, ip("10.1.0.2"), 24, 1500, True), (2, ip("10.1.0.3"), 24, 1500, True))
    reply = ask(one_host(around={"links": links}), discover(ALICE))
    assert reply.source == ip("10.1.0.2")


def test_replicas_say_the_same_but_for_their_name() -> None:
    """Stateless active-active: only option 54 and the source differ between two servers."""
    replies = []
    for own in ("10.1.0.1", "10.1.0.2"):
        links = ((2, ip(own), 24, 1500, True), *LINKS[1:])
        reply = ask(one_host(around={"links": links, "server_id": ip(VIP)}), discover(ALICE), **broadcast(2, own))
        replies.append((reply.data, reply.destination, reply.mac))
    assert replies[0] == replies[1]


def test_frame_mac_is_the_whole_chaddr() -> None:
    mac = 0xFEDCBA987654
    reply = ask(one_host(mac=mac), discover(mac))
    assert (reply.route, reply.mac) == ("frame", mac_bytes(mac))
