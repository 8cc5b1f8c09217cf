"""Differential: every option name that today's scapy knows, encoded by us and by scapy, gives the same bytes."""

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
from scapy.fields import ByteField, Field, IntField, IPField, ShortField, StrField
from scapy.layers.dhcp import DHCP, ClasslessFieldListField, DHCPOptions, DHCPRevOptions, _DHCPByteFieldListField

from control.options.rendering import ENCODER_OWNED, OptionRejected, Vocabulary, encode, tlv
from control.options.table import WHY_COMPUTED, Kind, Option

NAMES: dict[str, tuple[int, Field | None]] = dict(DHCPRevOptions)


@dataclass(frozen=True)
class Sample:
    """What is written into our inventory, and the values that scapy takes for the same."""

    ours: list[str | int]
    scapy: list[Any]


@dataclass(frozen=True)
class Different:
    """Where the sample of scapy's type doesn't do: what we write instead, scapy's values for the same, and why."""

    ours: list[str | int]
    scapy: list[Any]
    why: str


NO_VALUE = {"pad": "one byte without length or value, not an option", "end": "as pad"}

_NUL = "scapy leaves out the NUL that some ROMs need behind a name"
_NUMBERS = "scapy takes finished bytes; the RFC says numbers"
_NAMES = "scapy takes finished bytes; the RFC says domain names in DNS form"
_RECORD = "scapy takes finished bytes; the RFC says fields, and we take them in words"
_BYTES = "text for scapy, but its RFC defines bytes that no text can be, so we want them in hexadecimal"
DIFFERENT: dict[int, Different] = {
    1: Different(["255.255.254.0"], ["255.255.254.0"], "we refuse what is no netmask"),
    12: Different(["some-text.x"], ["some-text.x"], "we refuse what is no host name"),
    66: Different(["10.1.2.3"], ["10.1.2.3\0"], _NUL),
    67: Different(["/some/text.x"], ["/some/text.x\0"], _NUL),
    78: Different(["1 10.1.2.3"], [b"\1\x0a\1\2\3"], _RECORD),
    79: Different(["0 rack"], [b"\0rack"], _RECORD),
    81: Different(["04:00:00:01:61:00"], [b"\4\0\0\1a\0"], _BYTES),
    88: Different(["a.example b"], [b"\1a\7example\0\1b\0"], _NAMES),
    93: Different(["0, 7"], [b"\0\0\0\7"], _NUMBERS),
    94: Different(["1 3 16"], [b"\1\3\x10"], _RECORD),
    97: Different(["0x00" + "0f" * 16], [b"\0" + b"\x0f" * 16], _BYTES),
    124: Different(["enterprise 9: text, 0x0102"], [b"\0\0\0\x09\x08\4text\2\1\2"], _RECORD),
    125: Different(["enterprise 9: 1=0x0102, 2=text"], [b"\0\0\0\x09\x0a\1\2\1\2\2\4text"], _RECORD),
    137: Different(["lost.example"], [b"\4lost\7example\0"], _NAMES),
    141: Different(["a.example b"], [b"\1a\7example\0\1b\0"], _NAMES),
    146: Different(["1 10.1.2.3 10.1.2.4 b"], [b"\1\x0a\1\2\3\x0a\1\2\4\1b\0"], _RECORD),
    159: Different(["6 8 255"], [b"\6\x08\0\xff"], _RECORD),
    208: Different(["f1:00:75:7e"], [b"\xf1\0\x75\x7e"], _BYTES),
    211: Different(["30"], [b"\0\0\0\x1e"], _NUMBERS),
    212: Different(
        ["14 32 2001:db8:: 10.1.2.3"], [b"\x0e\x20\x20\1\x0d\xb8" + bytes(12) + b"\x0a\1\2\3"], _RECORD
    ),
    213: Different(["example.org."], [b"\7example\3org\0"], _NAMES),
}  # fmt: skip


def found(name: str) -> Option:
    option = Vocabulary().find(name)
    assert option is not None, f"scapy knows {name}, we don't"
    return option


def sample(option: Option, field: Field | None) -> Sample:
    """A value of scapy's type; where we allow several, several."""
    match field:
        case IPField():
            addresses = ["10.1.2.3", "10.1.2.4"] if option.kind is not Kind.ADDRESS else ["10.1.2.3"]
            return Sample([", ".join(addresses)], addresses)
        case IntField():
            return Sample(["86400"], [86400])
        case ShortField():
            return Sample([1499], [1499])
        case ByteField():
            number = 1 if option.kind is Kind.FLAG else 200
            return Sample([str(number)], [number])
        case ClasslessFieldListField():
            return Sample(["10.0.0.0/8 10.1.1.1, 0.0.0.0/0 10.0.0.1"], ["10.0.0.0/8:10.1.1.1", "0.0.0.0/0:10.0.0.1"])
        case _DHCPByteFieldListField():
            return Sample(["1, 2"], [[1, 2]])
        case None | StrField():
            return Sample(["some/text.x"], ["some/text.x"])
    raise AssertionError(f"{option.name}: scapy's {type(field).__name__} is new here; give it a sample")


def scapy_bytes(name: str, values: list[Any]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return bytes(DHCP(options=[(name, *values)]))


def sent(names: dict[str, Any]) -> list[str]:
    return [name for name, (code, _) in names.items() if name not in NO_VALUE and code not in WHY_COMPUTED]


@pytest.mark.parametrize("name", sent(NAMES))
def test_same_bytes_as_scapy(name: str) -> None:
    code, field = NAMES[name]
    option = found(name)
    assert option.code == code
    values: Sample | Different = DIFFERENT.get(code) or sample(option, field)
    assert tlv(code, encode(option, values.ours)) == scapy_bytes(name, values.scapy)


@pytest.mark.parametrize("name", [name for name in sent(NAMES) if isinstance(NAMES[name][1], IPField | ShortField)])
def test_several_attributes_are_the_same_list_for_scapy(name: str) -> None:
    code, field = NAMES[name]
    option = found(name)
    ours: list[str | int] = ["10.1.2.3", "10.1.2.4"] if isinstance(field, IPField) else [1499, "1500"]
    if option.kind in (Kind.ADDRESS, Kind.INT16):
        with pytest.raises(OptionRejected, match="found 2 attributes"):
            encode(option, ours)
        return
    theirs = [int(value) for value in ours] if isinstance(field, ShortField) else ours
    assert tlv(code, encode(option, ours)) == scapy_bytes(name, theirs)


@pytest.mark.parametrize("name", [name for name, (code, _) in NAMES.items() if code in WHY_COMPUTED])
def test_what_scapy_can_send_and_we_compute_is_refused_with_its_reason(name: str) -> None:
    option = found(name)
    assert option.code == NAMES[name][0]
    with pytest.raises(OptionRejected, match="remove the attribute") as caught:
        encode(option, ["10.1.2.3"])
    assert WHY_COMPUTED[option.code] in str(caught.value)


@pytest.mark.parametrize("name", NO_VALUE)
def test_what_has_no_value_is_no_option(name: str) -> None:
    assert NAMES[name][0] in ENCODER_OWNED and Vocabulary().find(name) is None


@pytest.mark.parametrize("code", DIFFERENT)
def test_every_difference_is_still_one(code: int) -> None:
    """Without its entry the plain sample would be refused or give other bytes; else the entry has to go."""
    entry = DHCPOptions[code]
    name = entry if isinstance(entry, str) else entry.name
    plain = sample(found(name), NAMES[name][1])
    try:
        ours = tlv(code, encode(found(name), plain.ours))
    except OptionRejected:
        return
    assert ours != scapy_bytes(name, plain.scapy)


def test_the_walk_sees_all_of_scapy() -> None:
    assert len(NAMES) == len(DHCPOptions) > 110
    assert len(sent(NAMES)) > 95 and set(DIFFERENT) <= set(DHCPOptions)


@pytest.mark.parametrize("size", [255, 256, 510, 1400])
@pytest.mark.parametrize("name", ["domain", "vendor_specific", "root_disk_path"])
def test_scapy_reads_long_options_in_pieces_that_join(name: str, size: int) -> None:
    text = ("0123456789" * 140)[:size]
    option = found(name)
    pieces = DHCP(tlv(option.code, encode(option, [text]))).options
    assert {piece[0] for piece in pieces} == {name} and len(pieces) == -(-size // 255)
    assert b"".join(piece[1] for piece in pieces) == text.encode()
