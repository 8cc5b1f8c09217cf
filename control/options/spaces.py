"""Payloads that carry sub-options: PXE's in 43, iPXE's in 175, enterprises' in 124 and 125, others of SUBOPTION_ROWS.

One syntax for all: `NAME=VALUE` or `NUMBER=VALUE`, commas between them; an enterprise's begin with `enterprise NUMBER:`
and end with a `;`.  Quotation marks, ' or ", around a text protect commas and blanks in it.  A value may always be
bytes (0x0104) or say its own type (u8:5, u16:5, u32:5, ip:10.0.0.1 10.0.0.2, text:5, hex:05); where the number's type
is not known, a bare number or address has to, because nobody can tell a byte 5 from the letter "5".  Pure.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from control.options.table import SUBOPTION_ROWS, Kind, Option
from control.options.values import (
    ENCODERS,
    Encoder,
    OptionRejected,
    Value,
    address_of,
    inside,
    number_of,
    or_bytes,
    refuse,
    show,
    single,
    unquoted,
)

_PXE = 43
_END = b"\xff"
_TYPES = {
    "u8": Kind.INT8, "u16": Kind.INT16, "u32": Kind.INT32, "ip": Kind.ADDRESSES, "text": Kind.TEXT,
    "hex": Kind.HEX,
}  # fmt: skip
_ENTERPRISE = re.compile(r"\s*enterprise\s+([0-9]{1,10})\s*:(.*)", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9_-]{0,39})\s*=")
_BARE = re.compile(r"[+-]?[0-9][0-9.]*")
_MENU_WORD = re.compile(r'"[^"]*"|\'[^\']*\'|\S+')


def normal(name: str) -> str:
    """A name as it is compared: in any case, '-' and '_' alike."""
    return name.strip().lower().replace("-", "_")


def _space(code: int) -> Mapping[str, Option]:
    found: dict[str, Option] = {}
    for number, kind, names in SUBOPTION_ROWS[code]:
        for name in (*names.split(), str(number)):
            if normal(name) in found:
                raise AssertionError(f"options/table.py: sub-option {name} of {code} stands there twice")
            found[normal(name)] = Option(number, names.split()[0], kind, code)
    return MappingProxyType(found)


_SPACES: Mapping[int, Mapping[str, Option]] = MappingProxyType({code: _space(code) for code in SUBOPTION_ROWS})


def _split(option: Option, text: str, separator: str) -> list[str]:
    """The pieces between separators outside of quotation marks; a mark opens where a word begins (not in Don't)."""
    if '"' not in text and "'" not in text:
        return text.split(separator)
    pieces, start, mark, before = [], 0, "", " "
    for at, letter in enumerate(text):
        if mark:
            mark = "" if letter == mark else mark
        elif letter in "\"'" and before in " \t=:,;":
            mark = letter
        elif letter == separator:
            pieces.append(text[start:at])
            start = at + 1
        before = letter
    if mark:
        refuse(option, f"a quotation mark {mark} that nothing closes in {show(text)}")
    return [*pieces, text[start:]]


def _untyped(option: Option, items: Sequence[Value]) -> bytes:
    text = str(single(option, items))
    if _BARE.fullmatch(text):
        refuse(option, show(text))
    within = unquoted(text)  # what stands within quotation marks is text, even if it looks like bytes
    return ENCODERS[Kind.RAW if within == text else Kind.TEXT](option, [within])


def _value(option: Option, part: Option, text: str) -> bytes:
    """One sub-option's value; part.kind is its type when the text doesn't say another.  Raises OptionRejected."""
    text = text.strip()
    said, colon, rest = text.partition(":")
    if text[:2] in ("0x", "0X"):
        part = Option(part.code, part.name, Kind.HEX, part.space)
    elif colon and said.lower() in _TYPES:
        part, text = Option(part.code, part.name, _TYPES[said.lower()], part.space), rest
    if part.kind is Kind.TEXT:
        text = unquoted(text)
    elif not text:
        refuse(option, f"{part.name} without a value")
    payload = inside(option, part, [text], _PARTS.get(part.kind) or ENCODERS[part.kind])
    if not payload and part.kind not in (Kind.TEXT, Kind.HEX):
        refuse(option, f"{part.name} without a value")
    return payload


def _part(option: Option, key: str, space: Mapping[str, Option]) -> Option:
    """The sub-option of a name or number; raises OptionRejected with the nearest name."""
    name = normal(key)
    if name in space:
        return space[name]
    if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 254:
        known = space.get(str(int(name)))
        return known or Option(int(name), f"sub-option {int(name)}", Kind.UNTYPED, option.code)
    near = difflib.get_close_matches(name[:40], space, n=1, cutoff=0.6)
    hint = f" (did you mean {space[near[0]].name}?)" if near else ""
    names = [*dict.fromkeys(each.name for each in space.values()), "a number 0..254 before the ="]
    raise OptionRejected(option, f"sub-option {show(key)}{hint}", ", ".join(names))


def _suboptions_of(option: Option, text: str) -> bytes:
    """Code, length, value of each, in the order of the text."""
    payload = b""
    seen: set[int] = set()
    pieces = _split(option, text, ",")
    # PXE knows no 0, and neither does whoever else has named ones: then no number has the meaning that it has there.
    foreign = any(piece.partition("=")[0].strip() == "0" for piece in pieces)
    space = {} if foreign else _SPACES.get(option.code, {})
    for piece in pieces:
        if not piece.strip():
            continue
        key, sign, value = piece.partition("=")
        if not sign:
            raise OptionRejected(
                option, f"{show(piece.strip())} without a =", 'NAME=VALUE; a text with a comma needs "" around it'
            )
        part = _part(option, key.strip(), space)
        if part.code in seen:
            refuse(option, f"{part.name} ({part.code}) twice")
        seen.add(part.code)
        data = _value(option, part, value)
        if len(data) > 255:
            raise OptionRejected(option, f"{part.name} of {len(data)} bytes", "at most 255 bytes for a sub-option")
        payload += bytes([part.code, len(data)]) + data
    return payload


def _suboptions(option: Option, items: Sequence[Value]) -> bytes:
    text = ",".join([item if isinstance(item, str) else show(item) for item in items])
    return _suboptions_of(option, text)


def _vendor(option: Option, items: Sequence[Value]) -> bytes:
    """Option 43 is its vendor's: text or bytes, unless it begins with a sub-option of PXE or with NUMBER=."""
    item = single(option, items)
    key = _KEY.match(item) if isinstance(item, str) else None
    if key is None:
        return ENCODERS[Kind.RAW](option, items)
    name = normal(key[1])
    space = _SPACES[_PXE]
    if name not in space and not (name.isdigit() and int(name) <= 254):
        near = difflib.get_close_matches(name, [word for word in space if not word.isdigit()], n=1, cutoff=0.8)
        if near:  # sent as text, a slip of the pen would only show in a ROM that doesn't boot
            refuse(option, f"sub-option {show(key[1])} (did you mean {space[near[0]].name}?)")
        return ENCODERS[Kind.RAW](option, items)
    payload = _suboptions_of(option, str(item))
    # By name it is PXE's, whose specification ends the list with a mark; other vendors' lists stay as they are written.
    return payload + _END if not name.isdigit() else payload


def _enterprises(option: Option, items: Sequence[Value]) -> Iterator[tuple[int, str]]:
    """Enterprise number and what follows its colon; several may stand in one attribute, and in several."""
    seen: set[int] = set()
    for item in items:
        for section in _split(option, item if isinstance(item, str) else show(item), ";"):
            if not section.strip():
                continue
            found = _ENTERPRISE.fullmatch(section)
            if found is None or int(found[1]) > 0xFFFFFFFF:
                refuse(option, show(section.strip()))
            number = int(found[1])
            if number in seen:  # RFC 3925 leaves undefined what a client makes of that
                refuse(option, f"enterprise {number} twice")
            seen.add(number)
            yield number, found[2]


def _of_enterprise(option: Option, number: int, data: bytes) -> bytes:
    """RFC 3925: the enterprise's number in four bytes, the length in one, the data."""
    if not 1 <= len(data) <= 255:
        raise OptionRejected(option, f"{len(data)} bytes for enterprise {number}", "1..255 bytes for each enterprise")
    return number.to_bytes(4, "big") + bytes([len(data)]) + data


def _vendor_options(option: Option, items: Sequence[Value]) -> bytes:
    return b"".join(
        [_of_enterprise(option, number, _suboptions_of(option, text)) for number, text in _enterprises(option, items)]
    )


def _vendor_classes(option: Option, items: Sequence[Value]) -> bytes:
    payload = b""
    for number, text in _enterprises(option, items):
        data = b""
        for piece in _split(option, text, ","):
            each = _value(option, Option(0, f"class of enterprise {number}", Kind.UNTYPED, option.code), piece)
            if not 1 <= len(each) <= 255:
                raise OptionRejected(option, f"a class of {len(each)} bytes", "1..255 bytes for each class")
            data += bytes([len(each)]) + each
        payload += _of_enterprise(option, number, data)
    return payload


def _pxe_servers(option: Option, items: Sequence[Value]) -> bytes:
    """PXE 2.1 tag 8: type, count, addresses of each; no address means any server of that type."""
    servers: list[tuple[int, list[bytes]]] = []
    for word in re.split(r"[\s,]+", str(single(option, items)).strip()):
        if "." in word and servers:
            servers[-1][1].append(address_of(option, word))
        else:
            servers.append((number_of(option, word, 0, 65535), []))
    payload = b""
    for kind, addresses in servers:
        if len(addresses) > 63:
            refuse(option, f"{len(addresses)} addresses for type {kind}, more than a sub-option holds")
        payload += kind.to_bytes(2, "big") + bytes([len(addresses)]) + b"".join(addresses)
    return payload


def _pxe_menu(option: Option, items: Sequence[Value]) -> bytes:
    """PXE 2.1 tag 9: type, length, line of each."""
    words = _MENU_WORD.findall(str(single(option, items)))
    if len(words) % 2:
        refuse(option, f"{len(words)} words, not pairs (a line of several words needs quotation marks)")
    payload = b""
    for kind, line in zip(words[::2], words[1::2], strict=True):
        text = ENCODERS[Kind.TEXT](option, [unquoted(line)])
        if not 1 <= len(text) <= 255:
            raise OptionRejected(option, f"a line of {len(text)} bytes", "1..255 bytes for each line")
        payload += number_of(option, kind, 0, 65535).to_bytes(2, "big") + bytes([len(text)]) + text
    return payload


_PARTS: Mapping[Kind, Encoder] = MappingProxyType(
    {Kind.PXE_SERVERS: _pxe_servers, Kind.PXE_MENU: _pxe_menu, Kind.UNTYPED: _untyped}
)

SPACE_ENCODERS: Mapping[Kind, Encoder] = MappingProxyType(
    {
        Kind.SUBOPTIONS: or_bytes(_suboptions),
        Kind.VENDOR: or_bytes(_vendor),
        Kind.VENDOR_CLASSES: or_bytes(_vendor_classes),
        Kind.VENDOR_OPTIONS: or_bytes(_vendor_options),
    }
)
