"""Options as dhcpd.conf writes them: those that it defines itself, option spaces, and values as octets.  Pure but for
the look-up of names, which the caller brings.

Types: dhcp-options(5), "Defining new options".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from control.importers.dhcpd.tokens import Token, said
from control.importers.kinds import Value
from control.importers.site import Unfit
from control.importers.values import attribute, by_code, by_name, is_address, octets_of, wants_addresses
from control.options.table import Kind, Option

Resolve = Callable[[str], Sequence[str]]
"""A host name -> its IPv4 addresses; raises Unfit where names are not to be looked up, or there are none."""

_OCTETS: Final = frozenset({Kind.TEXT, Kind.TEXT_NUL, Kind.HOST_NAME, Kind.RAW, Kind.HEX, Kind.VENDOR,
                            Kind.SUBOPTIONS, Kind.VENDOR_CLASSES, Kind.VENDOR_OPTIONS})  # fmt: skip
_NUMBERS: Final = frozenset({Kind.INT8, Kind.INT16, Kind.INT32, Kind.SINT8, Kind.SINT32})
_FLAGS: Final = {"true": 1, "on": 1, "1": 1, "yes": 1, "false": 0, "off": 0, "0": 0, "no": 0}
_INTEGER: Final = re.compile(r"([us])(8|16|32)")
_NUMBER: Final = re.compile(r"[+-]?(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})")


@dataclass(frozen=True, slots=True)
class Definition:
    """fields: types in their order, u8 to u32, s8 to s32, flag, ip, ip6, text, domains; array: they repeat."""

    code: int
    fields: tuple[str, ...] = ()
    array: bool = False
    space: str = ""


@dataclass(slots=True)
class Definitions:
    """options: name, or SPACE.NAME -> definition.  carriers: space -> the option that carries it."""

    options: dict[str, Definition] = field(default_factory=dict)
    carriers: dict[str, int] = field(default_factory=dict)
    spaces: set[str] = field(default_factory=set)

    @property
    def codes(self) -> dict[str, int]:
        return {name: found.code for name, found in self.options.items()}

    def define(self, name: str, rest: list[Token]) -> None:
        """`option NAME code NUMBER = TYPE`, of which rest is behind `code`.  Raises Unfit."""
        words = [token.text.lower() for token in rest]
        if len(words) < 3 or words[1] != "=" or not words[0].isdecimal() or not 0 < int(words[0]) < 255:
            raise Unfit("an option's definition; wanted: option NAME code NUMBER = TYPE")
        code = int(words[0])
        space, dot, _ = name.rpartition(".")
        array = words[2:4] == ["array", "of"]
        kinds = words[4:] if array else words[2:]
        if kinds[:1] == ["encapsulate"] and len(kinds) == 2:
            self.carriers[kinds[1]] = code
            self.options[name] = Definition(code, (), False, space if dot else "")
            return
        self.options[name] = Definition(code, tuple(_fields(kinds)), array, space if dot else "")


def _fields(words: list[str]) -> list[str]:
    """Raises Unfit."""
    found = []
    rest = [word for word in words if word not in "{},"]
    while rest:
        word = rest.pop(0)
        sign = "u"
        if word in ("signed", "unsigned"):
            sign, word = word[0], rest.pop(0) if rest else ""
        if word == "integer" and rest and rest[0] in ("8", "16", "32"):
            found.append(f"{sign}{rest.pop(0)}")
        elif word in ("boolean", "ip-address", "ip6-address", "text", "string", "domain-list", "domain-name"):
            found.append({"boolean": "flag", "ip-address": "ip", "ip6-address": "ip6", "string": "text",
                          "domain-list": "domains", "domain-name": "domains"}.get(word, word))  # fmt: skip
        elif word != "compressed":
            raise Unfit(f"an option of type {' '.join(words)}")
    if not found:
        raise Unfit("an option without a type")
    return found


# --- values -----------------------------------------------------------------------------------------------------------


def octets_in(token: Token) -> bytes:
    """Of a text as dhcpd sends it."""
    return token.text.encode("latin-1" if max(token.text, default="") < "\u0100" else "utf-8")


def value_of(option: Option, tokens: list[Token], resolve: Resolve) -> Value:
    """Of an option that dhcpd knows by itself, as ours knows it.  Raises Unfit."""
    if not tokens:
        raise Unfit("no value")
    if wants_addresses(option):
        return attribute(option, ", ".join(_addresses(tokens, resolve)))
    if len(tokens) == 1:
        token = tokens[0]
        if token.kind == "text":
            return attribute(option, token.text, octets_in(token) if option.kind in _OCTETS else None)
        octets = octets_of(token.text) if ":" in token.text and option.kind in _OCTETS else None
        if octets is not None:
            return attribute(option, None, octets)
        if option.kind in _NUMBERS and _NUMBER.fullmatch(token.text):
            return attribute(option, int(token.text, 0 if "x" in token.text.lower() else 10))
    return attribute(option, _joined(tokens))


def _joined(tokens: list[Token]) -> str:
    text = ""
    for token in tokens:
        text += token.text if token.kind == "mark" else f" {token.text}"
    return text.replace(" ,", ",").strip()


def _addresses(tokens: list[Token], resolve: Resolve) -> list[str]:
    found: list[str] = []
    for token in tokens:
        if token.kind == "mark":
            continue
        if token.kind == "word" and is_address(token.text):
            found.append(token.text)
        else:
            found += resolve(token.text)
    return found


def defined_octets(definition: Definition, tokens: list[Token], resolve: Resolve) -> bytes:
    """Of an option that the file defines.  Raises Unfit."""
    items = [token for token in tokens if not (token.kind == "mark" and token.text == ",")]
    if not items:
        raise Unfit("no value")
    fields = definition.fields
    if len(items) != len(fields) and not (definition.array and len(items) % len(fields or (1,)) == 0):
        alone = len(items) == 1 and items[0].kind == "word"
        octets = octets_of(items[0].text) if alone and ":" in items[0].text else None
        if octets is not None and fields == ("text",):
            return octets
        raise Unfit(f"{len(items)} values for {len(fields)} fields")
    payload = b""
    for at, token in enumerate(items):
        payload += _field(fields[at % len(fields)], token, resolve)
    return payload


def _field(kind: str, token: Token, resolve: Resolve) -> bytes:
    text = token.text
    if kind == "text":
        octets = octets_of(text) if token.kind == "word" else None
        return octets if octets is not None else octets_in(token)
    if kind == "flag":
        if text.lower() not in _FLAGS:
            raise Unfit(f"found {text}; wanted true or false")
        return bytes((_FLAGS[text.lower()],))
    if kind == "ip":
        return b"".join(IPv4Address(each).packed for each in ([text] if is_address(text) else resolve(text)))
    if kind == "ip6":
        try:
            return IPv6Address(text).packed
        except AddressValueError as error:
            raise Unfit(f"found {text}; wanted an IPv6 address") from error
    if kind == "domains":
        return b"".join(_domain(name) for name in text.replace(",", " ").split())
    integer = _INTEGER.fullmatch(kind)
    assert integer is not None
    if not _NUMBER.fullmatch(text):
        raise Unfit(f"found {text}; wanted a number")
    try:
        return int(text, 0 if "x" in text.lower() else 10).to_bytes(
            int(integer[2]) // 8, "big", signed=integer[1] == "s"
        )
    except OverflowError as error:
        raise Unfit(f"found {text}; wanted a number of {integer[2]} bits") from error


def _domain(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace") for label in name.rstrip(".").split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise Unfit(f"found {name}; wanted a domain name")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def defined_value(definition: Definition, tokens: list[Token], resolve: Resolve) -> Value:
    """Raises Unfit."""
    wire = defined_octets(definition, tokens, resolve)
    option = by_code(definition.code)
    if set(definition.fields) == {"ip"}:
        return attribute(option, ", ".join(_addresses(tokens, resolve)), wire)
    items = [token for token in tokens if token.kind != "mark"]
    plain: Value = items[0].text if len(items) == 1 else said(tokens).replace(" ,", ",")
    return attribute(option, plain, wire)


def known_option(name: str) -> Option:
    """Of those that dhcpd knows.  Raises Unfit."""
    found = by_name(name.removeprefix("dhcp."))
    if found is None:
        raise Unfit(f"no option of the name {name} is defined")
    return found
