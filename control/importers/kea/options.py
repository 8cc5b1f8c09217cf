"""option-def and option-data of Kea -> values of ours.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from control.importers.dhcpd.definitions import Definition, defined_octets
from control.importers.dhcpd.tokens import Token
from control.importers.kea.text import Map
from control.importers.kinds import Value
from control.importers.site import Unfit
from control.importers.spaces import SPACE_MARK
from control.importers.values import VENDOR_SPECIFIC, attribute, by_code, by_name, wants_addresses
from control.options.table import Kind, Option

VENDOR_SPACE_NAME: Final = "vendor-encapsulated-options-space"
TOP_SPACE: Final = "dhcp4"
_TYPES: Final = {
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "int8": "s8", "int16": "s16", "int32": "s32", "boolean": "flag",
    "ipv4-address": "ip", "ipv6-address": "ip6", "string": "text", "fqdn": "domains", "binary": "text",
}  # fmt: skip
# Names that only Kea has.
_NAMES: Final = {
    "vivso-suboptions": 125, "vivco-suboptions": 124, "v4-captive-portal": 114, "client-system": 93, "client-ndi": 94,
    "uuid-guid": 97, "dhcp-agent-options": 82, "pcode": 100, "tcode": 101, "tftp-server-address": 150,
    "classless-static-route": 121, "domain-search": 119,
}  # fmt: skip
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9}")
_TEXTS: Final = frozenset({Kind.TEXT, Kind.TEXT_NUL, Kind.HOST_NAME, Kind.RAW})


@dataclass(slots=True)
class Definitions:
    """by_name and by_code: of (space, name or code).  carriers: space -> the option that carries it."""

    by_name: dict[tuple[str, str], Definition] = field(default_factory=dict)
    by_code: dict[tuple[str, int], Definition] = field(default_factory=dict)
    carriers: dict[str, int] = field(default_factory=lambda: {VENDOR_SPACE_NAME: VENDOR_SPECIFIC})

    def define(self, said: Map) -> None:
        """One of option-def.  Raises Unfit."""
        name, code, kind = said.get("name"), said.get("code"), said.get("type", "")
        space = str(said.get("space", TOP_SPACE))
        if not isinstance(name, str) or type(code) is not int or not 0 < code < 255:
            raise Unfit("wanted a name, and a code from 1 to 254")
        if kind == "empty":
            fields: tuple[str, ...] = ()
        else:
            words = str(said.get("record-types", "")).replace(" ", "").split(",") if kind == "record" else [kind]
            unknown = [word for word in words if word not in _TYPES]
            if unknown:
                raise Unfit(f"an option of type {unknown[0]}")
            fields = tuple(_TYPES[word] for word in words)
        found = Definition(code, fields, bool(said.get("array", False)), "" if space == TOP_SPACE else space)
        self.by_name[space, name] = self.by_code[space, code] = found
        if said.get("encapsulate"):
            self.carriers[str(said["encapsulate"])] = code

    def code_of(self, name: str) -> int:
        """Of an option of the packet.  Raises Unfit."""
        found = self.by_name.get((TOP_SPACE, name))
        if found is not None:
            return found.code
        known = by_name(name)
        code = _NAMES.get(name) or (known.code if known is not None else None)
        if code is None:
            raise Unfit(f"option {name} that is defined nowhere")
        return code

    def value(self, said: Map) -> tuple[str, Value]:
        """Of one of option-data: our name, or the key of a sub-option, and its value.  Raises Unfit."""
        space = str(said.get("space", TOP_SPACE))
        if said.get("never-send"):
            raise Unfit("an option that a wider level says cannot be taken back; say it to those that get it")
        if "client-classes" in said:
            raise Unfit("an option for classes; say it to each class")
        data, csv = str(said.get("data", "")), said.get("csv-format", True)
        name, code = said.get("name"), said.get("code")
        found = self.by_code.get((space, code)) if isinstance(code, int) else self.by_name.get((space, str(name)))
        if space != TOP_SPACE:
            number = found.code if found is not None else code
            if type(number) is not int or space not in self.carriers:
                raise Unfit(f"options of space {space} are not known")
            octets = octets_of(found, data) if csv and found is not None else hexadecimal(data)
            return f"{space}{SPACE_MARK}{number}", octets.hex()
        option = by_code(code if isinstance(code, int) else self.code_of(str(name)))
        if not csv:
            return option.name, attribute(option, None, hexadecimal(data))
        if found is not None:
            return option.name, attribute(option, plain(option, data), octets_of(found, data))
        return option.name, attribute(option, plain(option, data))


def plain(option: Option, data: str) -> Value:
    """As a person writes it for ours."""
    if option.kind in _TEXTS:
        return ",".join(fields_of(data))
    if option.kind is Kind.ROUTES:
        return data.replace(" - ", " ")
    if wants_addresses(option):
        return ", ".join(fields_of(data))
    return int(data, 0) if _NUMBER.fullmatch(data) else data


def fields_of(data: str) -> list[str]:
    """At commas; `\\,` is one within a field."""
    parts = data.replace("\\,", "\1").split(",")
    return [part.replace("\1", ",").strip() for part in parts]


def octets_of(definition: Definition, data: str) -> bytes:
    """Raises Unfit."""
    if not definition.fields:
        return b""
    fields = fields_of(data)
    if definition.fields == ("text",) and not definition.array:
        fields = [",".join(fields)]
    return defined_octets(definition, [Token("text", each, 0) for each in fields], no_names)


def no_names(name: str) -> list[str]:
    raise Unfit(f"found {name}; wanted an IPv4 address")


def hexadecimal(data: str) -> bytes:
    """`0a 0b`, `0x0a0b`, `0a:0b`, and texts within single quotation marks.  Raises Unfit."""
    text = data.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].encode()
    digits = text.removeprefix("0x").removeprefix("0X").replace(" ", "").replace(":", "")
    try:
        return bytes.fromhex(digits if len(digits) % 2 == 0 else f"0{digits}")
    except ValueError as error:
        raise Unfit(f"found {data}; wanted octets in hexadecimal") from error


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
