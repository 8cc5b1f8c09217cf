"""MAC addresses as text: what people write -> 48 bits, and back as the table's rows show them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.config.bmc import ROLE_BIT

_MAC = re.compile(r"[0-9a-f]{12}")
_USUAL_MAC = re.compile(":".join([r"[0-9a-f]{2}"] * 6))
_GROUPS = ((2, ":"), (2, "-"), (12, ""), (4, "."), (4, "-"), (6, "-"))  # as cards, switches and people write a MAC


def parse_mac(text: str) -> int | None:
    """Any usual spelling (colons, dashes, dots, none; any case) -> 48-bit int; None when it is none, or all zero."""
    usual = _USUAL_MAC.fullmatch(text)
    digits = text.replace(":", "") if usual else re.sub(r"[:.\-\s]", "", text).lower()
    if not usual and not _MAC.fullmatch(digits):
        return None
    mac = int(digits, 16)
    return mac if mac and not mac >> 40 & 1 else None


def same_mac(value: object, mac: str) -> bool:
    """Whether what stands in the inventory is that MAC, in whatever spelling."""
    return isinstance(value, str) and (found := parse_mac(value)) is not None and found == parse_mac(mac)


def spellings(mac: str) -> Iterator[str]:
    """For who must ask for a MAC by its text; lower and upper case of each.  mac: lower case with colons."""
    digits = mac.replace(":", "")
    for size, mark in _GROUPS:
        text = mark.join(digits[at : at + size] for at in range(0, 12, size))
        yield text
        if text.upper() != text:
            yield text.upper()


def show_mac(mac: int) -> str:
    """Of a MAC, or of a row's key."""
    return (mac & (ROLE_BIT - 1)).to_bytes(6, "big").hex(":")
