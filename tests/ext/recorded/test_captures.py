"""Every request that a real client or firmware sent: answered with the host's address, or silent for a reason."""

from ipaddress import IPv4Address

import pytest
from ext.verdict import Verdict

from ext import table
from tests.ext import inventory
from tests.ext.captures import datagrams, dhcp_captures
from tests.ext.inventory import known_hosts, replay
from tests.ext.packets import DECLINE, DISCOVER, INFORM, NAK, RELEASE, REQUEST, Parsed, discover

V = Verdict
ANSWERS = {DISCOVER: V.OFFERED, REQUEST: V.ACKED, INFORM: V.ACKED_INFORM}
SILENCE = {RELEASE: V.NOTED_RELEASE, DECLINE: V.NOTED_DECLINE}
# hosts.yaml knows no address of e2e-vm behind the relay; dnsmasq had one there.
OTHERWISE = {
    ("relay82-pxe-bios", DISCOVER): V.IGNORED_OTHER_LINK,
    ("relay82-pxe-bios", REQUEST): V.NAKED,
}
STRANGERS = {"noserver-ipxe-and-ovmf": {0x525400E20002}}


@pytest.fixture(scope="module")
def pair() -> table.Pair:
    return inventory.pair()


@pytest.mark.parametrize("name", dhcp_captures())
def test_replay(name: str, pair: table.Pair) -> None:
    known = known_hosts()
    asked = 0
    for datagram in datagrams(name):
        if datagram.payload[0] != 1:
            continue
        asked += 1
        request = Parsed.of(datagram.payload)
        reply = replay(pair, datagram)
        mac = int.from_bytes(request.chaddr[:6], "big")
        if mac in STRANGERS.get(name, ()):
            assert reply.verdict == V.IGNORED_UNKNOWN_MAC, datagram.name
            continue
        assert mac in known, datagram.name
        wrong = name == "init-reboot-nak" and asked == 1
        want = OTHERWISE.get((name, request.kind)) or {**ANSWERS, **SILENCE}[request.kind]
        assert reply.verdict == (V.NAKED if wrong else want), datagram.name
        if reply.verdict in (V.OFFERED, V.ACKED):
            said = Parsed.of(reply.data)
            assert said.yiaddr in known[mac][1], datagram.name
            assert (said.xid, said.chaddr) == (request.xid, request.chaddr)
    assert asked


@pytest.mark.parametrize("name", dhcp_captures())
def test_the_captured_server_said_the_same_address(name: str, pair: table.Pair) -> None:
    """The reply that follows a request: its type, yiaddr, giaddr and flags are ours too."""
    waiting = {}
    for datagram in datagrams(name):
        said = Parsed.of(datagram.payload)
        key = (said.xid, said.chaddr)
        if said.op == 1:
            waiting[key] = replay(pair, datagram)
            continue
        reply = waiting[key]
        if reply.verdict in (V.IGNORED_OTHER_LINK, V.NAKED) and name == "relay82-pxe-bios":
            assert said.yiaddr == "10.77.0.21"  # the address that hosts.yaml lacks
            continue
        ours = Parsed.of(reply.data)
        assert (ours.kind, ours.yiaddr) == (said.kind, said.yiaddr), datagram.name
        if said.kind != NAK:
            assert ours.flags == said.flags, datagram.name
        if "-clientside" not in name:  # there the relay speaks
            assert ours.giaddr == said.giaddr, datagram.name
            assert ours.server_id == said.server_id or said.kind == NAK, datagram.name
            assert (reply.source, reply.destination) == (datagram.source, datagram.destination), datagram.name
            assert reply.port == datagram.destination_port, datagram.name


def test_hosts_of_the_comments() -> None:
    known = known_hosts()
    assert known[0x525400E20103] == ("vm3", ["10.88.0.103"])
    assert known[0x000C01020304][1] == ["10.96.1.0"]
    assert known[0x000C010203CB][1] == ["10.96.1.199"]


def test_uefi_machines_that_share_a_xid(pair: table.Pair) -> None:
    """FIELD 4d: three of four started together have one xid; each still gets its own address."""
    given: dict[int, set[str]] = {}
    for datagram in datagrams("ovmf-pxe-x4"):
        request = Parsed.of(datagram.payload)
        if request.op == 1:
            given.setdefault(request.xid, set()).add(Parsed.of(replay(pair, datagram).data).yiaddr)
    assert max(map(len, given.values())) >= 3


def test_replies_of_the_captures_are_never_answered(pair: table.Pair) -> None:
    replies = [d for name in dhcp_captures() for d in datagrams(name) if d.payload[0] == 2]
    assert len(replies) > 400
    assert {replay(pair, datagram).verdict for datagram in replies} == {V.IGNORED_NOT_REQUEST}


def test_perfdhcp_hosts_are_all_different(pair: table.Pair) -> None:
    given = set()
    for datagram in datagrams("perfdhcp-200"):
        if datagram.payload[0] == 1 and Parsed.of(datagram.payload).kind == REQUEST:
            given.add(IPv4Address(Parsed.of(replay(pair, datagram).data).yiaddr))
    assert len(given) == 200


def test_the_reader_reads_what_it_should() -> None:
    """Against the first line of tests/data/pcaps/INDEX.tsv."""
    first = next(datagrams("decline"))
    assert (first.source_port, first.destination_port, len(first.payload)) == (68, 67, 300)
    assert Parsed.of(first.payload).xid == 0x5ACB2723
    assert Parsed.of(discover(1)).kind == DISCOVER
