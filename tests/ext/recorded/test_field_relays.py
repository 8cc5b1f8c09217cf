"""What relays, routers and several networks on one wire do to a request, and where its answer goes: a case each."""

import random
from ipaddress import IPv4Address

import pytest
from ext.codec import Reply
from ext.verdict import Verdict

from ext import codec
from tests.ext.exchanges import Wire, planned
from tests.ext.packets import BROADCAST, BROADCAST_FLAG, Parsed, discover, ip, message, request, tlv
from tests.ext.racks import BIOS, SECOND, SERVER, STAGES, WIRES, ask, host_file, mac, renewing, said, through

V = Verdict
FAR, EVERYWHERE = mac("far"), mac("everywhere")
LOOPBACK = "192.0.2.1"  # of a relay in an unnumbered fabric: in no network of the inventory


def agent(link: str = "", circuit: bytes = b"Ethernet12") -> bytes:
    return tlv(1, circuit) + (tlv(5, link) if link else b"")


# To giaddr, and with option 82.


@pytest.mark.parametrize("source", ["10.3.0.1", "10.1.0.2", "192.0.2.99"])
def test_the_reply_goes_to_giaddr_whatever_address_the_relay_sent_from(source: str) -> None:
    reply = ask(discover(FAR, giaddr="10.3.0.1"), **through(source))
    assert (reply.route, reply.destination, reply.port) == ("udp", ip("10.3.0.1"), 67)


TOLD = {
    "circuit-id": agent(),
    "empty-circuit-id": tlv(1, b""),
    "torn": b"\x09\xff\x01",
    "as-long-as-can-be": bytes(255),
    "RFC5010-heard-by-unicast": agent() + tlv(10, b"\x80"),
    "RFC6607-virtual-subnet": agent() + tlv(151, b"\x00red") + tlv(152),
}


@pytest.mark.parametrize("value", TOLD.values(), ids=TOLD)
def test_option_82_comes_back_octet_for_octet(value: bytes) -> None:
    """A dual-homed top-of-rack switch finds the VLAN again by nothing else."""
    assert said(discover(FAR, giaddr="10.3.0.1", agent=value)).order[-1] == (82, value)


def test_giaddr_on_a_relay_s_loopback_with_the_link_in_82_5() -> None:
    reply = ask(discover(FAR, giaddr=LOOPBACK, agent=agent("10.3.0.0")), **through(LOOPBACK))
    told = Parsed.of(reply.data)
    assert (reply.destination, told.yiaddr, told.option(3)) == (ip(LOOPBACK), "10.3.0.17", b"\x0a\x03\x00\xfe")
    assert told.order[-1] == (82, agent("10.3.0.0"))


def test_giaddr_on_a_relay_s_loopback_without_it_is_silence_with_a_reason() -> None:
    assert ask(discover(FAR, giaddr=LOOPBACK), **through(LOOPBACK)).verdict == V.IGNORED_OTHER_LINK


def test_giaddr_of_all_ones_is_no_invitation() -> None:
    """dnsmasq answers the sender then; we answer nobody who forges that."""
    assert ask(discover(FAR, giaddr="255.255.255.255")).verdict == V.IGNORED_GIADDR


ORDER = {
    "82.5-before-118-and-giaddr": ({"giaddr": "10.1.0.2", "options": tlv(118, "10.2.0.0"), "agent": agent("10.3.0.0")},
                                   "10.3.0.18"),
    "118-before-giaddr": ({"giaddr": "10.1.0.2", "options": tlv(118, "10.2.0.0")}, "10.2.0.18"),
    "118-before-the-wire": ({"options": tlv(118, "10.3.0.0")}, "10.3.0.18"),
    "giaddr-before-the-wire": ({"giaddr": "10.3.0.1"}, "10.3.0.18"),
    "82.5-without-giaddr-is-nobody-s-word": ({"agent": agent("10.3.0.0")}, "10.1.0.18"),
}  # fmt: skip


@pytest.mark.parametrize("fields, address", ORDER.values(), ids=ORDER)
def test_what_names_the_link(fields: dict[str, object], address: str) -> None:
    assert said(discover(EVERYWHERE, **fields)).yiaddr == address


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("hops", [0, 1, 3, 16, 255])
def test_hops_do_not_count(hops: int, relayed: bool) -> None:
    reply = said(discover(EVERYWHERE, hops=hops, giaddr="10.3.0.1" if relayed else 0))
    assert (reply.hops, reply.yiaddr) == (0, "10.3.0.18" if relayed else "10.1.0.18")


@pytest.mark.parametrize("port, to", [(68, 67), (1067, 67), (67, 67)])
def test_a_relay_s_source_port_counts_only_when_it_says_so(port: int, to: int) -> None:
    """RFC 8357: sub-option 19."""
    place = through("10.3.0.1") | {"source_port": port}
    assert ask(discover(FAR, giaddr="10.3.0.1"), **place).port == to
    assert ask(discover(FAR, giaddr="10.3.0.1", agent=tlv(19)), **place).port == port


# Several networks.


@pytest.mark.parametrize("machine, address, server", [("plain", "10.1.0.11", SERVER), ("second", "10.2.0.16", SECOND)])
def test_two_networks_on_one_wire(machine: str, address: str, server: str) -> None:
    """Each machine gets its own network's address, mask and server, though all hear the same broadcasts."""
    reply = said(discover(mac(machine)))
    assert (reply.yiaddr, reply.server_id) == (address, server)
    assert reply.option(3) == bytes((*map(int, address.split(".")[:3]), 254))


@pytest.mark.parametrize("machine, address", [("plain", "10.1.0.11"), ("second", "10.2.0.16")])
def test_two_networks_on_one_wire_behind_one_giaddr(machine: str, address: str) -> None:
    """A relay has one giaddr for a wire with two networks: the machine of the other network is not on the giaddr's
    link, and gets silence with that reason, unless the relay says more."""
    reply = ask(discover(mac(machine), giaddr="10.1.0.2"))
    if machine == "plain":
        assert Parsed.of(reply.data).yiaddr == address
    else:
        assert reply.verdict == V.IGNORED_OTHER_LINK
        assert said(discover(mac(machine), giaddr="10.1.0.2", agent=agent("10.2.0.0"))).yiaddr == address


@pytest.mark.parametrize("network", [1, 2, 3])
def test_a_machine_with_an_address_in_each_network_gets_the_one_that_fits(network: int) -> None:
    fields = {"giaddr": f"10.{network}.0.2"}
    offer = said(discover(EVERYWHERE, **fields))
    ack = said(request(EVERYWHERE, requested=offer.yiaddr, server_id=offer.server_id, **fields))
    assert (offer.yiaddr, ack.yiaddr, ack.kind) == (f"10.{network}.0.18", f"10.{network}.0.18", 5)


ELSEWHERE = {"a-known-network": "10.4.0.1", "an-unknown-one": LOOPBACK}


@pytest.mark.parametrize("giaddr", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_no_address_that_fits_is_silence_with_a_reason(stage: bytes, giaddr: str) -> None:
    assert ask(discover(EVERYWHERE, giaddr=giaddr, options=stage)).verdict == V.IGNORED_OTHER_LINK


def test_two_addresses_on_one_wire_the_first_bound_counts() -> None:
    """Both networks are there; every stage and every server must say the same."""
    assert {said(discover(EVERYWHERE, options=stage)).yiaddr for stage in STAGES.values()} == {"10.1.0.18"}


# Renewals.


def the_same(one: Reply, other: Reply) -> None:
    first, second = Parsed.of(one.data), Parsed.of(other.data)
    assert (first.kind, first.yiaddr, first.siaddr, first.file) == (5, second.yiaddr, second.siaddr, second.file)
    assert first.order == [option for option in second.order if option[0] != 82]


@pytest.mark.parametrize("value", [b"", agent()], ids=["plain", "option-82"])
def test_a_renewal_that_arrives_direct_and_relayed_is_answered_alike(value: bytes) -> None:
    """A relay that is also the router delivers every unicast renewal twice."""
    direct = ask(request(FAR, ciaddr="10.3.0.17"), **renewing("10.3.0.17"))
    relayed = ask(request(FAR, ciaddr="10.3.0.17", giaddr="10.3.0.1", hops=1, agent=value), **through("10.1.0.2"))
    the_same(direct, relayed)
    assert (direct.destination, relayed.destination) == (ip("10.3.0.17"), ip("10.3.0.1"))
    assert (direct.source, relayed.source) == (ip(SERVER), ip(SERVER))


def test_a_rebinding_that_arrives_from_two_relays_is_answered_alike() -> None:
    first = ask(request(FAR, ciaddr="10.3.0.17", giaddr="10.3.0.1"), **through("10.3.0.1"))
    second = ask(request(FAR, ciaddr="10.3.0.17", giaddr="10.3.0.2"), **through("10.3.0.2"))
    the_same(first, second)


@pytest.mark.parametrize("network", [1, 2, 3])
def test_every_renewal_of_a_machine_with_several_addresses_prolongs_the_one_it_has(network: int) -> None:
    address = f"10.{network}.0.18"
    assert said(request(EVERYWHERE, ciaddr=address), **renewing(address)).yiaddr == address


# Several servers with one inventory.

REPLICA = (Wire("near", 2, "10.1.0.2", 24), Wire("near", 2, "10.2.0.2", 24))
VIP = IPv4Address("10.1.0.100")


def test_a_renewal_that_reaches_another_replica_is_acked() -> None:
    """Its lease came from the other one, whose id it names nowhere; and with dhcp.server_ids where it does."""
    other = planned(host_file(), REPLICA, server_ids=(IPv4Address(SERVER),))
    place = {"ifindex": 2, "destination": BROADCAST, "local": ip("10.1.0.2")}
    rebinding = codec.answer(other, request(mac("plain"), ciaddr="10.1.0.11"), **place)
    selecting = codec.answer(other, request(mac("plain"), requested="10.1.0.11", server_id=SERVER), **place)
    assert [Parsed.of(reply.data).yiaddr for reply in (rebinding, selecting)] == ["10.1.0.11"] * 2
    assert Parsed.of(selecting.data).server_id == SERVER


def test_without_server_ids_another_server_s_offer_is_left_to_it() -> None:
    other = planned(host_file(), REPLICA)
    place = {"ifindex": 2, "destination": BROADCAST, "local": ip("10.1.0.2")}
    reply = codec.answer(other, request(mac("plain"), requested="10.1.0.11", server_id=SERVER), **place)
    assert reply.verdict == V.IGNORED_OTHER_SERVER


def test_replicas_with_one_id_say_the_same_octets() -> None:
    chance = random.Random(54)
    one, other = (planned(host_file(), wires, server_id=VIP, server_ids=(VIP,)) for wires in (WIRES, REPLICA))
    packets = [
        make(mac(machine), xid=chance.getrandbits(32), options=stage)
        for machine in ("plain", "second", "menu", "everywhere")
        for stage in (b"", BIOS)
        for make in (discover, request)
    ]
    for packet in packets:
        first, second = (
            codec.answer(pair, packet, ifindex=2, destination=BROADCAST, local=ip(local))
            for pair, local in ((one, SERVER), (other, "10.1.0.2"))
        )
        assert (first.data, first.destination, first.mac) == (second.data, second.destination, second.mac)
        assert Parsed.of(first.data).server_id == str(VIP)


@pytest.mark.parametrize(
    "client_id",
    [
        pytest.param(b"\x20" + bytes.fromhex("0002c903000a0b0c"), id="20-and-GUID"),
        pytest.param(b"\xff" + bytes(4) + b"\0\3\0\x20" + bytes.fromhex("0002c903000a0b0c"), id="RFC4361"),
    ],
)
def test_infiniband(client_id: bytes) -> None:
    """htype 32, hlen 0, no chaddr; the inventory has 48 bits of the GUID, all but its middle two octets."""
    guid_mac = "00:02:c9:0a:0b:0c"
    text = host_file().replace(mac("plain").to_bytes(6, "big").hex(":"), guid_mac)
    packet = discover(0, htype=32, hlen=0, chaddr=b"", flags=BROADCAST_FLAG, options=tlv(61, client_id))
    reply = codec.answer(planned(text, WIRES), packet, ifindex=2, destination=BROADCAST, local=ip(SERVER))
    assert (reply.route, Parsed.of(reply.data).yiaddr) == ("broadcast", "10.1.0.11")


def test_bootp() -> None:
    pair = planned(host_file(), WIRES, bootp=True)
    reply = codec.answer(pair, message(None, mac("plain")), ifindex=2, destination=BROADCAST, local=ip(SERVER))
    assert reply.data, f"silence: {reply.verdict.name}"
    told = Parsed.of(reply.data)
    assert (told.yiaddr, told.length) == ("10.1.0.11", 300)
    assert not {51, 53, 54, 58, 59, 52} & set(told.codes)


def test_a_request_s_option_in_two_parts() -> None:
    whole = said(discover(mac("plain"), options=tlv(60, b"PXEClient:Arch:00007:UNDI:003016")))
    parts = tlv(60, b"PXEClient:Arch:00") + tlv(60, b"007:UNDI:003016")
    assert said(discover(mac("plain"), options=parts)).order == whole.order
