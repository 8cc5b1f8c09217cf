"""A site as an operator writes it, for the habits of real firmware: a host file, planned and compiled as the service
does it, and its machines by name.

The wire `near` has two networks, 10.1.0.0/24 and 10.2.0.0/24; 10.3.0.0/24 and 10.4.0.0/24 stand behind relays.
"""

import json
from functools import cache
from typing import Any

from ext.codec import Reply
from ext.table import Pair

from ext import codec
from tests.ext.exchanges import Wire, planned
from tests.ext.packets import BROADCAST, Parsed, ip, tlv

SERVER, SECOND = "10.1.0.1", "10.2.0.1"
WIRES = (Wire("near", 2, SERVER, 24), Wire("near", 2, SECOND, 24))
BOOT_SERVER, BOOT_FILE, URL = "10.1.0.5", "/pxelinux.0", "http://boot.example.org/a.efi"
MENU = "discovery-control=8, boot-servers=0 10.1.0.5, boot-menu=0 Install, menu-prompt=0 Boot"
LEASE_S, ROM_LEASE_S = 7200, 300
# Each machine: pool, addresses.  Its MAC is 02:00:00:00:01:NN by its place in this list.
MACHINES = {
    "plain": ("racks", ["10.1.0.11"]),
    "menu": ("menus", ["10.1.0.12"]),
    "bare": ("bare", ["10.1.0.13"]),
    "named": ("named", ["10.1.0.14"]),
    "big": ("big", ["10.1.0.15"]),
    "second": ("racks", ["10.2.0.16"]),
    "far": ("racks", ["10.3.0.17"]),
    "everywhere": ("racks", ["10.1.0.18", "10.2.0.18", "10.3.0.18"]),
    "other": ("racks", ["10.1.0.19"]),
    "vip": ("vips", ["10.1.0.20"]),
    "huge": ("huge", ["10.1.0.21"]),
    "proxied": ("proxied", []),
}
POOLS = {
    "racks": {
        "tftp_server": BOOT_SERVER, "tftp_filename": BOOT_FILE, "tftp_filename--uefi-x64": "snponly.efi",
        "bootfile_url": URL, "name_server": ["10.1.0.53", "10.1.0.54"], "domain": "example.org",
        "lease_time": LEASE_S, "lease_time--bios-pxe": ROM_LEASE_S,
    },
    "menus": {"tftp_server": BOOT_SERVER, "tftp_filename": BOOT_FILE, "vendor_specific": MENU},
    "bare": {},
    "proxied": {
        "proxy": 1, "tftp_server": BOOT_SERVER, "tftp_filename": BOOT_FILE, "tftp_filename--uefi-x64": "snponly.efi",
        "bootfile_url": URL, "domain": "example.org", "router": "10.1.0.99", "lease_time": LEASE_S,
    },
    "named": {"tftp_server": "boot.example.org", "tftp_filename": BOOT_FILE},
    "vips": {"server_id": "10.9.9.9", "tftp_server": "10.9.9.9"},
    "big": {"tftp_filename": BOOT_FILE} | {f"option-{code}": "x" * 90 for code in range(231, 237)},
    "huge": {f"option-{code}": "x" * 90 for code in range(224, 249) if code != 230},
}  # fmt: skip
NETWORKS = [
    {"base": f"10.{second}.0.0", "mask": "255.255.255.0", "gateway": f"10.{second}.0.254"} for second in (1, 2, 3, 4)
]


def mac(name: str) -> int:
    return 0x020000000100 + list(MACHINES).index(name)


def host_file() -> str:
    hosts = [
        {"name": name, "mac": mac(name).to_bytes(6, "big").hex(":"), "addresses": found, "pool": pool}
        for name, (pool, found) in MACHINES.items()
    ]
    pools = [{"name": name, "dhcp": {"enabled": 1} | said} for name, said in POOLS.items()]
    return json.dumps({"networks": NETWORKS, "pools": pools, "hosts": hosts})


@cache
def site() -> Pair:
    return planned(host_file(), WIRES)


def ask(payload: bytes, **place: Any) -> Reply:
    """A broadcast on near, unless said otherwise."""
    where = {"ifindex": 2, "destination": BROADCAST, "local": ip(SERVER)}
    return codec.answer(site(), payload, **(where | place))


def said(payload: bytes, **place: Any) -> Parsed:
    """The reply taken apart; AssertionError with the verdict when there is none."""
    reply = ask(payload, **place)
    assert reply.data, f"silence: {reply.verdict.name}"
    return Parsed.of(reply.data)


def renewing(address: str, to: str = SERVER) -> dict[str, Any]:
    """By unicast from a machine that has its address."""
    return {"source": ip(address), "destination": ip(to), "local": ip(to)}


def through(relay: str, to: str = SERVER) -> dict[str, Any]:
    """By unicast from a relay."""
    return {"source": ip(relay), "source_port": 67, "destination": ip(to), "local": ip(to)}


def vendor(text: str) -> bytes:
    return tlv(60, text.encode())


BIOS = vendor("PXEClient:Arch:00000:UNDI:002001") + tlv(93, b"\0\0") + tlv(94, b"\1\2\1")
UEFI = vendor("PXEClient:Arch:00007:UNDI:003016") + tlv(93, b"\0\7") + tlv(94, b"\1\3\x10")
EBC = vendor("PXEClient:Arch:00009:UNDI:003016") + tlv(93, b"\0\x09")
HTTP = vendor("HTTPClient:Arch:00016:UNDI:003001") + tlv(93, b"\0\x10")
IPXE = BIOS + tlv(77, b"iPXE") + tlv(175, b"\xb1\x05\x01\x1a\xf4\x10\x00\x21\x01\x01")
IPXE_HTTP = BIOS + tlv(77, b"iPXE") + tlv(175, b"\xb1\x05\x01\x1a\xf4\x10\x00\x13\x01\x01")
RASPBERRY = vendor("PXEClient:Arch:00000:UNDI:002001") + tlv(93, b"\0\0") + tlv(97, b"\x00RPi4" + bytes(12))
STAGES = {
    "os": b"", "bios-pxe": BIOS, "uefi-x64": UEFI, "uefi-x64-arch-9": EBC, "http-boot": HTTP, "ipxe": IPXE,
    "ipxe-http": IPXE_HTTP, "raspberry-pi": RASPBERRY,
}  # fmt: skip
