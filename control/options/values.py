"""Turns the values of one option into its payload, for every kind that is no container; rendering.py chooses the
encoder.

An encoder takes the option and its values (text and whole numbers, as checked by options.encode) and gives the payload,
or raises OptionRejected, which says what was found and what was wanted.  Pure.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from control.options.table import FIELDS, MINIMUM, NO_SPACE, Kind, Option

Value = str | int
Encoder = Callable[[Option, Sequence[Value]], bytes]

_SEPARATORS = re.compile(r"[\s,]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}")
_HEX_PREFIXED = re.compile(r"0[xX]((?:[0-9a-fA-F]{2})*)")
_HEX_COLONS = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2})+")
_TYPED = re.compile(r"\s*(text|hex):(.*)", re.IGNORECASE | re.DOTALL)
# Of a certificate, SHA-1 and SHA-256: people write nothing else of this length so, and whoever reads it wants the text.
_FINGERPRINT_BYTES = {20, 32}
_HEX_LOOSE = re.compile(r"[0-9a-fA-F]{1,2}(?:[:\s-]+[0-9a-fA-F]{1,2})*|(?:[0-9a-fA-F]{2})*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*\.?")
HOST_NAME_BYTES_MAX = 255  # one option; DNS allows a name no more
_FLAGS = {"0": 0, "false": 0, "no": 0, "off": 0, "1": 1, "true": 1, "yes": 1, "on": 1}
_FIELDS: Mapping[tuple[int, int], tuple[Option, ...]] = MappingProxyType(
    {
        where: tuple(Option(at, name, kind, NO_SPACE) for at, (name, kind) in enumerate(fields))
        for where, fields in FIELDS.items()
    }
)


class OptionRejected(ValueError):
    """A value that can't be sent: which option, what was found, what was wanted."""

    def __init__(self, option: Option, found: str, wanted: str) -> None:
        super().__init__(f"dhcp option {option.name} ({option.code}): found {found}; wanted {wanted}")
        self.option = option
        self.found = found
        self.wanted = wanted


def wanted(option: Option) -> str:
    """What an operator is told to write."""
    if option.kind is Kind.RECORD:
        fields = _FIELDS[option.space, option.code]
        return ", then ".join(f"{field.name} ({field.kind.value})" for field in fields)
    return str(option.kind.value)


def refuse(option: Option, found: str) -> NoReturn:
    """Raises OptionRejected with what the option's kind wants."""
    raise OptionRejected(option, found, wanted(option))


def show(item: Value) -> str:
    """A value as an error message quotes it: escaped, short."""
    if isinstance(item, int):
        return str(int(item))
    return repr(item) if len(item) <= 60 else f"{item[:60]!r}... ({len(item)} characters)"


def single(option: Option, items: Sequence[Value]) -> Value:
    """The only value; raises OptionRejected for several."""
    if len(items) != 1:
        refuse(option, f"{len(items)} attributes ({', '.join(show(item) for item in items[:3])}, ...)")
    return items[0]


def words_of(items: Sequence[Value]) -> list[Value]:
    """Attributes -> list elements: one attribute may hold a list, and there may be several of them."""
    words: list[Value] = []
    for item in items:
        words += [item] if isinstance(item, int) else [word for word in _SEPARATORS.split(item) if word]
    return words


def plain_bytes(item: Value) -> bytes | None:
    """The bytes of a value that is plainly written as bytes, 0x0104 or 01:04; None: it is not."""
    if isinstance(item, int):
        return None
    text = item.strip()
    prefixed = _HEX_PREFIXED.fullmatch(text)
    if prefixed:
        return bytes.fromhex(prefixed[1])
    return bytes.fromhex(text.replace(":", "")) if _HEX_COLONS.fullmatch(text) else None


def typed_payload(option: Option, items: Sequence[Value]) -> bytes | None:
    """The payload of one value that says what it is, `text:...` or `hex:...`, whatever the option's kind is; None: it
    does not.  What the server itself reckons with has to be of the option's kind all the same."""
    said = _TYPED.fullmatch(items[0]) if len(items) == 1 and isinstance(items[0], str) else None
    if said is None:
        return None
    kind = Kind.HEX if said[1].lower() == "hex" else Kind.TEXT_NUL if option.kind is Kind.TEXT_NUL else Kind.TEXT
    try:
        payload = ENCODERS[kind](Option(option.code, option.name, kind, option.space), [said[2]])
    except OptionRejected as fault:
        raise OptionRejected(option, fault.found, fault.wanted) from None
    if option.code not in _RECKONED or option.space:
        return payload
    if kind is not Kind.HEX or len(payload) != 4:
        refuse(option, show(items[0]) if kind is not Kind.HEX else f"{len(payload)} bytes")
    number = int.from_bytes(payload, "big")
    value = str(ipaddress.IPv4Address(number)) if option.kind is Kind.ADDRESS else number
    return ENCODERS[option.kind](option, [value])


_RECKONED = frozenset({1, 51, 54, 58, 59})


def unquoted(text: str) -> str:
    """Text without blanks around it, and without the quotation marks that protect blanks and commas inside."""
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


# --- addresses, numbers ----------------------------------------------------------------------------------------------


def address_of(option: Option, word: Value) -> bytes:
    """Four bytes; raises OptionRejected, and says so when it is an IPv6 address."""
    if isinstance(word, int):
        refuse(option, f"the number {show(word)}")
    try:
        return ipaddress.IPv4Address(word.strip()).packed
    except ValueError:
        found = show(word)
    try:
        ipaddress.IPv6Address(word.strip())
    except ValueError:
        refuse(option, found)
    refuse(option, f"the IPv6 address {found}, which DHCPv4 can't carry")


def _address(option: Option, items: Sequence[Value]) -> bytes:
    packed = address_of(option, single(option, items))
    bits = int.from_bytes(packed, "big") ^ 0xFFFFFFFF
    if option.code == 1 and not option.space and bits & (bits + 1):
        raise OptionRejected(option, show(items[0]), "a netmask whose one bits are all at its front, as 255.255.255.0")
    return packed


def _addresses(option: Option, items: Sequence[Value]) -> bytes:
    return b"".join([address_of(option, word) for word in words_of(items)])


def _pairs(option: Option, items: Sequence[Value]) -> bytes:
    payload = _addresses(option, items)
    if len(payload) % 8:
        refuse(option, f"{len(payload) // 4} addresses, which leaves one without its other half")
    return payload


def _address_lists(option: Option, items: Sequence[Value]) -> bytes:
    """RFC 7291 section 4: a length and that many bytes of addresses for each server; an attribute holds whole lists."""
    payload = b""
    for item in items:
        for part in [item] if isinstance(item, int) else item.split(";"):
            addresses = _addresses(option, [part])
            if not 4 <= len(addresses) <= 252:
                refuse(option, f"a list of {len(addresses) // 4} addresses (each has 1..63)")
            payload += bytes([len(addresses)]) + addresses
    return payload


def _ipv6(option: Option, items: Sequence[Value]) -> bytes:
    item = single(option, items)
    try:
        return ipaddress.IPv6Address(item.strip() if isinstance(item, str) else "").packed
    except ValueError:
        refuse(option, show(item))


def number_of(option: Option, word: Value, low: int, high: int) -> int:
    """A number within low..high (low: the option's own least legal value, if it has one); raises OptionRejected."""
    if not option.space:
        low = MINIMUM.get(option.code, low)
    number = word
    if isinstance(number, str):
        if not _NUMBER.fullmatch(number.strip()):
            refuse(option, show(word))
        number = int(number)
    if not low <= number <= high:
        raise OptionRejected(option, show(word), f"a whole number {low}..{high}")
    return int(number)


def _integer(octets: int, signed: bool = False) -> Encoder:
    low, high = (-(1 << 8 * octets - 1), (1 << 8 * octets - 1) - 1) if signed else (0, (1 << 8 * octets) - 1)

    def to_bytes(option: Option, items: Sequence[Value]) -> bytes:
        return number_of(option, single(option, items), low, high).to_bytes(octets, "big", signed=signed)

    return to_bytes


def _integers(octets: int) -> Encoder:
    high = (1 << 8 * octets) - 1

    def to_bytes(option: Option, items: Sequence[Value]) -> bytes:
        return b"".join([number_of(option, word, 0, high).to_bytes(octets, "big") for word in words_of(items)])

    return to_bytes


def _flag(option: Option, items: Sequence[Value]) -> bytes:
    item = single(option, items)
    flag = _FLAGS.get(item.strip().lower() if isinstance(item, str) else str(int(item)))
    if flag is None:
        refuse(option, show(item))
    return bytes([flag])


# --- text, bytes -----------------------------------------------------------------------------------------------------


def _text(option: Option, items: Sequence[Value]) -> bytes:
    item = single(option, items)
    text = item if isinstance(item, str) else str(int(item))
    if not (text.isascii() and text.isprintable()):
        for at, letter in enumerate(text):
            if unicodedata.category(letter) in ("Cc", "Cs"):
                refuse(option, f"U+{ord(letter):04X} at character {at + 1} of {show(text)}")
    return text.encode()


def _text_nul(option: Option, items: Sequence[Value]) -> bytes:
    # Some PXE ROMs read on behind a boot file name that has no NUL (dnsmasq always adds one for them); everybody else
    # must cope with it (RFC 2132 section 2).
    text = _text(option, items)
    return text + b"\0" if text else b""


def _hex(option: Option, items: Sequence[Value]) -> bytes:
    item = single(option, items)
    if isinstance(item, int):
        refuse(option, f"the number {show(item)}, which doesn't say how many bytes")
    known = plain_bytes(item)
    if known is not None:
        return known
    text = item.strip()
    if not _HEX_LOOSE.fullmatch(text):
        refuse(option, show(item))
    octets = re.split(r"[:\s-]+", text)
    return bytes.fromhex(text) if len(octets) == 1 and len(text) != 1 else bytes(int(octet, 16) for octet in octets)


def _raw(option: Option, items: Sequence[Value]) -> bytes:
    # The original sent text as it was, so only what is plainly written as bytes is taken for bytes.
    item = single(option, items)
    if not isinstance(item, str):
        return _text(option, items)
    if item[:2] in ("0x", "0X"):
        return _hex(option, items)
    if _HEX_COLONS.fullmatch(item):
        is_fingerprint = option.kind is Kind.RAW and (len(item) + 1) // 3 in _FINGERPRINT_BYTES
        return _text(option, items) if is_fingerprint else _hex(option, items)
    inside_marks = unquoted(item)
    return _text(option, [inside_marks if plain_bytes(inside_marks) is not None else item])


def _host_name(option: Option, items: Sequence[Value]) -> bytes:
    """RFC 1123 section 2.1: clients leave out what is no such name, or change it."""
    item = single(option, items)
    text = item if isinstance(item, str) else str(int(item))
    if text and not (len(text) <= HOST_NAME_BYTES_MAX and HOST_NAME.fullmatch(text)):
        refuse(option, show(text))
    return text.encode()


def _uris(option: Option, items: Sequence[Value]) -> bytes:
    """RFC 8572 section 8.1: two bytes of length before each."""
    payload = b""
    for item in items:
        for uri in item.split() if isinstance(item, str) else [show(item)]:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", uri):
                refuse(option, show(uri))
            payload += len(uri).to_bytes(2, "big") + uri.encode()
    return payload


# --- names, routes ---------------------------------------------------------------------------------------------------


def _domain_of(option: Option, word: Value) -> bytes:
    """One name in RFC 1035 section 3.1 form, not compressed."""
    name = word.removesuffix(".") if isinstance(word, str) else str(int(word))
    wire = b""
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            refuse(option, f"{show(word)} (label {show(label)}; letters beyond ASCII are written as xn--...)")
        wire += bytes([len(label)]) + label.encode()
    if len(wire) > 254:
        refuse(option, f"a name of {len(wire)} bytes, {show(name)} (RFC 1035 allows 255 with its end)")
    return wire + b"\0"


def _domain(option: Option, items: Sequence[Value]) -> bytes:
    words = words_of(items)
    if len(words) != 1:
        refuse(option, f"{len(words)} names")
    return _domain_of(option, words[0])


def _domains(option: Option, items: Sequence[Value]) -> bytes:
    return b"".join([_domain_of(option, word) for word in words_of(items)])


def _search(option: Option, items: Sequence[Value]) -> bytes:
    """RFC 3397: names whose common ends are pointers (RFC 1035 section 4.1.4), counted from the payload's first byte.

    A pointer has two bytes, the shortest end that it can stand for three: it never makes the option longer.
    """
    wire = bytearray()
    known: dict[bytes, int] = {}
    for word in words_of(items):
        rest = _domain_of(option, word)
        while rest != b"\0":
            if rest in known:
                rest = (0xC000 | known[rest]).to_bytes(2, "big")
                break
            if len(wire) < 0x4000:  # what a pointer can reach
                known[rest] = len(wire)
            label, rest = rest[: 1 + rest[0]], rest[1 + rest[0] :]
            wire += label
        wire += rest
    return bytes(wire)


def _names_or_addresses(option: Option, items: Sequence[Value]) -> bytes:
    """RFC 3361 section 3, RFC 3495 section 5.3: a byte 0 and names, or a byte 1 and addresses."""
    words = words_of(items)
    numeric = [isinstance(word, int) or re.fullmatch(r"[0-9.]+", word) is not None for word in words]
    if any(numeric) and not all(numeric):
        refuse(option, f"names and addresses together ({', '.join(show(word) for word in words[:3])})")
    if not words:
        return b""
    return b"\1" + _addresses(option, items) if numeric[0] else b"\0" + _domains(option, items)


def _routes(option: Option, items: Sequence[Value]) -> bytes:
    """RFC 3442: width, the significant octets of the destination, the router; 0.0.0.0 as router means on-link."""
    words: list[Value] = []
    for word in words_of(items):
        if isinstance(word, str) and "/" in word and ":" in word:
            words += word.split(":", 1)  # scapy's way to write a route
        elif word != "via":
            words.append(word)
    if len(words) % 2:
        refuse(option, f"{len(words)} words ({', '.join(show(word) for word in words[:4])}, ...), not pairs")
    payload = b""
    for destination, router in zip(words[::2], words[1::2], strict=True):
        if destination == "default":
            destination = "0.0.0.0/0"
        if isinstance(destination, int) or "/" not in destination:
            refuse(option, f"{show(destination)} as a destination")
        try:
            network = ipaddress.IPv4Network(destination)
        except ValueError as fault:
            refuse(option, f"{show(destination)} as a destination ({str(fault)[:120]})")
        significant = (network.prefixlen + 7) // 8
        payload += bytes([network.prefixlen]) + network.network_address.packed[:significant]
        payload += address_of(option, router)
    return payload


# --- records ---------------------------------------------------------------------------------------------------------

_LISTS = frozenset({Kind.ADDRESSES, Kind.DOMAINS})


def inside(option: Option, part: Option, items: Sequence[Value], encoder: Encoder) -> bytes:
    """A part of an option encoded; what is wrong with it is reported as the option's, with the part's name."""
    try:
        return encoder(part, items)
    except OptionRejected as fault:
        raise OptionRejected(option, f"{part.name}: {fault.found}", fault.wanted) from None


def _record(option: Option, items: Sequence[Value]) -> bytes:
    fields = _FIELDS[option.space, option.code]
    if fields[-1].kind in _LISTS:
        rest = " ".join(show(item) if isinstance(item, int) else item for item in items).strip()
    else:
        item = single(option, items)
        rest = show(item) if isinstance(item, int) else item.strip()
    payload = b""
    for field in fields[:-1]:
        parts = _SEPARATORS.split(rest, maxsplit=1)
        if not parts[0]:
            refuse(option, f"no {field.name}")
        payload += inside(option, field, [parts[0]], ENCODERS[field.kind])
        rest = parts[1].strip() if len(parts) > 1 else ""
    last = fields[-1]
    if last.kind is Kind.TEXT:
        rest = unquoted(rest)
    elif not rest:
        refuse(option, f"no {last.name}")
    return payload + inside(option, last, [rest], ENCODERS[last.kind])


def or_bytes(encoder: Encoder) -> Encoder:
    """An encoder that also takes the finished payload as bytes, for who has it or finds no words for it."""

    def encode_either(option: Option, items: Sequence[Value]) -> bytes:
        payload = plain_bytes(items[0]) if len(items) == 1 else None
        return encoder(option, items) if payload is None else payload

    return encode_either


ENCODERS: Mapping[Kind, Encoder] = MappingProxyType(
    {
        Kind.ADDRESS: _address,
        Kind.ADDRESSES: _addresses,
        Kind.PAIRS: _pairs,
        Kind.IPV6: _ipv6,
        Kind.INT8: _integer(1),
        Kind.INT8S: _integers(1),
        Kind.INT16: _integer(2),
        Kind.INT16S: _integers(2),
        Kind.INT32: _integer(4),
        Kind.SINT8: _integer(1, signed=True),
        Kind.SINT32: _integer(4, signed=True),
        Kind.FLAG: _flag,
        Kind.TEXT: _text,
        Kind.HOST_NAME: _host_name,
        Kind.TEXT_NUL: _text_nul,
        Kind.HEX: _hex,
        Kind.RAW: _raw,
        Kind.URIS: or_bytes(_uris),
        Kind.DOMAIN: _domain,
        Kind.DOMAINS: _domains,
        Kind.SEARCH: _search,
        Kind.NAMES_OR_ADDRESSES: or_bytes(_names_or_addresses),
        Kind.ADDRESS_LISTS: or_bytes(_address_lists),
        Kind.ROUTES: _routes,
        Kind.RECORD: or_bytes(_record),
    }
)
