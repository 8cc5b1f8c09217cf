"""A DHCP message taken apart for people: header fields, options by name, values in words.  Pure; decides nothing.

What the packet path makes of a request is ext.codec's to say; this only reads what stands in a message, wrong or right.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from control.options.table import FIELDS, NO_SPACE, SUBOPTION_ROWS, Kind, Option, option_by_code

COOKIE = bytes((99, 130, 83, 99))
HEADER_BYTES = 240
MESSAGES = (
    *("", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM", "FORCERENEW"),
    *("LEASEQUERY", "LEASEUNASSIGNED", "LEASEUNKNOWN", "LEASEACTIVE"),
)
_SECONDS = {24, 35, 38, 51, 58, 59, 91, 108, 211}
_ARCHITECTURES = {
    0: "BIOS", 2: "UEFI Itanium", 6: "UEFI 32-bit x86", 7: "UEFI 64-bit x86", 9: "UEFI 64-bit x86 (EBC)",
    10: "UEFI 32-bit ARM", 11: "UEFI 64-bit ARM", 15: "UEFI 32-bit x86 over HTTP", 16: "UEFI 64-bit x86 over HTTP",
    18: "UEFI 32-bit ARM over HTTP", 19: "UEFI 64-bit ARM over HTTP", 27: "UEFI 64-bit RISC-V",
}  # fmt: skip
_RELAY = {
    1: "circuit id", 2: "remote id", 5: "link selection", 6: "subscriber id", 11: "server id override",
    19: "source port", 150: "link selection (Cisco)", 151: "virtual subnet", 152: "virtual subnet control",
}  # fmt: skip
_IPXE_FEATURES = {  # what a build says that it can do: iPXE's src/include/ipxe/features.h
    16: "PXE extensions", 17: "iSCSI", 18: "AoE", 19: "HTTP", 20: "HTTPS", 21: "TFTP", 22: "DNS", 23: "bzImage",
    24: "multiboot", 25: "SLAM", 26: "SRP", 32: "NBI images", 33: "PXE images", 34: "ELF images", 35: "COM boot",
    36: "EFI images", 37: "FCoE", 38: "VLAN", 39: "menus", 40: "SDI images", 41: "NFS",
}  # fmt: skip
_CODES = {  # sub-options that are no option: their names
    82: _RELAY, 175: _IPXE_FEATURES,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """A message's fields; addresses as text, "" for 0.0.0.0.  options: code -> whole value (RFC 3396), in order."""

    op: int
    xid: int
    flags: int
    ciaddr: str
    yiaddr: str
    siaddr: str
    giaddr: str
    chaddr: bytes
    sname: str
    file: str
    options: dict[int, bytes]

    @property
    def kind(self) -> str:
        value = self.options.get(53, b"")
        return MESSAGES[value[0]] if len(value) == 1 and 1 <= value[0] < len(MESSAGES) else ""

    @property
    def key(self) -> tuple[int, bytes]:
        """A request and the replies to it have the same."""
        return self.xid, self.chaddr


def dissect(payload: bytes) -> Message | None:
    """None: too short for a DHCP message, or without its cookie."""
    if len(payload) < HEADER_BYTES or payload[236:240] != COOKIE:
        return None
    xid, _secs, flags, *quads = struct.unpack_from("!IHH4s4s4s4s", payload, 4)
    file = payload[108:236]
    options: dict[int, bytes] = {}
    for code, value in options_of(payload[HEADER_BYTES:]):
        options[code] = options.get(code, b"") + value
    overload = options.get(52, b"\0")[:1] or b"\0"
    for bit, area in ((1, file), (2, payload[44:108])):
        for code, value in options_of(area) if overload[0] & bit else ():
            options[code] = options.get(code, b"") + value
    name, server = (
        "" if overload[0] & bit or not area[0] else words(area.partition(b"\0")[0])
        for bit, area in ((1, file), (2, payload[44:108]))
    )
    ciaddr, yiaddr, siaddr, giaddr = (quad(value) if any(value) else "" for value in quads)
    return Message(payload[0], xid, flags, ciaddr, yiaddr, siaddr, giaddr, payload[28:44], server, name, options)


def options_of(area: bytes, zero_pads: bool = True) -> Iterator[tuple[int, bytes]]:
    """Ends where a length points past the area.  zero_pads: 0 is no option of its own, as RFC 2132 has it."""
    at = 0
    while at < len(area) and area[at] != 255:
        if area[at] == 0 and zero_pads:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            return
        yield area[at], area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + area[at + 1]


# --- values ----------------------------------------------------------------------------------------------------------


def quad(value: bytes) -> str:
    return str(IPv4Address(value))


def words(value: bytes) -> str:
    """Text as it stands, other bytes in hexadecimal."""
    try:
        text = value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return hexadecimal(value)
    return text if text and text.isprintable() else hexadecimal(value)


def hexadecimal(value: bytes) -> str:
    return f"0x{value.hex()}" if value else "(empty)"


def duration(seconds: int) -> str:
    """As people say it: 1 h, 26 min 40 s, for ever."""
    if seconds == 0xFFFFFFFF:
        return "for ever"
    rest, found = seconds, []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= length:
            found.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(found) or "0 s"


def _number(size: int, signed: bool = False) -> Callable[[bytes], str]:
    def read(value: bytes) -> str:
        if not value or len(value) % size:
            raise ValueError
        parts = (value[at : at + size] for at in range(0, len(value), size))
        return ", ".join(str(int.from_bytes(part, "big", signed=signed)) for part in parts)

    return read


def _addresses(value: bytes) -> str:
    if not value or len(value) % 4:
        raise ValueError
    return ", ".join(quad(value[at : at + 4]) for at in range(0, len(value), 4))


def _pairs(value: bytes) -> str:
    if not value or len(value) % 8:
        raise ValueError
    return ", ".join(f"{quad(value[at : at + 4])} {quad(value[at + 4 : at + 8])}" for at in range(0, len(value), 8))


def _flag(value: bytes) -> str:
    return {b"\0": "no", b"\1": "yes"}[value]


def _routes(value: bytes) -> str:
    found, at = [], 0
    while at < len(value):
        significant = (value[at] + 7) // 8
        network = value[at + 1 : at + 1 + significant].ljust(4, b"\0")
        found.append(f"{quad(network)}/{value[at]} by {quad(value[at + 1 + significant : at + 5 + significant])}")
        at += 5 + significant
    return ", ".join(found)


def _domains(value: bytes) -> str:
    """RFC 1035 names, compressed (RFC 3397) or not; pointers count from the value's start, each further back."""
    found, at = [], 0
    while at < len(value):
        labels, here, end = [], at, 0
        lowest = at
        while value[here]:
            if value[here] >= 0xC0:
                target = (value[here] & 0x3F) << 8 | value[here + 1]
                end = end or here + 2
                if target >= lowest:
                    raise ValueError
                here = lowest = target
                continue
            labels.append(value[here + 1 : here + 1 + value[here]].decode("ascii"))
            here += 1 + value[here]
        found.append(".".join(labels) or ".")
        at = end or here + 1
    return ", ".join(found)


def _pxe_servers(value: bytes) -> str:
    """PXE 2.1 tag 8: type, count, addresses of each."""
    found, at = [], 0
    while at < len(value):
        end = at + 3 + 4 * value[at + 2]
        addresses = _addresses(value[at + 3 : end]) if value[at + 2] else "any"
        found.append(f"type {int.from_bytes(value[at : at + 2], 'big')} {addresses}")
        at = end
    return ", ".join(found)


def _pxe_menu(value: bytes) -> str:
    """PXE 2.1 tag 9: type, length, line of each."""
    found, at = [], 0
    while at < len(value):
        end = at + 3 + value[at + 2]
        found.append(f"type {int.from_bytes(value[at : at + 2], 'big')} {words(value[at + 3 : end])}")
        at = end
    return ", ".join(found)


_KINDS: dict[Kind, Callable[[bytes], str]] = {
    Kind.ADDRESS: _addresses,
    Kind.ADDRESSES: _addresses,
    Kind.PAIRS: _pairs,
    Kind.INT8: _number(1),
    Kind.INT8S: _number(1),
    Kind.INT16: _number(2),
    Kind.INT16S: _number(2),
    Kind.INT32: _number(4),
    Kind.SINT8: _number(1, signed=True),
    Kind.SINT32: _number(4, signed=True),
    Kind.FLAG: _flag,
    Kind.HEX: hexadecimal,
    Kind.ROUTES: _routes,
    Kind.DOMAIN: _domains,
    Kind.DOMAINS: _domains,
    Kind.SEARCH: _domains,
    Kind.PXE_SERVERS: _pxe_servers,
    Kind.PXE_MENU: _pxe_menu,
}


def _message_type(value: bytes) -> str:
    return MESSAGES[value[0]]


def _parameter_list(value: bytes) -> str:
    return ", ".join(option_by_code(code).name if 0 < code < 255 else str(code) for code in value)


def _client_id(value: bytes) -> str:
    """RFC 2132 section 9.14: a hardware type and address, or 0 and anything; RFC 4361: 255, IAID and DUID."""
    if value[0] == 1 and len(value) == 7:
        return f"Ethernet {value[1:].hex(':')}"
    if value[0] == 255 and len(value) > 5:
        return f"DUID {value[5:].hex()}, interface {value[1:5].hex()}"
    return words(value[1:]) if value[0] == 0 else words(value)


def _architectures(value: bytes) -> str:
    numbers = [int.from_bytes(value[at : at + 2], "big") for at in range(0, len(value), 2)]
    return ", ".join(f"{number} ({_ARCHITECTURES.get(number, 'unknown')})" for number in numbers)


def _undi(value: bytes) -> str:
    kind, major, minor = value
    return f"UNDI {major}.{minor}" if kind == 1 else words(value)


def _machine(value: bytes) -> str:
    """Byte order as firmware writes it: the first three fields are little-endian."""
    return str(uuid.UUID(bytes_le=value[1:])) if len(value) == 17 and value[0] == 0 else hexadecimal(value)


def _user_class(value: bytes) -> str:
    return words(value[1:]) if value and value[0] == len(value) - 1 else words(value)


def _overload(value: bytes) -> str:
    return {1: "in file", 2: "in sname", 3: "in file and sname"}[value[0]]


_CODE_WORDS: dict[int, Callable[[bytes], str]] = {
    50: _addresses, 52: _overload, 53: _message_type, 55: _parameter_list, 61: _client_id, 77: _user_class,
    92: _addresses, 93: _architectures, 94: _undi, 97: _machine, 118: _addresses,
}  # fmt: skip


def value_words(option: Option, value: bytes) -> str:
    """A value in words; what is malformed, in hexadecimal."""
    read = _CODE_WORDS.get(option.code) if option.space == 0 else None
    read = read or _KINDS.get(option.kind, words)
    try:
        text = duration(int(_number(4)(value))) if option.space == 0 and option.code in _SECONDS else read(value)
    except (ValueError, IndexError, KeyError):
        return f"{hexadecimal(value)} (malformed)"
    return text


def describe_option(code: int, value: bytes) -> dict[str, Any]:
    """{"code", "name", "value", "hex", "parts"}: parts are its sub-options, [(number, name, words)]."""
    option = option_by_code(code)
    parts = parts_of(code, value)
    text = "" if parts else value_words(option, value)
    return {"code": code, "name": option.name, "value": text, "hex": value.hex(), "parts": parts}


def parts_of(code: int, value: bytes) -> list[list[Any]]:
    """[number, name, words] of each sub-option; empty when the option has none, or does not look like it."""
    if code not in _CODES and code not in SUBOPTION_ROWS:
        return []
    body = value[:-1] if code == 43 and value.endswith(b"\xff") else value
    # Vendors that have a sub-option 0 have their own meanings for the other numbers, too.
    for zero_pads, space in ((True, code), (False, 0)):
        parts = list(options_of(body, zero_pads))
        if sum(2 + len(content) for _number, content in parts) == len(body) and (0, b"") not in parts:
            return [[number, *part_words(space, number, content)] for number, content in parts]
    return []


def relay_words(value: bytes) -> str:
    """Option 82, or its beginning, on one line of ASCII: what relays write, anybody may have written."""
    found, at = [], 0
    while at + 2 <= len(value):
        number, length = value[at], value[at + 1]
        content = value[at + 2 : at + 2 + length]
        cut = "..." if len(content) < length else ""
        name = _RELAY.get(number, f"sub-option {number}").replace(" ", "-")
        plain = (
            content.isascii() and content.decode("ascii", "replace").isprintable() and not set(content) & set(b'"\\')
        )
        shown = f'"{content.decode("ascii")}"' if content and plain else hexadecimal(content)
        if not cut and length == 4 and number in (5, 11, 150, 152):
            shown = str(IPv4Address(content))
        found.append(f"{name} {shown}{cut}")
        at += 2 + length
    return ", ".join(found) or hexadecimal(value)


def part_words(code: int, number: int, value: bytes) -> tuple[str, str]:
    for each, kind, names in SUBOPTION_ROWS.get(code, ()):
        if each == number:
            if kind is Kind.RECORD:
                return names.split()[0], record_words(code, number, value)
            return names.split()[0], value_words(Option(number, names, kind, code), value)
    name = _CODES.get(code, {}).get(number, f"sub-option {number}")
    if code == 82 and number == 152 and len(value) == 4:
        name = "server id override (Cisco)"
    if code == 82 and (number in (5, 11) or (number in (150, 152) and len(value) == 4)):
        return name, value_words(Option(number, name, Kind.ADDRESS, code), value)
    if code == 175 and len(value) == 1:
        return name, "yes" if number in _IPXE_FEATURES and value == b"\1" else str(value[0])
    return name, words(value)


def record_words(code: int, number: int, value: bytes) -> str:
    """The fields of a sub-option that has several."""
    sizes = {Kind.INT8: 1, Kind.INT16: 2, Kind.INT32: 4}
    found, at = [], 0
    for name, kind in FIELDS[code, number]:
        size = sizes.get(kind, len(value) - at)
        found.append(f"{name} {value_words(Option(0, name, kind, NO_SPACE), value[at : at + size])}")
        at += size
    return ", ".join(found)


def differences(ours: Message, theirs: Message) -> list[dict[str, str]]:
    """What two replies say otherwise: [{"what", "ours", "theirs"}], "-" where one says nothing."""
    pairs = [
        ("message", ours.kind, theirs.kind), ("address", ours.yiaddr, theirs.yiaddr),
        ("next server", ours.siaddr, theirs.siaddr), ("server name", ours.sname, theirs.sname),
        ("boot file", ours.file, theirs.file),
    ]  # fmt: skip
    for code in sorted((ours.options.keys() | theirs.options.keys()) - {53}):
        if ours.options.get(code) != theirs.options.get(code) and 0 < code < 255:
            pairs.append((f"option {code} {option_by_code(code).name}", said(ours, code), said(theirs, code)))
    return [{"what": what, "ours": one or "-", "theirs": two or "-"} for what, one, two in pairs if one != two]


def said(message: Message, code: int) -> str:
    if code not in message.options:
        return ""
    option = describe_option(code, message.options[code])
    return option["value"] or ", ".join(f"{name} {text}" for _number, name, text in option["parts"])
