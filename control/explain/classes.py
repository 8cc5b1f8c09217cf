"""Client classes of a table as people read them, and a DISCOVER of each as its firmware sends it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, summarize_address_range
from typing import Any, Final

from ext.classify import ClientClass
from ext.site_classes import PARENTS
from ext.table import Pair

from control.explain.wording import CLASSES, class_name
from control.mac import show_mac
from control.messages.dissect import words
from control.plan.classes import USUAL, Client
from ext import codec

XID: Final = 0x45585031
SITE: Final = "a class of this site (dhcp.classes)"
# What firmware of each class says of itself, as options of a request.
_ARCHITECTURE = {
    ClientClass.BIOS_PXE: 0,
    ClientClass.UEFI_IA32: 6,
    ClientClass.UEFI_X64: 7,
    ClientClass.UEFI_ARM64: 11,
    ClientClass.HTTP_BOOT: 16,
    ClientClass.IPXE: 0,
    ClientClass.IPXE_HTTP: 0,
    ClientClass.RASPBERRY_PI: 0,
    ClientClass.PXE: 0xFFFF,
}
_FIRST_OF_TYPES: Final = 16  # ext/classify.pxd: ARCHITECTURE
_ENTERPRISE, _TEXT_OPTIONS = 124, {"vendor_class": 60, "user_class": 77, "client_id": 61, "machine_guid": 97}


def client_of(pair: Pair | None, request: dict[str, Any]) -> Client:
    """Whose options a request gets.  request: of ext.codec.Trace."""
    number = request["option_class"]
    said = pair.base.classes.said(number) if pair is not None else number
    return said if isinstance(said, str) else ClientClass(said)


def label(client: Client) -> str:
    return client if isinstance(client, str) else class_name(client)


def described(pair: Pair | None, request: dict[str, Any]) -> str:
    """What that class is, and by which rule the request is of it."""
    client = client_of(pair, request)
    if not isinstance(client, str):
        return CLASSES[class_name(client)]
    assert pair is not None
    rule = "; ".join(
        f"{field} {' or '.join(shown(field, value) for value in values)}"
        for field, values in pair.base.classes.conditions[client]
    )
    return f"{SITE}: {rule}; by itself {CLASSES[class_name(request['client_class'])]}"


def shown(field: str, value: Any) -> str:
    """A value of a condition, much as services.conf has it."""
    if isinstance(value, int):
        return f"option {value}"
    first, last = value
    if isinstance(first, bytes):
        return words(first) + ("*" if last else "")
    if field == "mac":
        known = 12 - len(f"{last - first:x}") if last > first else 12
        return show_mac(first)[: known + known // 2 - 1]
    if field in ("relay", "link"):
        return str(next(summarize_address_range(IPv4Address(first), IPv4Address(last))))
    return str(first)


def told_apart(pair: Pair) -> list[Client]:
    """The classes that a table may say something of their own to, and the usual ones."""
    found: list[Client] = list(USUAL[:-1])
    for generation in (pair.base, pair.delta):
        for number in generation.own_columns() if generation is not None else ():
            said = pair.base.classes.said(number)
            client: Client = said if isinstance(said, str) else ClientClass(said)
            if client not in found:
                found.append(client)
    return found


def option(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def discover(mac: int, said: bytes, giaddr: int = 0) -> bytes:
    """A DISCOVER with some options besides."""
    head = bytes((1, 1, 6, 1 if giaddr else 0)) + XID.to_bytes(4, "big") + bytes(16) + giaddr.to_bytes(4, "big")
    common = option(53, b"\1") + option(57, (1472).to_bytes(2, "big"))
    return (
        head + mac.to_bytes(6, "big").ljust(16 + 64 + 128, b"\0") + bytes((99, 130, 83, 99)) + common + said + b"\xff"
    )


def said_by_firmware(client: ClientClass) -> bytes:
    """The options by which firmware of a built-in class is known."""
    number = _ARCHITECTURE.get(client, client - _FIRST_OF_TYPES if client >= _FIRST_OF_TYPES else -1)
    if number < 0:
        return b""
    kind = b"HTTPClient" if ClientClass.HTTP_BOOT in (client, PARENTS[client]) else b"PXEClient"
    said = option(60, kind + b":Arch:%05d:UNDI:003016" % number) + option(93, number.to_bytes(2, "big"))
    if client is ClientClass.HTTP_BOOT:
        said = option(60, kind)
    if client in (ClientClass.IPXE, ClientClass.IPXE_HTTP):
        said += option(77, b"iPXE") + option(
            175, b"\x15\1\1" + (b"\x13\1\1" if client is ClientClass.IPXE_HTTP else b"")
        )
    if client is ClientClass.RASPBERRY_PI:
        said += option(97, b"\0RPi4" + bytes(12))
    return said


def said_by_site_class(conditions: Any) -> bytes:
    """The first value of each condition, as far as a client says it itself."""
    found = b""
    for field, values in conditions:
        value = values[0]
        if field in _TEXT_OPTIONS:
            found += option(_TEXT_OPTIONS[field], value[0])
        elif field == "architecture":
            found += option(93, value[0].to_bytes(2, "big"))
        elif field == "enterprise":
            found += option(_ENTERPRISE, value[0].to_bytes(4, "big") + b"\0")
        elif field == "present" and value not in (53, 57):
            found += option(value, b"\0")
    return found


def discovers(pair: Pair, mac: int, giaddr: int, place: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """(class, DISCOVER) of each class that a machine can ask as, at a place; a class of the site whose rule looks at
    something else than the machine says is left out where that does not fit."""
    for client in told_apart(pair):
        if isinstance(client, str):
            payload = discover(mac, said_by_site_class(pair.base.classes.conditions[client]), giaddr)
        else:
            payload = discover(mac, said_by_firmware(client), giaddr)
        request = codec.trace(pair, payload, **place).request
        if request and label(client_of(pair, request)) == label(client):
            yield label(client), payload
