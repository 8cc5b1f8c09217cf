"""`bootstorm import`: which format a file has, its reader, the rows of the host file, and what is left out."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from control.importers.build import Build, Rows
from control.importers.dhcpd.assemble import read_dhcpd
from control.importers.dnsmasq.assemble import read_dnsmasq
from control.importers.ethers import read_ethers, read_hosts_file
from control.importers.kea.reader import read_kea
from control.importers.reading import Files, Unreadable, read, text_of
from control.importers.site import Host, Note, Place, Site, Unfit
from control.importers.values import BOOT_FILE, BOOT_SERVER

DHCPD, DNSMASQ, KEA, ETHERS, HOSTS_FILE = "dhcpd", "dnsmasq", "kea", "ethers", "dhcp-hostsfile"
FORMATS: Final = (DHCPD, DNSMASQ, KEA, ETHERS, HOSTS_FILE)
HEAD_CHARS: Final = 1 << 16  # of a file, by which its format is guessed
ETHERS_PATH: Final = Path("/etc/ethers")
_SIGNS: Final = (
    (KEA, re.compile(r"\s*(?:(?:#|//)[^\n]*\s*|/\*.*?\*/\s*)*\{", re.DOTALL), True),
    (
        DHCPD,
        re.compile(r"^\s*(?:subnet|host|group|shared-network|class|option|include|lease)\s[^=\n]*[{;]", re.M),
        False,
    ),
    (
        DNSMASQ,
        re.compile(r"^\s*(?:dhcp-[a-z-]+|conf-file|conf-dir|interface|domain|server|address|port)\s*=", re.M),
        False,
    ),
    (HOSTS_FILE, re.compile(r"^\s*(?:[0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}\s*,", re.M), False),
    (ETHERS, re.compile(r"^\s*(?:[0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}\s+\S+\s*$", re.M), False),
)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says.  server_addresses: of the machine that the old server runs on.  networks: of files
    that name none, or of dnsmasq, where no mask stands."""

    path: Path
    format: str | None = None
    resolve: bool = False
    server_addresses: tuple[IPv4Address, ...] = ()
    networks: tuple[IPv4Network, ...] = ()
    ethers: Path = ETHERS_PATH
    with_classes: bool = False


@dataclass(slots=True)
class Imported:
    format: str
    rows: Rows
    notes: list[Note] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return sum(note.lost for note in self.notes)

    def head(self, path: Path) -> list[str]:
        """Of the host file, as a comment."""
        return [f"Imported by bootstorm from {path.name} ({self.format}); docs/moving.md says how to go on."]

    def configuration(self, hosts: Path | None) -> dict[str, Any]:
        """What services.conf needs to say for it."""
        dhcp: dict[str, Any] = {"classes": self.rows.classes}
        if hosts is not None:
            dhcp = {"api_url": f"file://{hosts.resolve()}".replace("%", "%25"), **dhcp}
        return {"dhcp": dhcp}


class WrongUsage(ValueError):
    """Of the command: what to do instead."""


def guessed(path: Path) -> str:
    """Raises WrongUsage, Unreadable."""
    head = text_of(read(path))[:HEAD_CHARS]
    for name, sign, whole in _SIGNS:
        if sign.match(head) if whole else sign.search(head):
            return name
    raise WrongUsage(f"{path}: its format is not known; --from says it: {', '.join(FORMATS)}")


def import_file(wish: Wish, progress: Progress = lambda _what, _done, _total: None) -> Imported:
    """Raises Unreadable, WrongUsage."""
    name = wish.format or guessed(wish.path)
    if wish.networks and name in (DHCPD, KEA):
        raise WrongUsage(
            f"--network is for files that name no networks or masks; {wish.path} is {name}'s and has its own"
        )
    if wish.server_addresses and name != DNSMASQ:
        raise WrongUsage(f"--server-address is for dnsmasq, which names itself; {wish.path} is {name}'s")
    files = Files(progress)
    try:
        site = read_site(wish, name, files)
    except Unfit as unfit:  # the file is a link to itself, or the like
        raise Unreadable(str(unfit)) from unfit
    remark_names(site)
    if name in (DHCPD, KEA):  # dnsmasq names itself, which its reader knows
        remark_boot_servers(site)
    build = Build(site, wish.with_classes, lambda done, total: progress("hosts", done, total))
    rows = build.build()
    if not site.networks:
        site.notes.lost(Place(str(wish.path), 1), "", "no network is declared: --network ADDRESS/PREFIX names one")
    notes = sorted(site.notes, key=lambda note: (note.place.file, note.place.line))
    return Imported(name, rows, notes)


def read_site(wish: Wish, name: str, files: Files) -> Site:
    """Raises Unreadable, Unfit."""
    resolve = looked_up if wish.resolve else not_looked_up
    if name == DHCPD:
        return read_dhcpd(wish.path, files, resolve)
    if name == DNSMASQ:
        return read_dnsmasq(wish.path, files, resolve, wish.ethers, wish.server_addresses, wish.networks)
    if name == KEA:
        return read_kea(wish.path, files)
    reader = read_ethers if name == ETHERS else read_hosts_file
    return reader(wish.path, files, resolve, wish.networks)


def remark_names(site: Site) -> None:
    """The name of a host is sent as option 12, also where the old server sent none."""
    nameless: list[Host] = [host for host in site.hosts if host.hostname is None]
    if nameless:
        others = f" and {len(nameless) - 1} more" if nameless[1:] else ""
        why = "a host's name is sent as its host name (12), which the old server did not; an installer may go by it"
        site.notes.needless(nameless[0].place, f"host {nameless[0].name}{others}", why)


def remark_boot_servers(site: Site) -> None:
    """ROMs that are told a file and no server ask whoever gave them their address, and that will be another machine."""
    alone = [each for each in site.networks if BOOT_FILE in each.said and BOOT_SERVER not in each.said]
    if any(names_a_file(each.said[BOOT_FILE]) for each in alone):
        others = f" and {len(alone) - 1} more" if alone[1:] else ""
        why = "a boot file and no boot server: ROMs load it from the DHCP server itself, which was the old one; say it"
        site.notes.lost(alone[0].place, f"network {alone[0].network}{others}", why)


def names_a_file(value: Any) -> bool:
    """Of a boot file's value, whether anybody is told something that is no URL."""
    return any(each and "://" not in str(each) for each in (value if isinstance(value, tuple) else (value,)))


def not_looked_up(name: str) -> list[str]:
    raise Unfit(f"{name} is a name; --resolve looks names up")


_KNOWN: dict[str, list[str]] = {}


def looked_up(name: str) -> list[str]:
    """By the resolver of this machine, once a name.  Raises Unfit."""
    if name not in _KNOWN:
        try:
            found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise Unfit(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        _KNOWN[name] = list(dict.fromkeys(str(each[4][0]) for each in found))
    return _KNOWN[name]
