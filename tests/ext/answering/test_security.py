"""What forged requests can and cannot do: the rules of docs/security.md that no other test states."""

import pytest
from ext.verdict import Verdict as V

from tests.ext.packets import BROADCAST, DECLINE, INFORM, RELEASE, Parsed, discover, inform, ip, message, request, tlv
from tests.ext.sites import (
    ALICE,
    NO_ADDRESS,
    PROXIED,
    REMOTE,
    STRANGER,
    TWO,
    ask,
    boot_port,
    broadcast,
    relayed,
    site,
    unicast,
)

THIRD_PARTY = "192.0.2.1"
ROM = tlv(60, b"PXEClient:Arch:00000:UNDI:002001")
FORBIDDEN = (
    "0.0.0.1", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "10.1.0.1", "10.3.0.1", "172.31.0.1", "10.1.0.255", "10.1.0.0", "10.2.0.255", "172.31.0.255",
)  # fmt: skip
ANSWERED = (V.OFFERED, V.ACKED, V.ACKED_INFORM, V.NAKED)
MESSAGES = {
    "DISCOVER": {},
    "SELECTING": {"options": tlv(50, "10.1.0.50") + tlv(54, "10.1.0.1")},
    "INIT-REBOOT": {"options": tlv(50, "10.1.0.50")},
    "wrong-address": {"options": tlv(50, "10.1.0.77")},
    "RENEWING": {"ciaddr": "10.1.0.50"},
    "INFORM": {"ciaddr": "10.1.0.50"},
}
KIND = {"DISCOVER": 1, "INFORM": 8}
FORGERIES = {
    "50": {"options": tlv(50, THIRD_PARTY)},
    "54": {"options": tlv(54, THIRD_PARTY)},
    "118": {"options": tlv(118, THIRD_PARTY)},
    "82.5": {"agent": tlv(5, THIRD_PARTY)},
    "82.11": {"agent": tlv(11, THIRD_PARTY)},
    "82.19": {"agent": tlv(19)},
    "yiaddr": {"yiaddr": THIRD_PARTY},
    "ciaddr": {"ciaddr": THIRD_PARTY},
    "sname-and-file": {"sname": THIRD_PARTY.encode(), "file": THIRD_PARTY.encode()},
}


def forged(name: str, forgery: dict[str, object]) -> bytes:
    """A message in ALICE's name; the forged options come last, so they count where the last one does."""
    fields = {**MESSAGES[name], **forgery}
    fields["options"] = b"".join(part.get("options", b"") for part in (MESSAGES[name], forgery))  # type: ignore[misc]
    return message(KIND.get(name, 3), ALICE, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("name", MESSAGES)
def test_no_field_names_a_third_party(name: str, forgery: dict[str, object]) -> None:
    """Without giaddr a reply goes to the wire that the request came from, or to the host's own address at port 68."""
    for place in (broadcast(), unicast(), unicast(source=THIRD_PARTY, port=53)):
        reply = ask(site(), forged(name, forgery), **place)
        if reply.verdict in ANSWERED:
            assert reply.destination in (ip("10.1.0.50"), BROADCAST)
            assert reply.port == 68


@pytest.mark.parametrize("name", MESSAGES)
def test_the_messages_of_this_file_are_answered(name: str) -> None:
    """Or the test above would prove nothing."""
    assert ask(site(), forged(name, {}), **broadcast()).verdict in ANSWERED


@pytest.mark.parametrize("giaddr", FORBIDDEN)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_forbidden_giaddr_is_refused_whatever_the_message(name: str, giaddr: str) -> None:
    reply = ask(site(), forged(name, {"giaddr": giaddr, "agent": tlv(5, "10.1.0.0")}), **relayed())
    assert (reply.verdict, reply.data) == (V.IGNORED_GIADDR, b"")


AIMED = {
    "82.5": discover(REMOTE, giaddr=THIRD_PARTY, agent=tlv(5, "10.9.0.0") + tlv(19)),
    "118": discover(REMOTE, giaddr=THIRD_PARTY, options=tlv(118, "10.9.0.0")),
    "renewal": request(REMOTE, ciaddr="10.9.0.70", giaddr=THIRD_PARTY),
    "INFORM": inform(REMOTE, "10.9.0.70", giaddr=THIRD_PARTY),
    "proxied": discover(PROXIED, options=ROM, giaddr=THIRD_PARTY),
}


@pytest.mark.parametrize("packet", AIMED.values(), ids=AIMED)
def test_relays_close_the_way_to_third_parties(packet: bytes) -> None:
    reply = ask(site(relays=((ip("10.9.0.1"), 32),)), packet, **relayed())
    assert (reply.verdict, reply.data) == (V.IGNORED_RELAY, b"")


@pytest.mark.parametrize("packet", AIMED.values(), ids=AIMED)
def test_without_relays_giaddr_is_believed(packet: bytes) -> None:
    """The limit that docs/security.md names: relays must be listed to close it."""
    reply = ask(site(), packet, **relayed(port=53))
    assert (reply.route, reply.destination) == ("udp", ip(THIRD_PARTY))
    assert reply.port == (53 if packet == AIMED["82.5"] else 67)


def test_option_82_without_a_relay_says_nothing() -> None:
    plain = ask(site(), discover(TWO), **broadcast())
    agent = tlv(5, "10.9.0.0") + tlv(11, THIRD_PARTY) + tlv(19)
    reply = ask(site(), discover(TWO, agent=agent), **broadcast(), source_port=53)
    assert (reply.route, reply.destination, reply.port) == (plain.route, plain.destination, 68)
    said = Parsed.of(reply.data)
    assert (said.yiaddr, said.server_id) == ("10.1.0.60", Parsed.of(plain.data).server_id)
    assert said.order[-1] == (82, agent)


@pytest.mark.parametrize("mac", [TWO, REMOTE, STRANGER, NO_ADDRESS])
def test_a_forged_relay_never_moves_an_address_to_another_host(mac: int) -> None:
    own = {TWO: {"10.1.0.60", "10.9.0.60"}, REMOTE: {"10.9.0.70"}}
    for link in ("10.1.0.0", "10.2.0.0", "10.9.0.0", "10.8.0.0"):
        for giaddr in ("10.9.0.1", "10.8.0.1", THIRD_PARTY):
            reply = ask(site(), discover(mac, giaddr=giaddr, agent=tlv(5, link)), **relayed())
            assert reply.verdict != V.OFFERED or Parsed.of(reply.data).yiaddr in own[mac]


def test_nothing_that_is_received_changes_an_answer() -> None:
    pair = site()
    before = ask(pair, discover(ALICE))
    assert before.verdict == V.OFFERED
    verdicts = set()
    for kind in (DECLINE, RELEASE, INFORM, 1, 3):
        for mac in (ALICE, TWO, STRANGER):
            packet = message(kind, mac, tlv(50, "10.1.0.50"), ciaddr="10.1.0.50")
            verdicts.add(ask(pair, packet).verdict)
            assert ask(pair, discover(ALICE)) == before
    assert {V.NOTED_DECLINE, V.NOTED_RELEASE, V.ACKED_INFORM, V.IGNORED_CIADDR, V.IGNORED_UNKNOWN_MAC} <= verdicts


@pytest.mark.parametrize("mac, own", [(PROXIED, "10.1.0.150"), (ALICE, "10.1.0.50")], ids=["proxied", "served"])
@pytest.mark.parametrize("kind", [3, INFORM], ids=["REQUEST", "INFORM"])
def test_port_4011_answers_nobody_but_the_sender(mac: int, own: str, kind: int) -> None:
    """ciaddr and the IP source have to agree: a forger who can forge both could as well send to the victim himself."""
    assert ask(site(), message(kind, mac, ROM, ciaddr=own), **boot_port(own)).destination == ip(own)
    for ciaddr, source in ((THIRD_PARTY, own), (own, THIRD_PARTY), ("0.0.0.0", own), (own, "0.0.0.0")):
        assert ask(site(), message(kind, mac, ROM, ciaddr=ciaddr), **boot_port(source)).data == b""
    for forgery in ({"giaddr": THIRD_PARTY}, {"giaddr": "10.9.0.1"}, {"giaddr": "10.9.0.1", "agent": tlv(19)}):
        assert ask(site(), message(kind, mac, ROM, ciaddr=own, **forgery), **boot_port(own)).data == b""


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_forbidden_address_is_never_answered_at_port_4011(address: str) -> None:
    """Ours, a broadcast of ours, loopback, multicast: also where ciaddr and source agree."""
    reply = ask(site(), request(PROXIED, ciaddr=address, options=ROM), **boot_port(address))
    assert (reply.verdict, reply.data) == (V.IGNORED_BOOT_PORT, b"")
    reply = ask(site(), inform(PROXIED, address, options=ROM), **unicast(source=address))
    assert (reply.verdict, reply.data) == (V.IGNORED_CIADDR, b"")


def test_a_stranger_gets_nothing_at_port_4011() -> None:
    reply = ask(site(), request(STRANGER, ciaddr="10.1.0.150", options=ROM), **boot_port())
    assert (reply.verdict, reply.data) == (V.IGNORED_UNKNOWN_MAC, b"")


def test_a_reply_of_port_4011_is_hardly_longer_than_its_request() -> None:
    """Why reflecting by it is not worth having: a REQUEST of a ROM has 548 octets, ours is no longer."""
    asked = request(PROXIED, ciaddr="10.1.0.150", options=ROM + tlv(97, bytes(17)))
    assert len(ask(site(), asked, **boot_port()).data) <= 320
    padded = asked.ljust(548, b"\0")
    assert len(ask(site(), padded, **boot_port()).data) <= len(padded)


@pytest.mark.parametrize("kind", [1, 3, DECLINE, RELEASE, INFORM])
def test_a_proxied_host_is_never_given_or_refused_an_address(kind: int) -> None:
    for options in (b"", ROM):
        for asks in (b"", tlv(50, "10.1.0.77"), tlv(54, "10.1.0.1") + tlv(50, "10.1.0.77")):
            for place in (broadcast(), unicast(source="10.1.0.77"), boot_port("10.1.0.77")):
                reply = ask(site(), message(kind, PROXIED, options + asks, ciaddr="10.1.0.77"), **place)
                assert reply.verdict not in (V.OFFERED, V.ACKED, V.NAKED)
                assert not reply.data or Parsed.of(reply.data).yiaddr == "0.0.0.0"
