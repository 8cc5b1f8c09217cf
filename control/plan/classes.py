"""Client classes in attributes (`tftp_filename--ipxe`), and what each class receives unasked.  Pure.

ext/classify.pxd tells the classes apart on the wire; here are their names, and the manners of their firmware.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Final

from ext.classify import ClientClass
from ext.site_classes import BUILT_IN, PARENTS

from control.config.classes import SiteClass

SEPARATOR: Final = "--"
CLASSES: Final = {name: ClientClass(number) for name, number in BUILT_IN.items()}
NAMES: Final = {client: name for name, client in CLASSES.items()}
# In every table; the other built-in classes get what their wider class gets, as long as nobody says otherwise.
USUAL: Final = tuple(member for member in ClientClass if member <= ClientClass.PXE)
EVERYWHERE: Final = frozenset(USUAL[:-1])  # every template has a variant for them (ext/leases.pxd: CLASS_COUNT)
BMC: Final = NAMES[ClientClass.BMC]  # what is said to it is for the rows of BMCs, whatever class asks
EVERYBODY: Final = ""

# Class of a ROM -> of the firmware that boots from a URL on the same architecture.  No ROM loads a URL over PXE: one
# that is said to it is meant for that.
LOADS_URL: Final = {
    name: url for name in CLASSES if (url := "http-boot-" + name.removeprefix("uefi-").removesuffix("-pxe")) in CLASSES
}

Client = int | str
"""A built-in class (ClientClass), or the name of one of the site's."""

URL_KEY: Final = "bootfile-url"  # the identity of `bootfile_url`: option 67 of who can load a URL
_ROOT_PATH, _VENDOR_SPECIFIC, _VENDOR_CLASS, _TFTP_SERVER, _BOOT_FILE, _IPXE = 17, 43, 60, 66, 67, 175
NO_PROXY_WAIT: Final = b"\xb0\x01\x01"  # 175.176 = 1: iPXE does not wait for a proxy's offer; its ACK comes 3 s earlier
# What its ROM looks for: discovery control 3, a menu prompt at once, one boot server of this name.
RASPBERRY_MENU: Final = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff"

TAKE_THE_FILE: Final = b"\x06\x01\x08\xff"  # 43: discovery control 8, the boot file of the offer, no menu and no search
PXE_SUBOPTIONS: Final = {6, 8, 9, 10}
ADDRESS_SERVER_S: Final = {1, 3, 28, 33, 51, 58, 59, 121, 249}  # what only who gives the address can know


class ClientClasses:
    """The built-in classes and those of a site: their names, and which wider one counts for a narrower."""

    def __init__(self, site: Collection[SiteClass] = (), tells_bmcs: bool = True) -> None:
        """tells_bmcs: BMCs are told apart from their hosts (dhcp.update_ipmi)."""
        self.site = {each.name: each.parent for each in site}
        self.tells_bmcs = tells_bmcs

    def split(self, subkey: str) -> tuple[str, str]:
        """`tftp_filename--ipxe` -> option and class; class "" for what is said to all, or where no such class is."""
        option, found, name = subkey.rpartition(SEPARATOR)
        name = name.lower().replace("_", "-")
        known = name in CLASSES or name in self.site
        return (option, name) if found and option and known else (subkey, EVERYBODY)

    def chain(self, client: Client) -> Iterator[str]:
        """Names under which something may be said to a class, the most specific first; "" is everybody."""
        name = client if isinstance(client, str) else NAMES[client]
        yield name
        while name in self.site:
            name = self.site[name]
            yield name
        wider = PARENTS[CLASSES[name]]
        while wider != ClientClass.OS:
            yield NAMES[ClientClass(wider)]
            wider = PARENTS[wider]
        yield EVERYBODY

    def planned(self, said_to: Collection[str]) -> list[Client]:
        """The classes that may get something of their own.  said_to: names that attributes say something to."""
        usual = {NAMES[client] for client in USUAL}
        built_in = [CLASSES[name] for name in said_to if name in CLASSES and name not in usual and name != BMC]
        return [*USUAL, *sorted(built_in), *sorted(name for name in said_to if name in self.site)]

    def wider(self, client: Client, planned: Collection[Client]) -> Client:
        """Of those that are planned, whose template a class has where it has none of its own, as the table has it."""
        for name in list(self.chain(client))[1:]:
            known: Client = int(CLASSES[name]) if name in CLASSES else name
            if known in planned:
                return known
        return int(ClientClass.OS)

    def firmware(self, client: Client) -> ClientClass:
        """The built-in class by whose manners a class's firmware goes: OS, PXE, HTTP_BOOT, IPXE, ..."""
        for name in self.chain(client):
            if CLASSES.get(name) in FIRMWARE:
                return CLASSES[name]
        return ClientClass.OS

    def takes_urls_alone(self, said_to: str) -> bool:
        """Of a class: its firmware boots by HTTP."""
        return said_to != BMC and self.firmware(CLASSES.get(said_to, said_to)) is ClientClass.HTTP_BOOT

    def why_nobody(self, identity: str, said_to: str) -> str:
        """Why an option that is said to a class reaches nobody; "" where it does."""
        if said_to == BMC and not self.tells_bmcs:
            return "BMCs are not told apart from their hosts: dhcp.update_ipmi is off"
        if identity == str(_TFTP_SERVER) and self.takes_urls_alone(said_to):
            return "who boots by HTTP finds its server in the URL"
        if identity == URL_KEY and said_to not in self.loading_urls:
            return (
                f"nothing of class {said_to} loads its boot file by URL: say it to a class below http-boot or ipxe-http"
            )
        return ""

    @cached_property
    def loading_urls(self) -> set[str]:
        """Names of classes, some of which at least boot from `bootfile_url`."""
        every: list[Client] = [*CLASSES.values(), *self.site]
        loading = [each for each in every if self.firmware(each) in (ClientClass.HTTP_BOOT, ClientClass.IPXE_HTTP)]
        return {BMC, *(name for each in loading for name in self.chain(each))}  # a BMC asks as it likes

    def nearest(self, name: str) -> str:
        """What a mistyped class may have meant, as the end of a sentence."""
        known = [*self.site, *CLASSES]
        close = get_close_matches(name.lower().replace("_", "-"), known, n=1)
        return f"; did you mean {close[0]}?" if close else "; docs/protocol.md lists the classes"


FIRMWARE: Final = {
    ClientClass.PXE,
    ClientClass.RASPBERRY_PI,
    ClientClass.HTTP_BOOT,
    ClientClass.IPXE,
    ClientClass.IPXE_HTTP,
}  # each with manners of its own


def resolve(chain: Iterable[str], layers: Iterable[Mapping[str, bytes | None]]) -> dict[str, bytes]:
    """What a class gets, by identity.  chain: ClientClasses.chain() of it, and before that "bmc" for a BMC's row.

    layers: of the host itself, then of its containers: key (identity, or identity--class) -> payload; None for a value
    that cannot be sent: it costs the option, no wider one counts instead.

    For one option a value for the class beats one without, wherever it stands; among equals the nearer layer wins."""
    found: dict[str, bytes | None] = {}
    layers = list(layers)
    for name in chain:
        for layer in layers:
            for key, payload in layer.items():
                identity, _, said_to = key.partition(SEPARATOR)
                if said_to == name:
                    found.setdefault(identity, payload)
    return bootless({identity: payload for identity, payload in found.items() if payload is not None})


def bootless(said: dict[str, bytes]) -> dict[str, bytes]:
    """An empty boot file is none, whatever a wider level says, and who boots nothing needs no server for it."""
    if said.get(str(_BOOT_FILE)) == b"":
        said = {key: payload for key, payload in said.items() if key not in (str(_BOOT_FILE), str(_TFTP_SERVER))}
    if said.get(URL_KEY) == b"":
        del said[URL_KEY]
    return said


def is_said(chain: Iterable[str], identity: str, layers: Iterable[Container[str]]) -> bool:
    """Whether anybody says an option to a class, or to all, be it something that cannot be sent."""
    keys = {f"{identity}{SEPARATOR}{name}" if name else identity for name in chain}
    return any(key in layer for layer in layers for key in keys)


def manners(firmware: ClientClass, payloads: dict[int, bytes], url: bytes | None) -> None:
    """What the firmware of a class needs besides, or must not see.  Changes the payloads.

    Option 60 = PXEClient says that 43 is PXE's.  With any other 43, and with none, UEFI takes it for the offer of a
    BINL server: it asks port 4011 of the boot server and fails (PXE-E16)."""
    if firmware is ClientClass.RASPBERRY_PI:
        payloads.setdefault(_VENDOR_SPECIFIC, RASPBERRY_MENU)
    if firmware in (ClientClass.PXE, ClientClass.RASPBERRY_PI):
        if is_pxe(payloads.get(_VENDOR_SPECIFIC, b"")):
            payloads.setdefault(_VENDOR_CLASS, b"PXEClient")
    elif firmware is ClientClass.HTTP_BOOT:
        file = payloads.pop(_BOOT_FILE, b"").rstrip(b"\0")
        payloads.pop(_TFTP_SERVER, None)
        url = url or (file if is_url(file) else None)
        if url is not None:  # without one it is an error to the firmware, with HTTPClient or without
            payloads[_BOOT_FILE] = url
            payloads[_VENDOR_CLASS] = b"HTTPClient"
    elif firmware in (ClientClass.IPXE, ClientClass.IPXE_HTTP):
        payloads.setdefault(_IPXE, NO_PROXY_WAIT)
        if firmware is ClientClass.IPXE_HTTP and url is not None:
            payloads[_BOOT_FILE] = url


def boot_service_manners(firmware: ClientClass, payloads: dict[int, bytes], url: bytes | None) -> bool:
    """In place of manners() for a host whose address another server gives.  False: there is nothing for it to boot.

    ROMs take a reply without an address for a proxy's by 60, and by 43 know that it is complete: UEFI takes one with 60
    alone for a BINL offer, and so one with a 43 that is not PXE's, which is left out (foreign_to_pxe() tells of it)."""
    said = set(payloads)
    is_rom = firmware not in (ClientClass.OS, ClientClass.HTTP_BOOT)
    if is_rom and foreign_to_pxe(payloads):
        said.discard(_VENDOR_SPECIFIC)
        payloads.pop(_VENDOR_SPECIFIC)
    manners(firmware, payloads, url)
    for code in ADDRESS_SERVER_S:
        payloads.pop(code, None)
    if _IPXE not in said:  # it has to wait for us
        payloads.pop(_IPXE, None)
    boots = firmware is not ClientClass.OS and _BOOT_FILE in payloads
    if is_rom:
        boots = boots or _VENDOR_SPECIFIC in said
        boots = boots or (firmware is ClientClass.RASPBERRY_PI and _TFTP_SERVER in said)
        boots = boots or (firmware in (ClientClass.IPXE, ClientClass.IPXE_HTTP) and _ROOT_PATH in said)
        payloads.setdefault(_VENDOR_SPECIFIC, TAKE_THE_FILE)
        payloads.setdefault(_VENDOR_CLASS, b"PXEClient")
    if not boots:
        payloads.clear()
    return boots


def is_pxe(vendor_specific: bytes) -> bool:
    """Option 43 holds what PXE's clients look for: discovery control, boot servers, boot menu or its prompt (PXE 2.1,
    table 2-3).  It is a list of sub-options, and one that ends too early is none."""
    at, found = 0, False
    while at < len(vendor_specific) and vendor_specific[at] != 255:
        if vendor_specific[at] == 0:
            at += 1
            continue
        if at + 2 > len(vendor_specific) or at + 2 + vendor_specific[at + 1] > len(vendor_specific):
            return False
        found = found or vendor_specific[at] in PXE_SUBOPTIONS
        at += 2 + vendor_specific[at + 1]
    return found


def foreign_to_pxe(payloads: Mapping[int, bytes]) -> bool:
    return _VENDOR_SPECIFIC in payloads and not is_pxe(payloads[_VENDOR_SPECIFIC])


def is_url(payload: bytes) -> bool:
    return payload.startswith((b"http://", b"https://"))
