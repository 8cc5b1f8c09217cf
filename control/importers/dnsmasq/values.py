"""Values of dhcp-option: dnsmasq guesses their types from how they look (dnsmasq(8), --dhcp-option).  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from control.importers.dnsmasq.lines import Quoted
from control.importers.dnsmasq.words import OPTION_CODES
from control.importers.kinds import Value
from control.importers.site import Unfit
from control.importers.values import attribute, is_address, octets_of, wants_addresses
from control.options.table import Kind, Option

_LEASE: Final = re.compile(r"(\d{1,9})([smhdw]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NUMBER: Final = re.compile(r"(-?\d{1,10})([bsi]?)")
_SIZES: Final = {"b": 1, "s": 2, "i": 4}
FOREVER: Final = 0xFFFFFFFF
LEASE_S_MIN: Final = 120
USUAL_LEASE_S: Final = 3_600
OURSELVES: Final = "0.0.0.0"  # in a value: the address of the machine that dnsmasq runs on
_LISTS: Final = frozenset({Kind.SEARCH, Kind.DOMAINS, Kind.NAMES_OR_ADDRESSES, Kind.ROUTES})
_UNTYPED: Final = frozenset({Kind.RAW, Kind.HEX, Kind.VENDOR, Kind.SUBOPTIONS})
_TIMES: Final = frozenset({Kind.INT32, Kind.SINT32})
_TEXTS: Final = frozenset({Kind.TEXT, Kind.TEXT_NUL, Kind.HOST_NAME, Kind.DOMAIN})


def code_of(word: str) -> int:
    """`6`, `option:dns-server`.  Raises Unfit."""
    name = word.removeprefix("option:")
    if name.isdecimal() and 0 < int(name) < 255:
        return int(name)
    code = OPTION_CODES.get(name)
    if code is None:
        raise Unfit(f"found {word}; wanted an option's number, or option: and one of dnsmasq's names")
    return code


def lease_s(text: str) -> int | None:
    """None: it is no lease time."""
    if text in ("infinite", "deprecated"):
        return FOREVER
    return max(LEASE_S_MIN, seconds(text)) if _LEASE.fullmatch(text) else None


def seconds(text: str) -> int:
    """Of digits, with a letter behind them or none."""
    found = _LEASE.fullmatch(text)
    assert found is not None
    return int(found[1]) * _SECONDS[found[2]]


def value_of(option: Option, parts: Sequence[str]) -> Value:
    """Of an option of the packet.  Raises Unfit."""
    text = ", ".join(parts)
    alone = parts[0] if len(parts) == 1 and not isinstance(parts[0], Quoted) else ""
    known = octets_of(alone) if ":" in alone else None
    if known is not None:
        return attribute(option, None if option.kind not in _UNTYPED else alone, known)
    if wants_addresses(option):
        wrong = next((part for part in parts if not is_address(part)), None)
        if wrong is not None:
            raise Unfit(f"found {wrong}; wanted an IPv4 address")
        return attribute(option, text)
    if option.kind is Kind.ROUTES:
        return attribute(option, routes(parts))
    if option.kind in _LISTS:
        return attribute(option, text)
    if option.kind in _TEXTS:
        return attribute(option, ",".join(parts))
    wire = octets(parts) if option.kind in _UNTYPED else b""
    if option.kind is Kind.RAW or len(parts) == 1:
        plain = parts[0] if len(parts) == 1 else None
        if option.kind in _TIMES and _LEASE.fullmatch(alone):
            return attribute(option, seconds(alone))
        return attribute(option, _number(plain), wire if option.kind in _UNTYPED else None)
    return attribute(option, text)


def _number(text: str | None) -> Value | None:
    found = _NUMBER.fullmatch(text) if text is not None and not isinstance(text, Quoted) else None
    return int(found[1]) if found is not None else text


def routes(parts: Sequence[str]) -> str:
    """`10.0.0.0/8, 10.1.1.1, ...` -> pairs."""
    pairs = [f"{parts[at]} {parts[at + 1]}" for at in range(0, len(parts) - 1, 2)]
    if len(parts) % 2:
        raise Unfit(f"{len(parts)} parts; wanted networks and routers in pairs")
    return ", ".join(pairs)


def octets(parts: Sequence[str]) -> bytes:
    """As dnsmasq sends a value of an option whose type it does not know.  Raises Unfit."""
    if not parts or parts == [""]:
        return b""
    if not any(isinstance(part, Quoted) for part in parts):
        if all(is_address(part) for part in parts):
            return b"".join(bytes(int(octet) for octet in part.split(".")) for part in parts)
        if len(parts) == 1:
            found = _NUMBER.fullmatch(parts[0])
            if found is not None:
                return _sized(int(found[1]), found[2])
            known = octets_of(parts[0]) if ":" in parts[0] else None
            if known is not None:
                return known
    return ",".join(parts).encode()


def _sized(number: int, letter: str) -> bytes:
    size = _SIZES.get(letter) or (1 if 0 <= number <= 0xFF else 2 if 0 <= number <= 0xFFFF else 4)
    try:
        return number.to_bytes(size, "big", signed=number < 0)
    except OverflowError as error:
        raise Unfit(f"{number} in {size} octets") from error
