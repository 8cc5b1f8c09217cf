"""Several servers with one inventory: byte for byte the same but for who they are, whoever of them is asked."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from ext.codec import Reply
from ext.verdict import Verdict

from control.config.config import Dhcp
from control.explain.offline import Interface, placed
from ext import codec, table
from tests.ext import inventory
from tests.ext.captures import datagrams, dhcp_captures
from tests.ext.packets import BROADCAST, REQUEST, Parsed, discover, inform, ip, quad, request, tlv

MAC, ADDRESS = 0x02E2E0000011, "10.88.0.11"
FIRST, SECOND, VIP = "10.88.0.1", "10.88.0.7", "10.88.0.100"


class Replica:
    """A server with the captures' inventory, on an interface and with an address of its own."""

    def __init__(self, address: str, ifindex: int, **dhcp: object) -> None:
        self.address, self.ifindex = address, ifindex
        self.pair: table.Pair = placed(inventory.pair(), [Interface(ifindex, ip(address), 24)], Dhcp(**dhcp))  # type: ignore[arg-type]

    def answer(self, payload: bytes, to: str = "") -> Reply:
        """to: whom the request is sent to, "" for all."""
        destination = ip(to) if to else BROADCAST
        return codec.answer(
            self.pair, payload, ifindex=self.ifindex, source=ip(ADDRESS) if to else 0, destination=destination,
            local=destination if to else ip(self.address),
        )  # fmt: skip


def replicas(**dhcp: object) -> tuple[Replica, Replica]:
    return Replica(FIRST, 2, **dhcp), Replica(SECOND, 9, **dhcp)


def without_id(reply: Reply) -> bytes:
    """The payload, with the server's id blanked where it stands."""
    said = tlv(54, quad(Parsed.of(reply.data).server_id))
    assert reply.data.count(said) == 1
    return reply.data.replace(said, tlv(54, bytes(4)))


def requests() -> list[bytes]:
    """What real clients sent, as far as it names no server."""
    found = [each.payload for name in dhcp_captures() for each in datagrams(name) if each.payload[0] == 1]
    return [payload for payload in found if 54 not in dict(Parsed.of(payload).order)]


def test_every_captured_request_gets_the_same_bytes() -> None:
    first, second = replicas()
    answered = 0
    for payload in requests():
        one, two = first.answer(payload), second.answer(payload)
        assert one.verdict == two.verdict
        if not one.data:
            assert not two.data
            continue
        answered += 1
        assert without_id(one) == without_id(two)
        assert (one.route, one.destination, one.port, one.mac) == (two.route, two.destination, two.port, two.mac)
        assert (Parsed.of(one.data).server_id, Parsed.of(two.data).server_id) == (FIRST, SECOND)
        assert (one.source, two.source) == (ip(FIRST), ip(SECOND))
    assert answered > 100


def test_with_one_server_id_not_a_byte_differs() -> None:
    first, second = replicas(server_id=IPv4Address(VIP))
    for payload in requests():
        one, two = first.answer(payload), second.answer(payload)
        assert (one.verdict, one.data, one.destination, one.port) == (two.verdict, two.data, two.destination, two.port)
        assert not one.data or Parsed.of(one.data).server_id == VIP


def test_the_digest_is_the_inventory_s_not_the_server_s() -> None:
    first, second = replicas()
    assert first.pair.top.digest == second.pair.top.digest == inventory.pair().top.digest


@pytest.mark.parametrize("to", [SECOND, ""], ids=["renewing", "rebinding"])
def test_a_renewal_that_reaches_the_other_replica(to: str) -> None:
    """Neither names a server: whoever hears it says yes."""
    _first, second = replicas()
    reply = second.answer(request(MAC, ciaddr=ADDRESS), to)
    said = Parsed.of(reply.data)
    assert (reply.verdict, said.yiaddr, said.server_id) == (Verdict.ACKED, ADDRESS, SECOND)


def test_an_init_reboot_is_answered_alike() -> None:
    first, second = replicas()
    for asked, verdict in ((ADDRESS, Verdict.ACKED), ("10.88.0.99", Verdict.NAKED)):
        payload = request(MAC, requested=asked)
        one, two = first.answer(payload), second.answer(payload)
        assert one.verdict == two.verdict == verdict and without_id(one) == without_id(two)


def test_who_takes_the_other_s_offer_is_left_to_it() -> None:
    first, second = replicas()
    payload = request(MAC, requested=ADDRESS, server_id=FIRST)
    assert (first.answer(payload).verdict, second.answer(payload).verdict) == (
        Verdict.ACKED, Verdict.IGNORED_OTHER_SERVER,
    )  # fmt: skip


@pytest.mark.parametrize("named", [FIRST, SECOND, VIP])
def test_a_listed_id_is_ours_too(named: str) -> None:
    """The replica's, an anycast or a virtual one: the reply has the id that the client goes by."""
    for each in replicas(server_ids=tuple(map(IPv4Address, (FIRST, SECOND, VIP)))):
        reply = each.answer(request(MAC, requested=ADDRESS, server_id=named))
        assert (reply.verdict, Parsed.of(reply.data).server_id) == (Verdict.ACKED, named)
        assert reply.source == ip(each.address), "from an address that this machine has"


def test_a_virtual_address_that_moved_answers_as_before() -> None:
    """A renewal by unicast to it, wherever it stands now."""
    said = []
    for each in replicas(server_id=IPv4Address(VIP)):
        reply = each.answer(request(MAC, ciaddr=ADDRESS), VIP)
        assert reply.verdict == Verdict.ACKED and Parsed.of(reply.data).kind == 5
        said.append(reply.data)
    assert said[0] == said[1]


def test_an_inform_too() -> None:
    first, second = replicas()
    one, two = (each.answer(inform(MAC, ADDRESS)) for each in (first, second))
    assert one.verdict == Verdict.ACKED_INFORM and without_id(one) == without_id(two)
    assert Parsed.of(discover(MAC)).kind != REQUEST
