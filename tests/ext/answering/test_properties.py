"""What must hold for any bytes on port 67: no crash, no wrong address, no reply to the wrong place, no oversized reply.

BOOTSTORM_EXAMPLES sets how many packets each property tries.
"""

import os
import random
from typing import Any

import pytest
from ext.codec import Reply, answer, parse
from ext.verdict import Verdict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from ext import table
from tests.ext import inventory
from tests.ext.captures import datagrams, dhcp_captures
from tests.ext.packets import BROADCAST, Parsed, discover, ip, message, request, tlv
from tests.ext.sites import (
    ALICE,
    CONFLICT,
    LINKS,
    OPTIONS,
    OWN_ID,
    PUBLIC,
    QUARANTINED,
    REMOTE,
    STRANGER,
    TWO,
    generation,
    hosts,
    surroundings,
)

pytestmark = pytest.mark.property
EXAMPLES = int(os.environ.get("BOOTSTORM_EXAMPLES", "100"))
FEW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ADDRESSES = {
    ALICE: ["10.1.0.50"],
    TWO: ["10.1.0.60", "10.9.0.60"],
    REMOTE: ["10.9.0.70"],
    OWN_ID: ["10.1.0.80"],
    PUBLIC: ["10.2.0.90"],
    STRANGER + 1: ["10.1.0.51", "10.9.0.51"],
}
LONG = b"".join(tlv(code, bytes((code,)) * (code % 97)) for code in range(214, 254))
LONG += tlv(43, b"a" * 255) + tlv(43, b"b")


def population() -> table.Pair:
    """The small datacenter, and one host whose options never fit."""
    builder = hosts()
    index = builder.add_template(options=OPTIONS + LONG, file=b"f" * 127)
    leases = ((ip("10.1.0.51"), 24, index), (ip("10.9.0.51"), 24, index))
    builder.add_host(STRANGER + 1, name=b"long", own=tlv(12, b"l" * 63) * 5, leases=leases)
    around = surroundings(server_ids=(ip("10.99.0.2"),))
    return table.Pair(generation(builder, around=around))


PAIR = population()
MOST = {2: 1500, 3: 1500, 4: 1500}

SOME_IPS = st.sampled_from(
    [
        "0.0.0.0", "10.1.0.50", "10.1.0.60", "10.9.0.60", "10.9.0.70", "10.1.0.1", "10.3.0.1", "10.1.0.255",
        "10.9.0.255", "10.9.0.1", "10.8.0.1", "192.0.2.1", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.99.0.2",
    ]
)  # fmt: skip
ANY_IPS = st.one_of(SOME_IPS, SOME_IPS, st.integers(0, 0xFFFFFFFF))
MACS = st.sampled_from([*ADDRESSES, CONFLICT, QUARANTINED, STRANGER])
OPTION = st.one_of(
    st.builds(tlv, st.sampled_from([50, 54, 118]), SOME_IPS),
    st.builds(lambda size: tlv(57, size.to_bytes(2, "big")), st.integers(0, 0xFFFF)),
    st.builds(tlv, st.sampled_from([52, 53]), st.integers(0, 9)),
    st.builds(tlv, st.sampled_from([55, 60, 61, 77, 97]), st.binary(max_size=60)),
    st.builds(tlv, st.just(61), st.binary(min_size=250, max_size=255)),
    st.builds(lambda link, more: tlv(82, tlv(5, link) + more), SOME_IPS, st.sampled_from([b"", tlv(19), bytes(200)])),
    st.builds(tlv, st.integers(0, 255), st.binary(max_size=20)),
    st.binary(max_size=6),
)
PACKETS = st.builds(
    message,
    st.sampled_from([1, 1, 3, 3, 3, 4, 7, 8, 2, None]),
    MACS,
    st.lists(OPTION, max_size=7).map(b"".join),
    htype=st.sampled_from([1, 1, 1, 6, 32]),
    flags=st.sampled_from([0, 0x8000, 0xFFFF]),
    ciaddr=ANY_IPS,
    giaddr=ANY_IPS,
    xid=st.integers(0, 0xFFFFFFFF),
    sname=st.one_of(st.just(b""), st.lists(OPTION, max_size=3).map(b"".join).map(lambda area: area[:64])),
    file=st.one_of(st.just(b""), st.lists(OPTION, max_size=5).map(b"".join).map(lambda area: area[:128])),
    end=st.sampled_from([b"\xff", b"", b"\xff" + bytes(60)]),
)
PLACES = st.one_of(
    st.builds(
        lambda ifindex, local: {"ifindex": ifindex, "destination": BROADCAST, "local": local},
        st.integers(2, 5),
        st.sampled_from([link[1] for link in LINKS]),
    ),
    st.builds(
        lambda ifindex, to, source, port: {
            "ifindex": ifindex, "destination": to, "local": to, "source": source, "source_port": port,
        },
        st.integers(2, 4),
        st.sampled_from([link[1] for link in LINKS]),
        SOME_IPS.map(ip),
        st.sampled_from([67, 68, 1067]),
    ),
)  # fmt: skip
MAX_NAK_AGE_S = 86400  # of surroundings()
AGES = st.sampled_from([0, 86400, 86401, -1, 2**62])


def limit(packet: bytes, ifindex: int, capacity: int) -> int:
    said = parse(packet)
    agent = len(said["relay_agent"])
    client = max(said["max_size"], 576) + (agent + 2 if agent else 0)
    return min(min(client, MOST.get(ifindex, 1500)) - 28, capacity)


def check(packet: bytes, place: dict[str, Any], reply: Reply, pair_addresses: dict[int, list[str]]) -> None:
    """Every promise about one packet and its reply."""
    assert reply.verdict in set(Verdict) - {Verdict.GO_ON, Verdict.ABANDONED, Verdict.IGNORED_NO_TABLE}
    if reply.verdict > Verdict.NAKED:
        assert (reply.data, reply.route) == (b"", "")
        return
    assert packet[0] == 1
    mac = int.from_bytes(packet[28:34], "big")
    own = pair_addresses[mac]  # a KeyError is an answer to somebody who must not get one
    said = Parsed.of(reply.data)
    assert (said.op, said.xid, said.chaddr) == (2, int.from_bytes(packet[4:8], "big"), packet[28:44])
    assert (said.hops, said.secs) == (0, 0)
    assert 300 <= len(reply.data) <= max(300, limit(packet, place["ifindex"], place.get("capacity", 1500)))
    assert said.yiaddr in ((*own,) if reply.verdict in (Verdict.OFFERED, Verdict.ACKED) else ("0.0.0.0",))
    assert said.codes[:2] == [53, 54]
    assert said.server_id != "0.0.0.0"
    agent = said.order[-1][0] == 82
    assert (said.giaddr, agent) == (".".join(map(str, packet[24:28])), bool(parse(packet)["relay_agent"]))
    giaddr = int.from_bytes(packet[24:28], "big")
    allowed = {giaddr} if giaddr else {BROADCAST, *map(ip, own)}
    assert reply.destination in allowed
    assert (reply.route == "broadcast") == (reply.destination == BROADCAST)
    assert reply.source in {link[1] for link in (*LINKS, *inventory.LINKS)}
    if reply.route == "frame":
        assert (reply.mac, packet[1]) == (packet[28:34], 1)
    scapy_agrees(reply.data, said)


def scapy_agrees(data: bytes, said: Parsed) -> None:
    """Somebody else's parser reads the same message type and address."""
    theirs = BOOTP(data)
    assert (theirs.op, theirs.yiaddr) == (2, said.yiaddr)
    options = theirs[DHCP].options
    assert options[0] == ("message-type", said.kind)
    assert "end" in options
    assert [option for option in options if option not in ("end", "pad") and not isinstance(option, tuple)] == []


@FEW
@given(st.binary(max_size=700), PLACES)
@example(b"", {"ifindex": 2})
@example(bytes(240), {"ifindex": 2})
def test_arbitrary_bytes(packet: bytes, place: dict[str, Any]) -> None:
    parse(packet)
    check(packet, place, answer(PAIR, packet, **place), ADDRESSES)


@FEW
@given(PACKETS, PLACES, AGES)
def test_well_formed_and_nearly(packet: bytes, place: dict[str, Any], age_s: int) -> None:
    check(packet, place, answer(PAIR, packet, age_s=age_s, **place), ADDRESSES)


@FEW
@given(MACS, PLACES, SOME_IPS, st.sampled_from(["0.0.0.0", "10.1.0.1", "10.9.0.1", "10.8.0.1"]), AGES)
def test_nobody_is_refused_by_a_stale_table(mac: int, place: dict[str, Any], asked: str, giaddr: str, age: int) -> None:
    """A NAK takes a working address away: only who knows for certain says it."""
    packet = request(mac, requested=asked, giaddr=giaddr)
    reply = answer(PAIR, packet, age_s=age, **place)
    check(packet, place, reply, ADDRESSES)
    assert reply.verdict != Verdict.NAKED or age <= MAX_NAK_AGE_S, f"a NAK from a table of {age} s"


@FEW
@given(PACKETS, PLACES, st.data())
def test_mutated(packet: bytes, place: dict[str, Any], data: st.DataObject) -> None:
    """Up to eight octets changed anywhere, and perhaps the end cut off."""
    changed = bytearray(packet)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(changed)))] if data.draw(st.booleans()) else changed)
    check(cut, place, answer(PAIR, cut, **place), ADDRESSES)


@FEW
@given(PACKETS, PLACES, st.integers(300, 1500))
def test_any_capacity(packet: bytes, place: dict[str, Any], capacity: int) -> None:
    reply = answer(PAIR, packet, capacity=capacity, **place)
    check(packet, {**place, "capacity": capacity}, reply, ADDRESSES)


@FEW
@given(PACKETS, PLACES)
def test_the_same_question_has_the_same_answer(packet: bytes, place: dict[str, Any]) -> None:
    """Stateless: replicas and restarted workers say the same."""
    assert answer(PAIR, packet, **place) == answer(PAIR, packet, **place)


@FEW
@given(MACS, PLACES, st.sampled_from(["0.0.0.0", "10.9.0.1", "10.8.0.1"]), st.sampled_from([0, 0x8000]))
def test_what_is_offered_is_acknowledged(mac: int, place: dict[str, Any], giaddr: str, flags: int) -> None:
    """An OFFER taken by its own words ends in an ACK of the same address, from the same place."""
    offer = answer(PAIR, discover(mac, giaddr=giaddr, flags=flags), **place)
    if offer.verdict != Verdict.OFFERED:
        return
    said = Parsed.of(offer.data)
    taken = request(mac, requested=said.yiaddr, server_id=said.server_id, giaddr=giaddr, flags=flags)
    ack = answer(PAIR, taken, **place)
    assert ack.verdict == Verdict.ACKED
    assert Parsed.of(ack.data).order[1:] == said.order[1:]
    assert (ack.route, ack.destination) == (offer.route, offer.destination)


def test_captures_with_flipped_octets() -> None:
    """Real packets, damaged: a seeded walk, the same every time."""
    chance = random.Random(82)
    pair = inventory.pair()
    known = {mac: addresses for mac, (_, addresses) in inventory.known_hosts().items()}
    packets = [d.payload for name in dhcp_captures() if "perfdhcp" not in name for d in datagrams(name)]
    for _ in range(EXAMPLES * 5):
        packet = bytearray(chance.choice(packets))
        for _ in range(chance.randrange(6)):
            packet[chance.randrange(len(packet))] = chance.randrange(256)
        place = {"ifindex": chance.choice((2, 3, 4)), "destination": BROADCAST, "local": ip("10.88.0.1")}
        check(bytes(packet), place, answer(pair, bytes(packet), **place), known)
