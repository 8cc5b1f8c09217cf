"""ext/encode.pxd: what stands in a reply, in which order, and what happens when it gets too long."""

from typing import Any

import pytest
from ext.verdict import Verdict

from tests.ext.packets import FIXED, Parsed, discover, inform, ip, quad, request, tlv
from tests.ext.sites import (
    ALICE,
    LINKS,
    OPTIONS,
    REMOTE,
    ask,
    broadcast,
    one_host,
    relayed,
    site,
    unicast,
)

BIG = b"".join(tlv(code, bytes((code,)) * 100) for code in range(200, 206))  # 612 octets
NAK = request(ALICE, requested="10.1.0.77")


def said(packet: bytes, pair: Any = None, **place: Any) -> Parsed:
    return Parsed.of(ask(pair or site(), packet, **place).data)


def test_what_an_offer_says() -> None:
    reply = said(discover(ALICE))
    assert (reply.op, reply.hops, reply.secs) == (2, 0, 0)
    assert (reply.ciaddr, reply.yiaddr, reply.siaddr, reply.giaddr) == ("0.0.0.0", "10.1.0.50", "10.1.0.5", "0.0.0.0")
    assert reply.file == b"/pxelinux.0".ljust(128, b"\0")
    assert reply.sname == bytes(64)
    assert reply.order == [
        (53, b"\2"),
        (54, quad("10.1.0.1")),
        (51, (3600).to_bytes(4, "big")),
        (58, (1600).to_bytes(4, "big")),
        (59, (3150).to_bytes(4, "big")),
        (1, quad("255.255.255.0")),
        (3, quad("10.1.0.254")),
        (12, b"alice"),
    ]


def test_the_ack_repeats_the_offer() -> None:
    """RFC 2131 section 4.3.1: what was offered is what is acknowledged."""
    offer, ack = said(discover(ALICE)), said(request(ALICE, requested="10.1.0.50", server_id="10.1.0.1"))
    assert (ack.order[0], ack.order[1:]) == ((53, b"\5"), offer.order[1:])
    assert (ack.yiaddr, ack.siaddr, ack.file) == (offer.yiaddr, offer.siaddr, offer.file)


@pytest.mark.parametrize("packet", [discover(ALICE), NAK, inform(ALICE, "10.1.0.50"), request(ALICE)])
def test_no_shorter_than_300(packet: bytes) -> None:
    """RFC 1542 section 2.1."""
    data = ask(site(), packet).data
    assert len(data) == 300


def test_no_longer_than_needed() -> None:
    """One octet over the padding: neither padded nor cut."""
    used = FIXED.size + 3 + 6 + 18 + len(OPTIONS) + 1
    for total in (299, 300, 301, 302):
        own = tlv(12, b"x" * (total - used - 2))
        assert len(ask(one_host(own=own), discover(ALICE)).data) == max(300, total)


@pytest.mark.parametrize("length", [2, 22, 100, 255])
def test_300_are_left_when_the_relay_has_taken_its_own_off(length: int) -> None:
    """RFC 3046 section 2.1.1: relays that do pad no more, and ROMs behind them drop what is shorter."""
    agent = b"\1".ljust(length, b"\0")
    for packet in (discover(REMOTE, giaddr="10.9.0.1", agent=agent),
                   request(REMOTE, requested="10.9.0.71", giaddr="10.9.0.1", agent=agent)):  # fmt: skip
        data = ask(site(), packet, **relayed()).data
        assert len(data) == 300 + len(tlv(82, agent))
        assert data.rstrip(b"\0").endswith(tlv(82, agent) + b"\xff"), "the zeros stand behind the end mark"
    short = ask(site(), packet, **relayed(), capacity=320).data
    assert len(short) == min(320, 300 + len(tlv(82, agent))) or not short


def test_echoed_fields() -> None:
    """RFC 2131 table 3."""
    padding = bytes(range(10))
    packet = discover(
        REMOTE, xid=0xDEADBEEF, flags=0x8001, secs=27497, hops=3, giaddr="10.9.0.1",
        chaddr=REMOTE.to_bytes(6, "big") + padding,
    )  # fmt: skip
    reply = said(packet, **relayed())
    assert (reply.xid, reply.flags, reply.giaddr) == (0xDEADBEEF, 0x8001, "10.9.0.1")
    assert reply.chaddr == REMOTE.to_bytes(6, "big") + padding
    assert (reply.secs, reply.hops) == (0, 0)
    other = said(discover(ALICE, htype=6))
    assert (other.htype, other.hlen) == (6, 6)


@pytest.mark.parametrize("flags", [0, 0x8000, 0x7FFF])
@pytest.mark.parametrize("packet", [discover, request])
def test_flags_are_echoed(packet: Any, flags: int) -> None:
    assert said(packet(ALICE, flags=flags)).flags == flags


@pytest.mark.parametrize(
    "packet, ciaddr",
    [
        pytest.param(discover(ALICE, ciaddr="10.1.0.50"), "0.0.0.0", id="OFFER"),
        pytest.param(request(ALICE, ciaddr="10.1.0.50"), "10.1.0.50", id="ACK"),
        pytest.param(inform(ALICE, "10.1.0.50"), "10.1.0.50", id="ACK-of-INFORM"),
        pytest.param(request(ALICE, requested="10.1.0.77", ciaddr="10.1.0.50"), "0.0.0.0", id="NAK"),
    ],
)
def test_ciaddr_stands_in_an_ack_only(packet: bytes, ciaddr: str) -> None:
    assert said(packet).ciaddr == ciaddr


def test_inform_has_no_address_and_no_times() -> None:
    """RFC 2131 section 4.3.5."""
    reply = said(inform(ALICE, "10.1.0.50"))
    assert (reply.kind, reply.yiaddr, reply.codes) == (5, "0.0.0.0", [53, 54, 1, 3, 12])
    assert (reply.siaddr, reply.file.rstrip(b"\0")) == ("10.1.0.5", b"/pxelinux.0")


def test_a_nak_says_nothing_else() -> None:
    """RFC 2131 table 3."""
    reply = said(NAK)
    assert (reply.kind, reply.codes) == (6, [53, 54])
    assert (reply.ciaddr, reply.yiaddr, reply.siaddr) == ("0.0.0.0", "0.0.0.0", "0.0.0.0")
    assert (reply.file, reply.sname) == (bytes(128), bytes(64))


CLIENT_ID = b"\xff" + bytes(range(18))
AGENT = bytes.fromhex("0102 7263 0203 616263 0504 0a090000 ff01 00 97ff")  # the last sub-option is damaged


@pytest.mark.parametrize(
    "packet, place",
    [
        pytest.param(
            discover(REMOTE, giaddr="10.9.0.1", options=tlv(61, CLIENT_ID), agent=AGENT), relayed(), id="OFFER"
        ),
        pytest.param(
            request(REMOTE, requested="10.9.0.70", giaddr="10.9.0.1", options=tlv(61, CLIENT_ID), agent=AGENT),
            relayed(), id="ACK",
        ),
        pytest.param(
            request(REMOTE, requested="10.9.0.71", giaddr="10.9.0.1", options=tlv(61, CLIENT_ID), agent=AGENT),
            relayed(), id="NAK",
        ),
        pytest.param(
            inform(REMOTE, "10.9.0.70", giaddr="10.9.0.1", options=tlv(61, CLIENT_ID), agent=AGENT), relayed(),
            id="INFORM",
        ),
    ],
)  # fmt: skip
def test_client_id_and_relay_agent_are_echoed_last(packet: bytes, place: dict[str, Any]) -> None:
    """RFC 6842; RFC 3046 section 2.2: octet for octet, what is damaged in it too, and nothing behind it but END."""
    reply = ask(site(), packet, **place)
    assert Parsed.of(reply.data).order[-2:] == [(61, CLIENT_ID), (82, AGENT)]
    assert reply.data.rstrip(b"\0").endswith(tlv(82, AGENT) + b"\xff")


def test_not_echoed_when_not_sent() -> None:
    assert not {61, 82} & set(said(discover(ALICE)).codes)


def test_the_longest_that_can_be_echoed() -> None:
    packet = discover(REMOTE, giaddr="10.9.0.1", options=tlv(61, bytes(255)), agent=bytes(255))
    reply = said(packet, **relayed())
    assert reply.order[-2:] == [(61, bytes(255)), (82, bytes(255))]


def test_subnet_selection_is_echoed() -> None:
    """RFC 3011 section 2: a server that honours 118 returns a copy; clients discard replies without it."""
    reply = said(discover(REMOTE, options=tlv(118, "10.9.0.0")))
    assert reply.option(118) == quad("10.9.0.0")


def test_template_values() -> None:
    pair = one_host(lease_s=0xFFFFFFFF, renewal_s=0, rebinding_s=1, file=b"f" * 127, siaddr=ip("255.1.2.3"))
    reply = said(discover(ALICE), pair)
    assert [reply.option(code) for code in (51, 58, 59)] == [b"\xff" * 4, bytes(4), b"\0\0\0\1"]
    assert (reply.file, reply.siaddr) == (b"f" * 127 + b"\0", "255.1.2.3")


# Size.  payload <= min(max(option 57, 576), MTU) - 28, the relay agent's octets on top of the client's.


@pytest.mark.parametrize(
    "max_size, mtu, most",
    [
        pytest.param(None, 1500, 548, id="no-57"),
        pytest.param(0, 1500, 548, id="57-of-0"),
        pytest.param(300, 1500, 548, id="57-of-300"),
        pytest.param(576, 1500, 548, id="57-of-576"),
        pytest.param(800, 1500, 772, id="57-of-800"),
        pytest.param(1472, 1500, 1444, id="57-of-edk2"),
        pytest.param(1500, 1500, 1472, id="57-of-1500"),
        pytest.param(65280, 1500, 1472, id="57-of-65280"),
        pytest.param(65535, 1500, 1472, id="57-of-65535"),
        pytest.param(1500, 1280, 1252, id="57-of-1500-mtu-1280"),
        pytest.param(1500, 400, 372, id="mtu-400"),
        pytest.param(9000, 9000, 1500, id="57-of-9000-mtu-9000-within-the-buffer"),
    ],
)
def test_size(max_size: int | None, mtu: int, most: int) -> None:
    """Small options fill the room up to the last few octets; none is cut."""
    small = b"".join(tlv(code, bytes((code,)) * 6) for code in range(100, 254))
    options = b"" if max_size is None else tlv(57, max_size.to_bytes(2, "big"))
    links = ((2, ip("10.1.0.1"), 24, mtu, True),)
    pair = one_host(options=small, around={"links": links})
    data = ask(pair, discover(ALICE, options=options)).data
    assert most - 8 <= len(data) <= most
    reply = Parsed.of(data)
    for code, value in reply.order[5:] + reply.overflow:
        assert code == 52 or value == bytes((code,)) * 6


@pytest.mark.parametrize("agent", [1, 4, 100, 255])
def test_what_the_relay_added_does_not_count(agent: int) -> None:
    """RFC 3046 section 2.2: the relay takes it away again."""
    plain = one_host(mac=REMOTE, address="10.9.0.70", options=BIG)
    without = ask(plain, discover(REMOTE, giaddr="10.9.0.1"), **relayed())
    with_it = ask(plain, discover(REMOTE, giaddr="10.9.0.1", agent=bytes(agent)), **relayed())
    assert len(with_it.data) == len(without.data) + 2 + agent
    kept = [option for option in Parsed.of(with_it.data).order if option[0] != 82]
    assert kept == Parsed.of(without.data).order


def test_all_that_fits_stands_in_order() -> None:
    """An exact fit is copied as it is; one octet more and options are picked."""
    room = 548 - FIXED.size - 3 - 6 - 18 - 1
    for spare in (-1, 0):
        filler = tlv(200, bytes(100)) + tlv(201, bytes(room - len(OPTIONS) - 102 - 2 + spare - 7)) + tlv(12, b"alice")
        pair = one_host(options=OPTIONS + filler)
        reply = said(discover(ALICE), pair)
        assert (reply.codes[5:], reply.length) == ([1, 3, 200, 201, 12], 548 + spare)
    filler = tlv(200, bytes(100)) + tlv(201, bytes(room - len(OPTIONS) - 102 - 2 + 1 - 7)) + tlv(12, b"alice")
    reply = said(discover(ALICE), one_host(options=OPTIONS + filler))
    assert (reply.option(52), reply.overflow) == (b"\1", [(12, b"alice")])


def test_requested_first() -> None:
    reply = said(discover(ALICE, options=tlv(55, bytes((205, 203)))), one_host(options=BIG))
    assert reply.codes[5:7] == [203, 205]
    assert reply.order[5] == (203, b"\xcb" * 100)


def test_requested_first_from_the_host_s_own_too() -> None:
    pair = one_host(options=BIG, own=tlv(12, b"h" * 60))
    reply = said(discover(ALICE, options=tlv(55, b"\x0c")), pair)
    assert reply.order[5] == (12, b"h" * 60)


def test_no_list_at_all_takes_them_in_the_template_s_order() -> None:
    """The options field and, without a boot file, the file field."""
    reply = said(discover(ALICE), one_host(options=BIG))
    assert reply.codes[5:] == [200, 201, 52]
    assert reply.overflow == [(202, b"\xca" * 100)]


def test_overload_into_sname() -> None:
    """RFC 2131 section 4.1; the file field goes on carrying the boot file when there is one."""
    pair = one_host(options=BIG + tlv(199, bytes(40)), own=tlv(12, b"h" * 59), file=b"/boot")
    reply = said(discover(ALICE), pair)
    assert reply.order[-1] == (52, b"\2")
    assert reply.overflow == [(12, b"h" * 59)]
    assert reply.file.rstrip(b"\0") == b"/boot"
    assert reply.sname[61] == 255


@pytest.mark.parametrize("length, placed", [(61, True), (62, False)])
def test_sname_holds_63_octets_and_its_end(length: int, placed: bool) -> None:
    own = tlv(12, b"h" * length)
    reply = said(discover(ALICE), one_host(options=BIG + tlv(199, bytes(40)), own=own, file=b"/boot"))
    assert (reply.option(12) is not None) == placed


def test_no_overload_when_nothing_needs_it() -> None:
    reply = said(discover(ALICE), one_host(options=BIG, file=b"/boot"))
    assert (52 in reply.codes, reply.sname) == (False, bytes(64))


def test_an_option_that_does_not_fit_leaves_room_for_the_next() -> None:
    options = tlv(200, bytes(255)) + tlv(201, bytes(200)) + tlv(202, bytes(10))
    assert said(discover(ALICE), one_host(options=options, file=b"/boot")).codes[5:] == [200, 202]


SPLIT = tlv(43, b"a" * 255) + tlv(43, b"b" * 45)  # RFC 3396: one option of 300 octets


@pytest.mark.parametrize(
    "max_size, whole",
    [
        pytest.param(1500, True, id="fits"),
        pytest.param(576, False, id="does-not"),
        pytest.param(900, True, id="picked"),
    ],
)
def test_rfc3396_parts_stay_together(max_size: int, whole: bool) -> None:
    """Never the first part alone: a client would take it for the whole."""
    pair = one_host(options=OPTIONS + SPLIT + BIG)
    packet = discover(ALICE, options=tlv(57, max_size.to_bytes(2, "big")) + tlv(55, b"\x2b\x01\x03"))
    reply = said(packet, pair)
    assert reply.option(43) == (b"a" * 255 + b"b" * 45 if whole else None)
    parts = [at for at, code in enumerate(reply.codes) if code == 43]
    assert parts == list(range(parts[0], parts[0] + 2)) if whole else parts == []
    assert reply.option(1) == quad("255.255.255.0")


def test_parts_are_not_divided_between_options_and_sname() -> None:
    pair = one_host(options=tlv(200, bytes(200)) + tlv(43, b"a" * 40) + tlv(43, b"b" * 20))
    reply = said(discover(ALICE, options=tlv(55, b"\xc8")), pair)
    assert reply.option(43) == b"a" * 40 + b"b" * 20
    assert {43 in reply.codes, any(code == 43 for code, _ in reply.overflow)} == {True, False}


@pytest.mark.parametrize("capacity", [300, 400, 548])
def test_the_buffer_s_end_holds(capacity: int) -> None:
    data = ask(one_host(options=BIG), discover(ALICE, options=tlv(57, b"\x05\xdc")), capacity=capacity).data
    assert len(data) <= capacity
    Parsed.of(data)


@pytest.mark.parametrize("capacity", range(0, 271, 27))
def test_no_room_in_the_buffer(capacity: int) -> None:
    assert ask(site(), discover(ALICE), capacity=capacity).verdict == Verdict.IGNORED_NO_ROOM


@pytest.mark.parametrize("capacity", [271, 299])
def test_padding_does_not_pass_the_buffer_s_end(capacity: int) -> None:
    assert len(ask(site(), discover(ALICE), capacity=capacity).data) <= capacity


def test_client_id_leaves_room_for_the_mandatory_options() -> None:
    """255 octets of client id and 548 of room: the options give way, the reply does not."""
    reply = said(
        discover(ALICE, options=tlv(61, bytes(255))), one_host(options=BIG, own=tlv(12, b"one"), file=b"/boot")
    )
    assert reply.codes == [53, 54, 51, 58, 59, 12, 61]
    assert reply.length <= 548


def test_on_the_wire_the_same_for_every_way_in() -> None:
    """Broadcast or unicast to the same address of ours: the same octets."""
    packet = request(ALICE, ciaddr="10.1.0.50")
    assert ask(site(), packet, **unicast()).data == ask(site(), packet, **broadcast()).data


def test_links_of_other_interfaces_do_not_limit_the_size() -> None:
    links = (*LINKS[:2], (3, ip("10.3.0.1"), 24, 400, True))
    data = ask(one_host(options=BIG, around={"links": links}), discover(ALICE, options=tlv(57, b"\x05\xdc"))).data
    assert len(data) > 800
