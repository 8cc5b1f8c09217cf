"""ext/parse.pxd: what is read out of a request, what is forgiven, what is refused."""

import struct
from typing import Any

import pytest
from ext.classify import ClientClass, ClientState
from ext.codec import parse
from ext.verdict import Verdict

from tests.ext.packets import COOKIE, DISCOVER, INFORM, REQUEST, discover, ip, message, tlv

MAC = 0x001122334455

# dhclient's DISCOVER, octet by octet (RFC 2131 figure 1).
PLAIN = (
    "01010600 5acb2723 00048000 00000000 00000000 00000000 0a4d0001"
    "02e2e0000011 00000000000000000000" + "00" * 192 + "63825363"
    "350101 3204 0a580015 3604 0a580001 3702 0103 3902 05c0 3c03 616263 3d07 0102e2e0000011 ff"
)


def parsed(options: bytes, **fields: Any) -> dict[str, Any]:
    """What is said of a DISCOVER with these options behind option 53."""
    return parse(message(DISCOVER, MAC, options, **fields))


def test_every_field_by_hex() -> None:
    assert parse(bytes.fromhex(PLAIN)) == {
        "message_type": 1,
        "xid": 0x5ACB2723,
        "chaddr": bytes.fromhex("02e2e0000011"),
        "htype": 1,
        "hops": 0,
        "flags": 0x8000,
        "ciaddr": 0,
        "giaddr": ip("10.77.0.1"),
        "requested": ip("10.88.0.21"),
        "server_id": ip("10.88.0.1"),
        "link_selection": 0,
        "relay_server_id": 0,
        "subnet_selection": 0,
        "mac": bytes.fromhex("02e2e0000011"),
        "client_class": ClientClass.OS,
        "option_class": 0,
        "client_state": ClientState.NO_STATE,
        "max_size": 1472,
        "relay_port": False,
        "client_id": bytes.fromhex("0102e2e0000011"),
        "parameter_list": b"\x01\x03",
        "vendor_class": b"abc",
        "relay_agent": b"",
    }


@pytest.mark.parametrize(
    "options, field, want",
    [
        pytest.param("3204 0a000001", "requested", ip("10.0.0.1"), id="50"),
        pytest.param("3203 0a0000 3204 0a000001", "requested", ip("10.0.0.1"), id="50-of-3-octets-skipped"),
        pytest.param("3205 0a00000102", "requested", 0, id="50-of-5-octets-skipped"),
        pytest.param("3200 3902 0240", "max_size", 576, id="50-empty-skipped"),
        pytest.param("3604 0a000001", "server_id", ip("10.0.0.1"), id="54"),
        pytest.param("3602 0a00 3d03 010203", "client_id", b"\1\2\3", id="54-of-2-octets-skipped"),
        pytest.param("3901 05 3902 0240", "max_size", 576, id="57-of-1-octet-skipped"),
        pytest.param("3902 ff00", "max_size", 65280, id="57-of-edk2"),
        pytest.param("3d01 01", "client_id", b"", id="RFC2132-9.14-61-of-1-octet-skipped"),
        pytest.param("3d02 0102", "client_id", b"\1\2", id="RFC2132-9.14-61-of-2-octets"),
        pytest.param("3d02 0102 3d02 0304", "client_id", b"\1\2\3\4", id="RFC3396-61-in-two-parts"),
        pytest.param("3501 03", "message_type", DISCOVER, id="53-twice-first-counts"),
        pytest.param("3700 3902 0240", "max_size", 576, id="55-empty"),
        pytest.param("0000 0000 3902 0240", "max_size", 576, id="PAD-between"),
        pytest.param("3902 0240 ff 3902 05dc", "max_size", 576, id="END-ends"),
        pytest.param("7604 0a090000", "subnet_selection", ip("10.9.0.0"), id="RFC3011-118"),
        pytest.param("7602 0a09", "subnet_selection", 0, id="RFC3011-118-of-2-octets-skipped"),
        pytest.param("5206 0504 0a090000", "link_selection", ip("10.9.0.0"), id="RFC3527-82.5"),
        pytest.param("5206 0b04 0a090001", "relay_server_id", ip("10.9.0.1"), id="RFC5107-82.11"),
        pytest.param("5207 0b05 0a09000101", "relay_server_id", 0, id="RFC5107-82.11-of-5-octets-skipped"),
        pytest.param("5205 0503 0a0900", "link_selection", 0, id="RFC3527-82.5-of-3-octets-skipped"),
        pytest.param("520a 0102 7263 0504 0a090000", "link_selection", ip("10.9.0.0"), id="RFC3527-82.5-behind-82.1"),
        pytest.param("5208 0504 0a090000 01ff", "link_selection", ip("10.9.0.0"), id="82-sub-option-overrun-ends"),
        pytest.param("5208 01ff 0504 0a090000", "link_selection", 0, id="82-sub-option-overrun-hides-the-rest"),
        pytest.param("5208 0504 0a090000 01ff", "relay_agent", bytes.fromhex("05040a09000001ff"), id="82-damaged-kept"),
        pytest.param("5202 1300", "relay_port", True, id="RFC8357-82.19"),
        pytest.param("5204 01021300", "relay_port", False, id="RFC8357-19-as-a-value"),
        pytest.param("5203 010172 5204 0102 7878", "relay_agent", b"\1\1r", id="82-twice-first-counts"),
        pytest.param("5203 010172 5206 0504 0a090000", "link_selection", 0, id="82-twice-second-not-looked-into"),
        pytest.param("5200 5203 010172", "relay_agent", b"\1\1r", id="82-empty-is-none"),
        pytest.param("3c00 3902 0240", "vendor_class", b"", id="60-empty"),
    ],
)
def test_options(options: str, field: str, want: object) -> None:
    assert parsed(bytes.fromhex(options))[field] == want


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param("3902 0240", id="no-END"),
        pytest.param("3902 0240 0000", id="PAD-but-no-END"),
        pytest.param("3902 0240 32", id="code-without-length"),
        pytest.param("3902 0240 3204 0a00", id="length-overrun-ends-the-list"),
        pytest.param("3902 0240 32ff", id="length-overrun-of-255"),
        pytest.param("3902 0240 ff" + "a5" * 40, id="rubbish-behind-END"),
    ],
)
def test_ragged_end(tail: str) -> None:
    said = parsed(bytes.fromhex(tail), end=b"")
    assert (said["max_size"], said["requested"]) == (576, 0)


def test_overrun_by_one_octet_takes_the_whole_option_away() -> None:
    options = tlv(61, bytes(10))
    assert parsed(options, end=b"")["client_id"] == bytes(10)
    assert parse(message(DISCOVER, MAC, options, end=b"")[:-1])["client_id"] == b""


def test_longest_options() -> None:
    long = bytes(range(255))
    said = parsed(tlv(61, long) + tlv(55, long) + tlv(60, long), agent=long)
    assert [said[name] for name in ("client_id", "parameter_list", "vendor_class", "relay_agent")] == [long] * 4


MAX_SIZE = tlv(57, b"\x02\x40") + b"\xff"
WANTED = tlv(50, "10.0.0.1") + b"\xff"


@pytest.mark.parametrize(
    "overload, file, sname, max_size, requested",
    [
        pytest.param(b"", MAX_SIZE, WANTED, 0, 0, id="without-52-file-and-sname-are-no-options"),
        pytest.param(tlv(52, 1), MAX_SIZE, WANTED, 576, 0, id="52-file"),
        pytest.param(tlv(52, 2), MAX_SIZE, WANTED, 0, ip("10.0.0.1"), id="52-sname"),
        pytest.param(tlv(52, 3), MAX_SIZE, WANTED, 576, ip("10.0.0.1"), id="52-both"),
        pytest.param(tlv(52, 0), MAX_SIZE, WANTED, 0, 0, id="52-none"),
        pytest.param(tlv(52, 4), MAX_SIZE, WANTED, 0, 0, id="52-unknown-bit"),
        pytest.param(tlv(52, b"\1\1"), MAX_SIZE, WANTED, 0, 0, id="52-of-2-octets-skipped"),
        pytest.param(tlv(52, 1), tlv(52, 3) + MAX_SIZE, WANTED, 576, 0, id="52-in-file-ignored"),
        pytest.param(tlv(52, 2), MAX_SIZE, tlv(52, 3) + WANTED, 0, ip("10.0.0.1"), id="52-in-sname-ignored"),
        pytest.param(tlv(52, 1), bytes(124) + b"\x32\x04\x0a\x00", WANTED, 0, 0, id="overrun-out-of-file"),
        pytest.param(tlv(52, 2), MAX_SIZE, bytes(60) + b"\x32\x04\x0a\x00", 0, 0, id="overrun-out-of-sname"),
        pytest.param(tlv(52, 2), MAX_SIZE, bytes(58) + WANTED[:6], 0, ip("10.0.0.1"), id="sname-full-without-END"),
    ],
)
def test_overload(overload: bytes, file: bytes, sname: bytes, max_size: int, requested: int) -> None:
    said = parsed(overload, file=file, sname=sname)
    assert (said["max_size"], said["requested"]) == (max_size, requested)


def test_overload_with_the_message_type_in_file() -> None:
    packet = message(None, MAC, tlv(52, 1), file=tlv(53, REQUEST) + b"\xff")
    assert parse(packet)["message_type"] == REQUEST


def test_overload_order_is_options_file_sname() -> None:
    """RFC 2131 section 4.1, and RFC 3396 section 5 for parts of one option."""
    first, second, third = (tlv(61, bytes((i, i, i))) for i in (1, 2, 3))
    both = {"file": second + b"\xff", "sname": third + b"\xff"}
    assert parsed(tlv(52, 3) + first, **both)["client_id"] == b"\1\1\1\2\2\2\3\3\3"
    assert parsed(tlv(52, 3), **both)["client_id"] == b"\2\2\2\3\3\3"


@pytest.mark.parametrize(
    "packet, want",
    [
        pytest.param(b"", Verdict.IGNORED_SHORT, id="empty"),
        pytest.param(discover(MAC)[:239], Verdict.IGNORED_SHORT, id="239-octets"),
        pytest.param(discover(MAC, op=2), Verdict.IGNORED_NOT_REQUEST, id="a-reply-reflected"),
        pytest.param(discover(MAC, op=0), Verdict.IGNORED_NOT_REQUEST, id="op-0"),
        pytest.param(discover(MAC, cookie=COOKIE[::-1]), Verdict.IGNORED_COOKIE, id="cookie"),
        pytest.param(discover(MAC, hlen=17), Verdict.IGNORED_HARDWARE, id="hlen-17"),
        pytest.param(discover(MAC, hlen=255, htype=32), Verdict.IGNORED_HARDWARE, id="hlen-255"),
        pytest.param(discover(MAC, hlen=5), Verdict.IGNORED_HARDWARE, id="ethernet-hlen-5"),
        pytest.param(discover(MAC, hlen=0), Verdict.IGNORED_HARDWARE, id="ethernet-hlen-0"),
        pytest.param(discover(MAC, hlen=16), Verdict.IGNORED_HARDWARE, id="ethernet-hlen-16"),
        pytest.param(message(None, MAC, tlv(53, b"\1\1")), Verdict.IGNORED_MESSAGE_TYPE, id="53-of-2-octets"),
        pytest.param(message(None, MAC, tlv(53, b"")), Verdict.IGNORED_MESSAGE_TYPE, id="53-empty"),
        pytest.param(message(None, MAC, tlv(53, 0)), Verdict.IGNORED_MESSAGE_TYPE, id="53-of-0"),
        *(
            pytest.param(message(kind, MAC), Verdict.IGNORED_MESSAGE_TYPE, id=f"type-{kind}")
            for kind in (2, 5, 6, 9, 13, 18, 255)
        ),
    ],
)
def test_refused(packet: bytes, want: Verdict) -> None:
    assert parse(packet) == {"verdict": want}


@pytest.mark.parametrize("packet", [discover(MAC)[:240], message(None, MAC), message(None, MAC, b"\xff" + tlv(53, 1))])
def test_no_message_type_is_bootp(packet: bytes) -> None:
    assert parse(packet)["message_type"] == 0


@pytest.mark.parametrize("kind", [1, 3, 4, 7, INFORM])
def test_accepted_types(kind: int) -> None:
    assert parse(message(kind, MAC))["message_type"] == kind


@pytest.mark.parametrize("htype, hlen", [(32, 0), (6, 6), (7, 1), (32, 16)])
def test_hardware_other_than_ethernet(htype: int, hlen: int) -> None:
    """RFC 4390: InfiniBand has hlen 0 and no chaddr."""
    said = parse(discover(0, htype=htype, hlen=hlen, chaddr=bytes(range(16))))
    assert (said["htype"], said["chaddr"]) == (htype, bytes(range(16))[:hlen])


def test_short_but_whole() -> None:
    """networkd's RELEASE and dhcping send fewer than 300 octets (FIELD 4d)."""
    assert len(message(7, MAC)) == 244
    assert parse(message(7, MAC))["message_type"] == 7


def test_a_second_53_that_is_malformed_does_no_harm() -> None:
    assert parse(message(None, MAC, tlv(53, b"\1\1") + tlv(53, 1)))["message_type"] == DISCOVER


def test_every_length_is_safe() -> None:
    whole = bytes.fromhex(PLAIN)
    for length in range(len(whole)):
        said = parse(whole[:length])
        assert "verdict" in said or said["xid"] == 0x5ACB2723


def test_header_words_are_read_in_network_order() -> None:
    said = parse(struct.pack("!BBBBIHHIIII", 1, 1, 6, 3, 1, 2, 0x8000, 5, 6, 7, 8) + bytes(208) + COOKIE + b"\x35\1\1")
    assert (said["hops"], said["xid"], said["flags"], said["ciaddr"], said["giaddr"]) == (3, 1, 0x8000, 5, 8)
