"""control/messages/dissect.py: options and their values in words, whatever stands in them."""

from typing import Any

import pytest

from control.messages.dissect import describe_option, dissect, duration
from tests.ext import packets
from tests.ext.packets import tlv
from tests.ext.sites import ALICE


@pytest.mark.parametrize(
    "code, value, said",
    [
        (51, b"\0\0\x0e\x10", "1 h"),
        (51, b"\xff\xff\xff\xff", "for ever"),
        (3, bytes((10, 0, 0, 1, 10, 0, 0, 2)), "10.0.0.1, 10.0.0.2"),
        (3, b"\x0a\0\0", "0x0a0000 (malformed)"),
        (121, bytes((8, 10, 10, 1, 1, 1, 0, 10, 1, 1, 2)), "10.0.0.0/8 by 10.1.1.1, 0.0.0.0/0 by 10.1.1.2"),
        (119, b"\x01a\x07example\x00\x01b\xc0\x02", "a.example, b.example"),
        (119, b"\xc0\x00", "0xc000 (malformed)"),
        (119, b"\x01a\xc0\x00", "0x0161c000 (malformed)"),
        (53, b"\x05", "ACK"),
        (55, b"\x01\x43", "subnet_mask, tftp_filename"),
        (61, b"\x01\x02\0\0\0\0\x01", "Ethernet 02:00:00:00:00:01"),
        (67, b"a.0\0", "a.0"),
        (93, b"\0\x07", "7 (UEFI 64-bit x86)"),
        (94, b"\x01\x03\x10", "UNDI 3.16"),
        (19, b"\x01", "yes"),
        (26, b"\x05\xdc", "1500"),
        (12, b"caf\xe9", "0x636166e9"),
        (252, b"", "(empty)"),
    ],
)
def test_values_in_words(code: int, value: bytes, said: str) -> None:
    assert describe_option(code, value)["value"] == said


@pytest.mark.parametrize(
    "code, value, parts",
    [
        (82, b"\x01\x02ab\x05\x04\x0a\0\0\0", [[1, "circuit id", "ab"], [5, "link selection", "10.0.0.0"]]),
        (175, b"\xb0\x01\x01\x13\x01\x01", [[176, "no-pxedhcp", "yes"], [19, "HTTP", "yes"]]),
        (43, b"\x06\x01\x03\x09\x05\0\x0f\x02ab\xff", [[6, "discovery-control", "3"], [9, "boot-menu", "type 15 ab"]]),
        (43, b"\x08\x07\0\x0f\x01\x0a\0\0\x01\xff", [[8, "boot-servers", "type 15 10.0.0.1"]]),
        (43, b"vendor's text", []),
        (43, b"\x0a\x04\x00PXE\xff", [[10, "menu-prompt", "seconds 0, text PXE"]]),
    ],
)
def test_sub_options_in_words(code: int, value: bytes, parts: list[list[Any]]) -> None:
    assert describe_option(code, value)["parts"] == parts


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 59, 60, 3150, 90061)] == [
        "0 s", "59 s", "1 min", "52 min 30 s", "1 d 1 h 1 min 1 s",
    ]  # fmt: skip


def test_any_octets_can_be_dissected() -> None:
    whole = packets.message(5, ALICE, tlv(52, 3) + tlv(43, b"\x09\x03\0\x0f\xff"), file=tlv(15, b"a") + b"\xff")
    message = dissect(whole)
    assert message is not None and message.options[15] == b"a" and message.file == ""
    for value in (b"", b"\0", b"\xff" * 9, bytes(range(40))):
        for code in range(1, 255):
            assert describe_option(code, value)["code"] == code
    assert dissect(whole[:239]) is None


def test_a_list_with_a_sub_option_0_is_told_by_its_numbers() -> None:
    """Junos; RFC 2132 has 0 as padding, and pads stay no parts."""
    told = describe_option(43, b"\0\x04/a.t\1\x01b")
    assert told["parts"] == [[0, "sub-option 0", "/a.t"], [1, "sub-option 1", "b"]]
    assert describe_option(43, b"\6\1\x08\0\0\xff")["parts"] == []
    assert describe_option(43, b"\6\1\x08\xff")["parts"] == [[6, "discovery-control", "8"]]


def test_messages_of_leasequery_have_names() -> None:
    """RFC 3203, RFC 4388."""
    assert [describe_option(53, bytes((kind,)))["value"] for kind in (9, 10, 11, 12, 13)] == [
        *("FORCERENEW", "LEASEQUERY", "LEASEUNASSIGNED", "LEASEUNKNOWN", "LEASEACTIVE"),
    ]
    assert "malformed" in describe_option(53, b"\x0e")["value"]
    assert describe_option(92, bytes((10, 0, 0, 1)))["value"] == "10.0.0.1"
