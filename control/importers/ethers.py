"""ethers(5) by itself: a MAC address, and a name or an address on each line; networks are told by who imports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from control.importers.dnsmasq.assemble import Assembly
from control.importers.dnsmasq.lines import plain_lines
from control.importers.dnsmasq.reader import Range, Reader
from control.importers.dnsmasq.values import USUAL_LEASE_S
from control.importers.kinds import Kinds
from control.importers.reading import Files
from control.importers.site import NOWHERE, Notes, Site

Resolve = Callable[[str], "list[str] | tuple[str, ...]"]


def read_ethers(path: Path, files: Files, resolve: Resolve, networks: Sequence[IPv4Network]) -> Site:
    """Raises Unreadable."""
    return _site(path, files, resolve, networks, is_hosts_file=False)


def read_hosts_file(path: Path, files: Files, resolve: Resolve, networks: Sequence[IPv4Network]) -> Site:
    """A dhcp-hostsfile of dnsmasq by itself.  Raises Unreadable."""
    return _site(path, files, resolve, networks, is_hosts_file=True)


def _site(path: Path, files: Files, resolve: Resolve, networks: Sequence[IPv4Network], *, is_hosts_file: bool) -> Site:
    notes = Notes()
    reader = Reader(files, notes, resolve, path, [])
    reader.dns = False
    for network in networks:
        reader.ranges.append(Range(NOWHERE, str(network), network, None, USUAL_LEASE_S))
    if is_hosts_file:
        reader.read_hosts(path)
    else:
        for text, place in plain_lines(files, path):
            reader.read_ethers_line(text, place)
    assembly = Assembly(reader, Kinds(), notes)
    assembly.tells_defaults = False
    return assembly.site()
