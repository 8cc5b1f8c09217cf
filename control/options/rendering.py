"""Turns `dhcp` attributes into DHCP option bytes; table.py knows the options, plan/plan.py decides what is sent.

The encoders are in values.py and, for what carries sub-options, in spaces.py.  Three steps:
`Vocabulary.find` names the option of a subkey, `encode` makes the payload of its values, `render` lays the payloads out
as the blob that a generation carries.  Pure: no I/O, no clock.  The options that each reply computes anew (message
type, times, server-id, echoes) are the packet path's and never in a blob.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from control.options.spaces import SPACE_ENCODERS, normal
from control.options.table import ROWS, WHY_COMPUTED, Kind, Option, may_be_empty, option_by_code
from control.options.values import ENCODERS, Encoder, OptionRejected, Value, refuse, typed_payload

__all__ = [
    "ENCODER_OWNED",
    "MAX_PAYLOAD",
    "PREFERRED_ORDER",
    "PXELINUX_MAGIC",
    "Kind",
    "Option",
    "OptionRejected",
    "Vocabulary",
    "encode",
    "pxelinux_magic",
    "render",
    "tlv",
]

# RFC 5071 section 3.1; what the original sent with the first pxelinux-* attribute.
PXELINUX_MAGIC = bytes.fromhex("f100757e")

# Ethernet's 1,500 less IP, UDP and the fixed part of DHCP leaves 1,232.  A little above it: the packet's own limit
# (option 57 and the MTU, known only per reply) is the one that decides.
MAX_PAYLOAD = 1400

# No list or text that fits MAX_PAYLOAD takes more characters than this; longer input is refused before it is parsed.
_MAX_INPUT = 16384
_MAX_ITEMS = MAX_PAYLOAD

# The packet path writes these itself, per reply: a second copy from a blob would contradict it.
ENCODER_OWNED = frozenset({0, 50, 51, 52, 53, 54, 55, 58, 59, 61, 82, 255})

# What a host can't do without comes first, because a client whose buffer ends early keeps that: address plan, names,
# boot file, then the rest of what is common; everything else follows by code.
PREFERRED_ORDER: tuple[int, ...] = (1, 3, 6, 12, 15, 28, 66, 67, 60, 43, 42, 26, 119, 121)

_OPTION_CODE = re.compile(r"(?:option[_-])?([0-9]{1,3})")


# --- names -----------------------------------------------------------------------------------------------------------


def _by_name() -> dict[str, tuple[str, Option]]:
    names: dict[str, tuple[str, Option]] = {}
    for code, _, row_names in ROWS:
        for name in row_names.split():
            shown, option = names.setdefault(normal(name), (name, option_by_code(code)))
            if option.code != code:
                raise AssertionError(f"options/table.py: {name} names both {option.code} ({shown}) and {code}")
    return names


_STANDARD_NAMES = MappingProxyType(_by_name())


class Vocabulary:
    """Subkeys of key `dhcp` -> options: the standard names, and a site's `dhcp.extra_options` above them."""

    def __init__(self, extra_options: Mapping[str, str] = MappingProxyType({})) -> None:
        """extra_options: decimal code 1..254 as text -> name, as in services.conf.  Raises ValueError for another code.

        An extra name takes the place of a standard one, as in the original; the kind is always the code's own (the
        original sent every extra option as text).
        """
        self._names = dict(_STANDARD_NAMES)
        for code, name in extra_options.items():
            if not (code.isascii() and code.isdigit() and len(code) <= 3):
                raise ValueError(f"extra option {code!r} ({name!r}): wanted a decimal option number 1..254")
            standard = option_by_code(int(code))
            self._names[normal(name)] = (name, Option(standard.code, name, standard.kind))

    def find(self, subkey: str) -> Option | None:
        """The option of a subkey in any case, '-' and '_' alike, also as `option-150` or `150`; None: there is none."""
        name = normal(subkey)
        known = self._names.get(name)
        if known is not None:
            return known[1]
        numbered = _OPTION_CODE.fullmatch(name)
        if numbered is None or not 1 <= int(numbered[1]) <= 254:
            return None
        return option_by_code(int(numbered[1]))

    def nearest(self, subkey: str) -> str | None:
        """The known name most like an unknown subkey, for "did you mean"; None when nothing is like it."""
        close = difflib.get_close_matches(normal(subkey[:80]), self._names, n=1, cutoff=0.6)
        return self._names[close[0]][0] if close else None


def pxelinux_magic(subkeys: Iterable[str]) -> bool:
    """Whether option 208 (PXELINUX_MAGIC) goes out (once): any subkey begins with `pxelinux`, as in the original."""
    return any(normal(subkey).startswith("pxelinux") for subkey in subkeys)


# --- values ----------------------------------------------------------------------------------------------------------


def encode(option: Option, values: Sequence[str | int]) -> bytes:
    """The payload of one option from its attributes' values, in order of the attributes' numbers.

    Raises OptionRejected when they are not of the option's kind, or longer than any packet.  Never anything else,
    whatever the inventory's JSON held: what is no list counts as one value.
    """
    if option.kind is Kind.COMPUTED:
        why = WHY_COMPUTED.get(option.code, "the server computes it")
        raise OptionRejected(option, "an attribute", f"{Kind.COMPUTED.value}, {why}; remove the attribute")
    items = values if isinstance(values, (list, tuple)) else [cast(Value, values)]
    if not items:
        refuse(option, "no value")
    if len(items) > _MAX_ITEMS:
        refuse(option, f"{len(items)} attributes, more than any packet holds")
    for item in items:
        _check_input(option, item)
    if sum([len(item) for item in items if isinstance(item, str)]) > _MAX_INPUT:
        refuse(option, "more text than any packet holds")
    payload = typed_payload(option, items)
    if payload is None:
        payload = _ENCODERS[option.kind](option, items)
    if not payload and not may_be_empty(option.code):
        refuse(option, "an empty value")
    if len(payload) > MAX_PAYLOAD:
        raise OptionRejected(option, f"{len(payload)} bytes", f"at most {MAX_PAYLOAD}: more fits in no packet")
    return payload


def _check_input(option: Option, item: object) -> None:
    """The inventory's JSON may also hold null, dates and objects; only text and whole numbers can become an option."""
    if item is None:
        refuse(option, "an attribute without a value (None)")
    if not isinstance(item, (str, int)):
        refuse(option, f"a value of type {type(item).__name__}")
    if isinstance(item, int) and item.bit_length() > 64:
        refuse(option, f"a number of {item.bit_length()} bits")
    if isinstance(item, str) and len(item) > _MAX_INPUT:
        refuse(option, f"text of {len(item)} characters, more than any packet holds")


_ENCODERS: Mapping[Kind, Encoder] = MappingProxyType({**ENCODERS, **SPACE_ENCODERS})


# --- bytes -----------------------------------------------------------------------------------------------------------


def tlv(code: int, payload: bytes) -> bytes:
    """Code, length, payload; a payload over 255 bytes as several options of one code in a row (RFC 3396 section 5).

    Raises ValueError for a code outside 1..254, and for an empty payload where the option's RFC demands one.
    """
    name = option_by_code(code).name
    if not payload:
        if not may_be_empty(code):
            raise ValueError(f"option {code} ({name}): empty payload; wanted at least one byte")
        return bytes([code, 0])
    pieces = (payload[at : at + 255] for at in range(0, len(payload), 255))
    return b"".join(bytes([code, len(piece)]) + piece for piece in pieces)


def render(options: Mapping[int, bytes], order: Sequence[int] = PREFERRED_ORDER) -> bytes:
    """Payloads by code -> one blob: the codes of `order` first, in that order, then the others ascending.

    The same options give the same bytes whatever the mapping's own order, so equal hosts share one blob.  No end
    mark, no padding.  Raises ValueError for a code of ENCODER_OWNED.
    """
    owned = sorted(ENCODER_OWNED.intersection(options))
    if owned:
        raise ValueError(f"options {owned}: the reply encoder writes these itself; take them out before render")
    first = [code for code in dict.fromkeys(order) if code in options]
    rest = sorted(set(options).difference(first))
    return b"".join(tlv(code, options[code]) for code in (*first, *rest))
