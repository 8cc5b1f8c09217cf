"""A value of another server -> an attribute's text that gives the same octets.

Where the old server's octets are known, ours are compared with them, and written as `hex:` if they differ.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from typing import Final

from control.importers.kinds import Value
from control.importers.site import Unfit
from control.options.rendering import Vocabulary, encode
from control.options.table import Kind, Option, may_be_empty, option_by_code
from control.options.values import HOST_NAME, HOST_NAME_BYTES_MAX, OptionRejected

VOCABULARY: Final = Vocabulary()
BOOT_SERVER, BOOT_FILE, BOOT_FILE_URL, ROUTER, LEASE = (
    "tftp_server", "tftp_filename", "bootfile_url", "router", "lease_time",
)  # fmt: skip
VENDOR_SPECIFIC: Final = 43
_TEXTS: Final = frozenset({Kind.TEXT, Kind.TEXT_NUL, Kind.HOST_NAME})
_ADDRESSES: Final = frozenset({Kind.ADDRESS, Kind.ADDRESSES, Kind.PAIRS})
LEASE_FOREVER: Final = 0xFFFFFFFF


def name_of(option: Option) -> str:
    """As the importers write it: our table's first name, or `option-N`."""
    return option.name


def by_name(name: str) -> Option | None:
    return VOCABULARY.find(name)


def by_code(code: int) -> Option:
    """Raises Unfit."""
    try:
        return option_by_code(code)
    except ValueError as error:
        raise Unfit(str(error)) from error


def is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def wants_addresses(option: Option) -> bool:
    return option.kind in _ADDRESSES


@lru_cache(maxsize=65_536)
def attribute(option: Option, plain: Value | None, wire: bytes | None = None) -> Value:
    """plain: what a person would write; wire: what the old server sends, where that is known.  Raises Unfit."""
    if option.kind is Kind.COMPUTED:
        raise Unfit(f"option {option.code} is computed for each reply")
    fault = ""
    if plain is not None:
        values = list(plain) if isinstance(plain, tuple) else [plain]
        try:
            ours = encode(option, values)
        except OptionRejected as rejected:
            fault = f"found {rejected.found}; wanted {rejected.wanted}"
        else:
            if wire is None or ours == wire or (option.kind is Kind.TEXT_NUL and ours.rstrip(b"\0") == wire):
                return plain
    if wire is None:
        raise Unfit(fault or "no value")
    if not wire and not may_be_empty(option.code):
        raise Unfit("an empty value")
    value = text_of(option, wire) or f"hex:{wire.hex(':')}"
    try:
        encode(option, [value])
    except OptionRejected as rejected:
        raise Unfit(f"found {rejected.found}; wanted {rejected.wanted}") from rejected
    return value


def text_of(option: Option, wire: bytes) -> str:
    """`text:...` for octets that are printable ASCII, where that gives the same octets; else empty."""
    if option.kind in _TEXTS or not wire.isascii() or not wire.decode("ascii").isprintable():
        return ""
    value = f"text:{wire.decode('ascii')}"
    try:
        return value if encode(option, [value]) == wire else ""
    except OptionRejected:
        return ""


def is_host_name(text: str) -> bool:
    return len(text) <= HOST_NAME_BYTES_MAX and HOST_NAME.fullmatch(text) is not None


def suboptions(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """Code, length, value of each.  Raises Unfit."""
    payload = b""
    for code, data in parts:
        if len(data) > 255:
            raise Unfit(f"sub-option {code} of {len(data)} octets; wanted at most 255")
        payload += bytes((code, len(data))) + data
    return payload


def octets_of(text: str) -> bytes | None:
    """`1:2:aa` or `01:02:aa`: octets in hexadecimal with colons, as dhcpd and dnsmasq write them; None: none."""
    words = text.split(":")
    if not all(0 < len(word) <= 2 for word in words):
        return None
    try:
        return bytes(int(word, 16) for word in words)
    except ValueError:
        return None


def mac_of(octets: bytes) -> str | None:
    """Of Ethernet."""
    return octets.hex(":") if len(octets) == 6 else None


def mac_of_client_id(octets: bytes) -> str | None:
    """A client identifier that is a hardware type and a MAC address (RFC 2132 section 9.14)."""
    return octets[1:].hex(":") if len(octets) == 7 and octets[0] == 1 else None
