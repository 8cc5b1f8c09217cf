"""Client classes in attributes (`tftp_filename--ipxe`), and what each class receives unasked.  Pure.

ext/classify.pxd tells the classes apart on the wire; here are their names, and the manners of their firmware.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ext.classify import ClientClass

SEPARATOR: Final = "--"
CLASSES: Final = {member.name.lower().replace("_", "-"): member for member in ClientClass}
FALLBACK: Final = {"ipxe-http": "ipxe"}  # what is said of the wider class counts for the narrower one
PXE: Final = {ClientClass.BIOS_PXE, ClientClass.UEFI_IA32, ClientClass.UEFI_X64, ClientClass.UEFI_ARM64}

URL_KEY: Final = "bootfile-url"  # the identity of `bootfile_url`: option 67 of who can load a URL
URL_CLASSES: Final = {ClientClass.HTTP_BOOT, ClientClass.IPXE_HTTP}
_ROOT_PATH, _VENDOR_SPECIFIC, _VENDOR_CLASS, _TFTP_SERVER, _BOOT_FILE, _IPXE = 17, 43, 60, 66, 67, 175
NO_PROXY_WAIT: Final = b"\xb0\x01\x01"  # 175.176 = 1: iPXE does not wait for a proxy's offer; its ACK comes 3 s earlier
# What its ROM looks for: discovery control 3, a menu prompt at once, one boot server of this name.
RASPBERRY_MENU: Final = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff"

TAKE_THE_FILE: Final = b"\x06\x01\x08\xff"  # 43: discovery control 8, the boot file of the offer, no menu and no search
ADDRESS_SERVER_S: Final = {1, 3, 28, 33, 51, 58, 59, 121, 249}  # what only who gives the address can know


def split_class(subkey: str) -> tuple[str, str]:
    """`tftp_filename--ipxe` -> option and class; class "" for what is said to all, or when there is no such class."""
    option, found, name = subkey.rpartition(SEPARATOR)
    name = name.lower().replace("_", "-")
    return (option, name) if found and option and name in CLASSES else (subkey, "")


def chain(client: ClientClass) -> Iterator[str]:
    """Names under which something may be said to a class, the most specific first; "" is everybody."""
    name = client.name.lower().replace("_", "-")
    yield name
    if name in FALLBACK:
        yield FALLBACK[name]
    yield ""


def resolve(client: ClientClass, layers: Iterable[Mapping[str, bytes | None]]) -> dict[str, bytes]:
    """What a class gets, by identity.  layers: of the host itself, then of its containers: key (identity, or
    identity--class) -> payload; None for a value that cannot be sent: it costs the option, no wider one counts instead.

    For one option a value for the class beats one without, wherever it stands; among equals the nearer layer wins."""
    found: dict[str, bytes | None] = {}
    layers = list(layers)
    for name in chain(client):
        for layer in layers:
            for key, payload in layer.items():
                identity, _, said_to = key.partition(SEPARATOR)
                if said_to == name:
                    found.setdefault(identity, payload)
    return {identity: payload for identity, payload in found.items() if payload is not None}


def manners(client: ClientClass, payloads: dict[int, bytes], url: bytes | None) -> None:
    """What the firmware of a class needs besides, or must not see.  Changes the payloads.

    A reply with 60 = PXEClient and no 43 is a BINL offer to UEFI, which then asks port 4011 and fails."""
    if client is ClientClass.RASPBERRY_PI:
        payloads.setdefault(_VENDOR_SPECIFIC, RASPBERRY_MENU)
    if client in PXE or client is ClientClass.RASPBERRY_PI:
        if _VENDOR_SPECIFIC in payloads:
            payloads.setdefault(_VENDOR_CLASS, b"PXEClient")
    elif client is ClientClass.HTTP_BOOT:
        file = payloads.pop(_BOOT_FILE, b"").rstrip(b"\0")
        payloads.pop(_TFTP_SERVER, None)
        url = url or (file if is_url(file) else None)
        if url is not None:  # without one it is an error to the firmware, with HTTPClient or without
            payloads[_BOOT_FILE] = url
            payloads[_VENDOR_CLASS] = b"HTTPClient"
    elif client in (ClientClass.IPXE, ClientClass.IPXE_HTTP):
        payloads.setdefault(_IPXE, NO_PROXY_WAIT)
        if client is ClientClass.IPXE_HTTP and url is not None:
            payloads[_BOOT_FILE] = url


def boot_service_manners(client: ClientClass, payloads: dict[int, bytes], url: bytes | None) -> bool:
    """In place of manners() for a host whose address another server gives.  False: there is nothing for it to boot.

    ROMs take a reply without an address for a proxy's by 60, and by 43 know that it is complete: UEFI takes one with 60
    alone for a BINL offer."""
    said = set(payloads)
    manners(client, payloads, url)
    for code in ADDRESS_SERVER_S:
        payloads.pop(code, None)
    if _IPXE not in said:  # it has to wait for us
        payloads.pop(_IPXE, None)
    boots = client is not ClientClass.OS and _BOOT_FILE in payloads
    if client is not ClientClass.OS and client is not ClientClass.HTTP_BOOT:
        boots = boots or _VENDOR_SPECIFIC in said
        boots = boots or (client is ClientClass.RASPBERRY_PI and _TFTP_SERVER in said)
        boots = boots or (client in (ClientClass.IPXE, ClientClass.IPXE_HTTP) and _ROOT_PATH in said)
        payloads.setdefault(_VENDOR_SPECIFIC, TAKE_THE_FILE)
        payloads.setdefault(_VENDOR_CLASS, b"PXEClient")
    if not boots:
        payloads.clear()
    return boots


def is_url(payload: bytes) -> bool:
    return payload.startswith((b"http://", b"https://"))
