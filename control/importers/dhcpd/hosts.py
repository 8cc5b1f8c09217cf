"""Host declarations of dhcpd.conf, also as OMAPI writes them into dhcpd.leases.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from control.importers.dhcpd.scopes import Scope, Set
from control.importers.dhcpd.tokens import Token, Words, said
from control.importers.kinds import Value
from control.importers.site import Place, Unfit
from control.importers.values import BOOT_FILE, BOOT_SERVER, mac_of, mac_of_client_id, octets_of

if TYPE_CHECKING:
    from control.importers.dhcpd.reader import Reader

CLIENT_ID: Final = frozenset({"dhcp-client-identifier", "dhcp.dhcp-client-identifier"})
HOST_NAME: Final = frozenset({"host-name", "dhcp.host-name"})
# What OMAPI's tools put in front of a name.
_OMAPI: Final = {"server.filename": BOOT_FILE, "filename": BOOT_FILE, "server.next-server": BOOT_SERVER,
                 "next-server": BOOT_SERVER}  # fmt: skip


@dataclass(slots=True)
class HostDeclaration:
    """fixed: addresses and names, as they stand there.  known_by: what else than a MAC it is known by, in words."""

    scope: Scope
    mac: str | None = None
    fixed: list[str] = field(default_factory=list)
    known_by: str = ""
    hostname: str | None = None
    deleted: bool = False


def read_host(reader: Reader, words: Words, scope: Scope, first: Token) -> None:
    """Behind the word `host`."""
    name = words.take() if words.next.kind in ("word", "text") else first
    inner = Scope("host", name.text, Place(words.file, first.line), scope, group=scope.group)
    host = HostDeclaration(inner)
    if not words.take_if("{"):
        raise Unfit(f"found {words.next.text!r}; wanted a block in braces")
    while not words.is_mark("}"):
        if words.at_end():
            reader.notes.lost(inner.place, f"host {name.text} {{", "nothing closes this brace")
            break
        word = words.next.text.lower() if words.next.kind == "word" else ""
        if word in _STATEMENTS:
            _own(reader, words, host, words.take())
        elif word == "option":
            _option(reader, words, host, words.take())
        else:
            reader.statement(words, inner, reader.depth + 1)
    words.take()
    if not host.deleted:
        reader.hosts.append(host)


def _own(reader: Reader, words: Words, host: HostDeclaration, first: Token) -> None:
    rest = words.rest_of_statement()
    place = Place(words.file, first.line)
    try:
        _STATEMENTS[first.text.lower()](reader, host, rest)
    except Unfit as unfit:
        reader.notes.lost(place, said([first, *rest]), str(unfit))


def _hardware(_reader: Reader, host: HostDeclaration, rest: list[Token]) -> None:
    octets = octets_of(rest[1].text) if len(rest) == 2 else None
    mac = mac_of(octets) if octets is not None else None
    if mac is None or rest[0].text.lower() != "ethernet":
        raise Unfit(
            "wanted: hardware ethernet and six octets; an InfiniBand port has its GUID's MAC (docs/inventory.md)"
        )
    host.mac = mac


def _fixed(_reader: Reader, host: HostDeclaration, rest: list[Token]) -> None:
    host.fixed += [token.text for token in rest if token.kind != "mark"]


def _identifier(_reader: Reader, host: HostDeclaration, rest: list[Token]) -> None:
    """`host-identifier option agent.circuit-id "..."`"""
    host.known_by = said(rest)


def _uid(_reader: Reader, host: HostDeclaration, rest: list[Token]) -> None:
    token = rest[-1] if rest else None
    octets = octets_of(token.text) if token is not None and token.kind == "word" else None
    mac = mac_of_client_id(octets) if octets is not None else None
    host.known_by = f"the client identifier {said(rest[-1:])}"
    if host.mac is None and mac is not None:
        host.mac = mac


def _deleted(_reader: Reader, host: HostDeclaration, _rest: list[Token]) -> None:
    host.deleted = True


def _nothing(_reader: Reader, _host: HostDeclaration, _rest: list[Token]) -> None:
    """`dynamic`: OMAPI made it; `known`, `group` by name are for OMAPI as well."""


def _supersede(reader: Reader, host: HostDeclaration, rest: list[Token]) -> None:
    """`supersede NAME = VALUE`, as OMAPI's tools write it."""
    words = [token for token in rest if not (token.kind == "mark" and token.text == "=")]
    if len(words) < 2:
        raise Unfit("wanted a name and a value")
    name, values = words[0].text.lower().removeprefix("dhcp."), words[1:]
    if name == "host-name" and len(values) == 1:
        host.hostname = values[0].text
        return
    option, value = _superseded(reader, name, values)
    host.scope.statements.append(Set(option, value))


def _superseded(reader: Reader, name: str, values: list[Token]) -> tuple[str, Value]:
    if _OMAPI.get(name) == BOOT_FILE:
        return BOOT_FILE, values[0].text
    if _OMAPI.get(name) == BOOT_SERVER:
        octets = octets_of(values[0].text) if ":" in values[0].text else None
        if octets is not None and len(octets) == 4:
            return BOOT_SERVER, ".".join(map(str, octets))
        return BOOT_SERVER, values[0].text
    return reader.option_value(name, values)


def _option(reader: Reader, words: Words, host: HostDeclaration, first: Token) -> None:
    name = words.take()
    word = name.text.lower()
    if word not in CLIENT_ID and word not in HOST_NAME:
        reader.option_said(words, host.scope, first, name)
        return
    rest = words.rest_of_statement()
    if word in CLIENT_ID:
        _uid(reader, host, rest)
    elif len(rest) == 1 and rest[0].kind in ("text", "word"):
        host.hostname = rest[0].text
    else:
        reader.notes.lost(Place(words.file, first.line), said([first, name, *rest]), "wanted one name")


_STATEMENTS: Final = {
    "hardware": _hardware, "fixed-address": _fixed, "host-identifier": _identifier, "uid": _uid,
    "deleted": _deleted, "dynamic": _nothing, "supersede": _supersede,
}  # fmt: skip
