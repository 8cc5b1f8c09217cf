"""What the boot service says and where: hosts whose address another server gives, and PXE's port 4011."""

from typing import Any

import pytest
from ext.builder import Builder
from ext.table import TableInvalid
from ext.verdict import Verdict as V

from tests.ext.answering.test_judge import LEASED, ROM
from tests.ext.packets import BROADCAST, Parsed, discover, inform, ip, request, tlv
from tests.ext.sites import (
    ALICE,
    BOOTS,
    BROADCAST_FLAG,
    PROXIED,
    PROXY_OPTIONS,
    ask,
    boot_port,
    broadcast,
    generation,
    relayed,
    site,
    unicast,
)

GUID = bytes(range(17))
IN_NO_PROXY_REPLY = {1, 3, 28, 51, 58, 59}


def offer(**fields: Any) -> Parsed:
    return Parsed.of(ask(site(), discover(PROXIED, **{"options": ROM, **fields})).data)


def test_an_offer_without_address_says_what_to_boot() -> None:
    said = offer()
    assert (said.kind, said.yiaddr, said.siaddr, said.file.rstrip(b"\0")) == (2, "0.0.0.0", "10.1.0.5", b"/pxelinux.0")
    assert said.option(60) == b"PXEClient" and said.option(43) == b"\6\1\x08\xff"
    assert said.server_id == "10.1.0.1" and not IN_NO_PROXY_REPLY & set(said.codes)


def test_it_is_broadcast_whatever_the_flags_say() -> None:
    """There is no address to send it to."""
    for flags in (0, 0x8000):
        reply = ask(site(), discover(PROXIED, options=ROM, flags=flags))
        assert (reply.route, reply.destination, reply.port) == ("broadcast", BROADCAST, 68)


def test_a_relay_is_told_to_broadcast_it() -> None:
    reply = ask(site(), discover(PROXIED, options=ROM, giaddr="10.8.0.1"), **relayed("10.8.0.1"))
    assert (reply.route, reply.destination, reply.port) == ("udp", ip("10.8.0.1"), 67)
    assert Parsed.of(reply.data).flags == 0x8000


def test_the_guid_comes_back_and_only_here() -> None:
    """RFC 4578 section 2.3; replies with an address never had it, and ROMs take them."""
    assert offer(options=ROM + tlv(97, GUID)).option(97) == GUID
    asked = request(PROXIED, ciaddr=LEASED, options=ROM + tlv(97, GUID))
    assert Parsed.of(ask(site(), asked, **boot_port()).data).option(97) == GUID
    assert Parsed.of(ask(site(), discover(ALICE, options=ROM + tlv(97, GUID))).data).option(97) is None


@pytest.mark.parametrize("guid", [b"", b"\0", GUID[:16], GUID + b"\0"])
def test_what_is_no_guid_does_not(guid: bytes) -> None:
    assert offer(options=ROM + tlv(97, guid)).option(97) is None


def test_an_inform_is_answered_at_port_68() -> None:
    reply = ask(site(), inform(PROXIED, LEASED, options=ROM), **unicast(source=LEASED))
    said = Parsed.of(reply.data)
    assert (reply.route, reply.destination, reply.port) == ("frame", ip(LEASED), 68)
    assert (said.yiaddr, said.ciaddr, said.siaddr) == ("0.0.0.0", LEASED, "10.1.0.5")
    assert not IN_NO_PROXY_REPLY & set(said.codes)


@pytest.mark.parametrize("port", [68, 4011, 1024])
def test_port_4011_answers_where_it_was_asked_from(port: int) -> None:
    """On the wire of the client as a frame, so that thousands of them need no entry in the neighbour table."""
    reply = ask(site(), request(PROXIED, ciaddr=LEASED, options=ROM), **boot_port(port=port))
    assert (reply.verdict, reply.route, reply.destination, reply.port) == (V.ACKED_BOOT, "frame", ip(LEASED), port)
    assert (reply.source, reply.mac) == (ip("10.1.0.1"), PROXIED.to_bytes(6, "big"))
    far = ask(site(), request(PROXIED, ciaddr="10.9.0.150", options=ROM), **boot_port("10.9.0.150", port))
    assert (far.route, far.destination, far.port) == ("udp", ip("10.9.0.150"), port)


def test_an_ack_of_port_4011_has_a_boot_file_and_no_address() -> None:
    said = Parsed.of(ask(site(), request(PROXIED, ciaddr=LEASED, options=ROM), **boot_port()).data)
    assert (said.kind, said.yiaddr, said.ciaddr, said.siaddr) == (5, "0.0.0.0", LEASED, "10.1.0.5")
    assert said.file.rstrip(b"\0") == b"/pxelinux.0" and not IN_NO_PROXY_REPLY & set(said.codes)
    served = Parsed.of(ask(site(), request(ALICE, ciaddr="10.1.0.50", options=ROM), **boot_port("10.1.0.50")).data)
    assert (served.yiaddr, served.file.rstrip(b"\0")) == ("0.0.0.0", b"/pxelinux.0")
    assert not {51, 58, 59} & set(served.codes)


def test_the_reply_comes_from_the_address_that_was_asked() -> None:
    """Also when dhcp.server_id is another one of ours, or none of ours; the client's 54 is not repeated."""
    asked = request(PROXIED, ciaddr=LEASED, server_id="10.1.0.2", options=ROM)
    for server_id in ("10.3.0.1", "10.99.0.1"):
        reply = ask(site(server_id=ip(server_id)), asked, **boot_port())
        assert (reply.source, Parsed.of(reply.data).server_id) == (ip("10.1.0.1"), server_id)
    assert Parsed.of(ask(site(), asked, **boot_port()).data).server_id == "10.1.0.1"


def test_the_table_refuses_proxied_hosts_that_could_not_be_answered() -> None:
    """Without an address and without TEMPLATE_BROADCAST a reply would go to 0.0.0.0."""
    for leases, flags in (((0, 32), BOOTS), ((0, 24), BROADCAST_FLAG)):
        builder = Builder()
        index = builder.add_template(options=PROXY_OPTIONS, flags=flags)
        builder.add_host(PROXIED, name=b"a", state=5, leases=((*leases, index),))
        with pytest.raises(TableInvalid, match="lease 0 is impossible"):
            generation(builder)
    with pytest.raises(TableInvalid, match="no lease"):
        builder.add_host(PROXIED, name=b"a", state=5, leases=((ip("10.1.0.5"), 32, index),))
    with pytest.raises(TableInvalid, match="no lease"):
        builder.add_host(PROXIED, name=b"a", leases=((0, 24, index),))


def test_a_place_without_address_of_ours_is_silence() -> None:
    assert ask(site(), discover(PROXIED, options=ROM), **broadcast(9)).verdict == V.IGNORED_NO_SERVER_ID
