"""Turns `dhcp` attributes into DHCP option bytes; option_table.py knows the options, plan.py decides what is sent.

Three steps: `Vocabulary.find` names the option of a subkey, `encode` makes the payload of its values, `render` lays the
payloads out as the blob that a generation carries.  Pure: no I/O, no clock.  The options that each reply computes anew
(message type, times, server-id, echoes) are the packet path's and never in a blob.
"""

import difflib
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from control.option_table import MINIMUM, ROWS, WHY_COMPUTED, Kind, Option, may_be_empty, option_by_code

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

# The packet path writes these itself, per reply: a second copy from a blob would contradict it.
ENCODER_OWNED = frozenset({0, 50, 51, 52, 53, 54, 55, 58, 59, 61, 82, 255})

# What a host can't do without comes first, because a client whose buffer ends early keeps that: address plan, names,
# boot file, then the rest of what is common; everything else follows by code.
PREFERRED_ORDER: tuple[int, ...] = (1, 3, 6, 12, 15, 28, 66, 67, 60, 43, 42, 26, 119, 121)

_SEPARATORS = re.compile(r"[\s,]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}")
_HEX_PREFIXED = re.compile(r"0[xX]((?:[0-9a-fA-F]{2})*)")
_HEX_COLONS = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2})+")
_HEX_LOOSE = re.compile(r"[0-9a-fA-F]{1,2}(?:[:\s-]+[0-9a-fA-F]{1,2})*|(?:[0-9a-fA-F]{2})*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_OPTION_CODE = re.compile(r"(?:option[_-])?([0-9]{1,3})")
_FLAGS = {"0": 0, "false": 0, "no": 0, "off": 0, "1": 1, "true": 1, "yes": 1, "on": 1}


class OptionRejected(ValueError):
    """A value that can't be sent: which option, what was found, what was wanted."""

    def __init__(self, option: Option, found: str, wanted: str) -> None:
        super().__init__(f"dhcp option {option.name} ({option.code}): found {found}; wanted {wanted}")
        self.option = option
        self.found = found
        self.wanted = wanted


# --- names -----------------------------------------------------------------------------------------------------------


def _normal(subkey: str) -> str:
    return subkey.strip().lower().replace("-", "_")


def _by_name() -> dict[str, tuple[str, Option]]:
    names: dict[str, tuple[str, Option]] = {}
    for code, _, row_names in ROWS:
        for name in row_names.split():
            shown, option = names.setdefault(_normal(name), (name, option_by_code(code)))
            if option.code != code:
                raise AssertionError(f"option_table: {name} names both {option.code} ({shown}) and {code}")
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
            self._names[_normal(name)] = (name, Option(standard.code, name, standard.kind))

    def find(self, subkey: str) -> Option | None:
        """The option of a subkey in any case, '-' and '_' alike, also as `option-150` or `150`; None: there is none."""
        normal = _normal(subkey)
        known = self._names.get(normal)
        if known is not None:
            return known[1]
        numbered = _OPTION_CODE.fullmatch(normal)
        if numbered is None or not 1 <= int(numbered[1]) <= 254:
            return None
        return option_by_code(int(numbered[1]))

    def nearest(self, subkey: str) -> str | None:
        """The known name most like an unknown subkey, for "did you mean"; None when nothing is like it."""
        close = difflib.get_close_matches(_normal(subkey[:80]), self._names, n=1, cutoff=0.6)
        return self._names[close[0]][0] if close else None


def pxelinux_magic(subkeys: Iterable[str]) -> bool:
    """Whether option 208 (PXELINUX_MAGIC) goes out (once): any subkey begins with `pxelinux`, as in the original."""
    return any(_normal(subkey).startswith("pxelinux") for subkey in subkeys)


# --- values ----------------------------------------------------------------------------------------------------------


def encode(option: Option, values: Sequence[str | int]) -> bytes:
    """The payload of one option from its attributes' values, in order of the attributes' numbers.

    Raises OptionRejected when they are not of the option's kind, or longer than any packet.  Never anything else.
    """
    if option.kind is Kind.COMPUTED:
        why = WHY_COMPUTED.get(option.code, "the server computes it")
        raise OptionRejected(option, "an attribute", f"{Kind.COMPUTED.value}, {why}; remove the attribute")
    items: list[str | int] = [values] if isinstance(values, (str, int)) else list(values)
    if not items:
        _refuse(option, "no value")
    for item in items:
        _check_input(option, item)
    if sum(len(item) for item in items if isinstance(item, str)) > _MAX_INPUT:
        _refuse(option, "more text than any packet holds")
    payload = _ENCODERS[option.kind](option, items)
    if not payload and not may_be_empty(option.code):
        _refuse(option, "an empty value")
    if len(payload) > MAX_PAYLOAD:
        raise OptionRejected(option, f"{len(payload)} bytes", f"at most {MAX_PAYLOAD}: more fits in no packet")
    return payload


def _refuse(option: Option, found: str) -> NoReturn:
    raise OptionRejected(option, found, option.kind.value)


def _check_input(option: Option, item: object) -> None:
    """The inventory's JSON may also hold null, dates and objects; only text and whole numbers can become an option."""
    if item is None:
        _refuse(option, "an attribute without a value (None)")
    if not isinstance(item, (str, int)):
        _refuse(option, f"a value of type {type(item).__name__}")
    if isinstance(item, int) and item.bit_length() > 64:
        _refuse(option, f"a number of {item.bit_length()} bits")
    if isinstance(item, str) and len(item) > _MAX_INPUT:
        _refuse(option, f"text of {len(item)} characters, more than any packet holds")


def _show(item: str | int) -> str:
    """A value as an error message quotes it: escaped, short."""
    if isinstance(item, int):
        return str(int(item))
    return repr(item) if len(item) <= 60 else f"{item[:60]!r}... ({len(item)} characters)"


def _single(option: Option, items: Sequence[str | int]) -> str | int:
    if len(items) != 1:
        _refuse(option, f"{len(items)} attributes ({', '.join(_show(item) for item in items[:3])}, ...)")
    return items[0]


def _words(items: Sequence[str | int]) -> list[str | int]:
    """Attributes -> list elements: one attribute may hold a list, and there may be several of them."""
    words: list[str | int] = []
    for item in items:
        words += [item] if isinstance(item, int) else [word for word in _SEPARATORS.split(item) if word]
    return words


def _address_of(option: Option, word: str | int) -> bytes:
    if isinstance(word, int):
        _refuse(option, f"the number {_show(word)}")
    try:
        return ipaddress.IPv4Address(word.strip()).packed
    except ValueError:
        found = _show(word)
    try:
        ipaddress.IPv6Address(word.strip())
    except ValueError:
        _refuse(option, found)
    _refuse(option, f"the IPv6 address {found}, which DHCPv4 can't carry")


def _address(option: Option, items: Sequence[str | int]) -> bytes:
    packed = _address_of(option, _single(option, items))
    bits = int.from_bytes(packed, "big") ^ 0xFFFFFFFF
    if option.code == 1 and bits & (bits + 1):
        raise OptionRejected(option, _show(items[0]), "a netmask whose one bits are all at its front, as 255.255.255.0")
    return packed


def _addresses(option: Option, items: Sequence[str | int]) -> bytes:
    return b"".join(_address_of(option, word) for word in _words(items))


def _pairs(option: Option, items: Sequence[str | int]) -> bytes:
    payload = _addresses(option, items)
    if len(payload) % 8:
        _refuse(option, f"{len(payload) // 4} addresses, which leaves one without its other half")
    return payload


def _number_of(option: Option, word: str | int, low: int, high: int) -> int:
    low = MINIMUM.get(option.code, low)
    number = word
    if isinstance(number, str):
        if not _NUMBER.fullmatch(number.strip()):
            _refuse(option, _show(word))
        number = int(number)
    if not low <= number <= high:
        raise OptionRejected(option, _show(word), f"a whole number {low}..{high}")
    return int(number)


def _integer(octets: int, signed: bool = False) -> Callable[[Option, Sequence[str | int]], bytes]:
    low, high = (-(1 << 8 * octets - 1), (1 << 8 * octets - 1) - 1) if signed else (0, (1 << 8 * octets) - 1)

    def to_bytes(option: Option, items: Sequence[str | int]) -> bytes:
        return _number_of(option, _single(option, items), low, high).to_bytes(octets, "big", signed=signed)

    return to_bytes


def _int16s(option: Option, items: Sequence[str | int]) -> bytes:
    return b"".join(_number_of(option, word, 0, 65535).to_bytes(2, "big") for word in _words(items))


def _flag(option: Option, items: Sequence[str | int]) -> bytes:
    item = _single(option, items)
    flag = _FLAGS.get(item.strip().lower() if isinstance(item, str) else str(int(item)))
    if flag is None:
        _refuse(option, _show(item))
    return bytes([flag])


def _text(option: Option, items: Sequence[str | int]) -> bytes:
    item = _single(option, items)
    text = item if isinstance(item, str) else str(int(item))
    for at, letter in enumerate(text):
        if unicodedata.category(letter) in ("Cc", "Cs"):
            _refuse(option, f"U+{ord(letter):04X} at character {at + 1} of {_show(text)}")
    return text.encode()


def _text_nul(option: Option, items: Sequence[str | int]) -> bytes:
    # Some PXE ROMs read on behind a boot file name that has no NUL (dnsmasq always adds one for them); everybody else
    # must cope with it (RFC 2132 section 2).
    text = _text(option, items)
    return text + b"\0" if text else b""


def _hex(option: Option, items: Sequence[str | int]) -> bytes:
    item = _single(option, items)
    if isinstance(item, int):
        _refuse(option, f"the number {_show(item)}, which doesn't say how many bytes")
    text = item.strip()
    prefixed = _HEX_PREFIXED.fullmatch(text)
    if prefixed:
        return bytes.fromhex(prefixed[1])
    if not _HEX_LOOSE.fullmatch(text):
        _refuse(option, _show(item))
    octets = re.split(r"[:\s-]+", text)
    return bytes.fromhex(text) if len(octets) == 1 and len(text) != 1 else bytes(int(octet, 16) for octet in octets)


def _raw(option: Option, items: Sequence[str | int]) -> bytes:
    # The original sent text as it was, so only what is plainly written as bytes is taken for bytes.
    item = _single(option, items)
    if isinstance(item, str) and (item[:2] in ("0x", "0X") or _HEX_COLONS.fullmatch(item)):
        return _hex(option, items)
    return _text(option, items)


def _domain_of(option: Option, word: str | int) -> bytes:
    """One name in RFC 1035 section 3.1 form, not compressed (RFC 3397 allows that)."""
    name = word.removesuffix(".") if isinstance(word, str) else str(int(word))
    wire = b""
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            _refuse(option, f"{_show(word)} (label {_show(label)}; letters beyond ASCII are written as xn--...)")
        wire += bytes([len(label)]) + label.encode()
    if len(wire) > 254:
        _refuse(option, f"a name of {len(wire)} bytes, {_show(name)} (RFC 1035 allows 255 with its end)")
    return wire + b"\0"


def _domain(option: Option, items: Sequence[str | int]) -> bytes:
    words = _words(items)
    if len(words) != 1:
        _refuse(option, f"{len(words)} names")
    return _domain_of(option, words[0])


def _domains(option: Option, items: Sequence[str | int]) -> bytes:
    return b"".join(_domain_of(option, word) for word in _words(items))


def _routes(option: Option, items: Sequence[str | int]) -> bytes:
    """RFC 3442: width, the significant octets of the destination, the router; 0.0.0.0 as router means on-link."""
    words = [word for word in _words(items) if word != "via"]
    if len(words) % 2:
        _refuse(option, f"{len(words)} words ({', '.join(_show(word) for word in words[:4])}, ...), not pairs")
    payload = b""
    for destination, router in zip(words[::2], words[1::2], strict=True):
        if isinstance(destination, int) or "/" not in destination:
            _refuse(option, f"{_show(destination)} as a destination")
        try:
            network = ipaddress.IPv4Network(destination)
        except ValueError as fault:
            _refuse(option, f"{_show(destination)} as a destination ({str(fault)[:120]})")
        significant = (network.prefixlen + 7) // 8
        payload += bytes([network.prefixlen]) + network.network_address.packed[:significant]
        payload += _address_of(option, router)
    return payload


_ENCODERS: Mapping[Kind, Callable[[Option, Sequence[str | int]], bytes]] = MappingProxyType(
    {
        Kind.ADDRESS: _address,
        Kind.ADDRESSES: _addresses,
        Kind.PAIRS: _pairs,
        Kind.INT8: _integer(1),
        Kind.INT16: _integer(2),
        Kind.INT16S: _int16s,
        Kind.INT32: _integer(4),
        Kind.SINT32: _integer(4, signed=True),
        Kind.FLAG: _flag,
        Kind.TEXT: _text,
        Kind.TEXT_NUL: _text_nul,
        Kind.HEX: _hex,
        Kind.RAW: _raw,
        Kind.DOMAIN: _domain,
        Kind.DOMAINS: _domains,
        Kind.ROUTES: _routes,
    }
)


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
