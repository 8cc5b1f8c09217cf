"""Where a load goes, where it comes from, and on whose behalf: the target, and the simulated hosts."""

from __future__ import annotations

import socket
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from bench.engine import sockets
from bench.lab.lab import Host

Mac = str | bytes | int


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes and where it comes from.  host: laboratory host of the generator; None is this machine.

    giaddrs: relays that the hosts stand behind; empty: on the segment of `ifname`, in Ethernet frames."""

    server: str
    giaddrs: tuple[str, ...] = ()
    ifname: str = ""
    host: Host | None = None
    port: int = 67
    own_port: int = 67

    def open(self) -> tuple[socket.socket, dict[str, Any]]:
        """The socket, and what a Wire has to know."""
        known: dict[str, Any] = {"server": int(IPv4Address(self.server)), "port": self.port}
        if self.giaddrs:
            sock = sockets.open_relay(self.giaddrs, self.own_port, self.host)
            return sock, known | {"relays": sockets.numbers(self.giaddrs)}
        if not self.ifname:
            raise ValueError("a target needs giaddrs (behind relays) or ifname (on the segment); it has neither")
        sock, ifindex = sockets.open_segment(self.ifname, self.host)
        mac = sockets.hardware_address(self.server, self.host)
        return sock, known | {"ifindex": ifindex, "server_mac": mac}


@dataclass(frozen=True, slots=True)
class Population:
    """Simulated hosts: MACs, the address that each has to get (0: the first that comes, each its own), its relay."""

    macs: list[bytes]
    addresses: list[int]
    relays: list[int] = field(default_factory=list)

    def arrays(self) -> tuple[bytes, array[int], array[int] | None]:
        """As Wire.set_peers takes them."""
        return b"".join(self.macs), array("I", self.addresses), array("H", self.relays) if self.relays else None


def population(macs: Iterable[Mac], addresses: Sequence[str | int] | None = None, relays: int = 1) -> Population:
    """Hosts, spread over the relays in turn.  ValueError when there are not as many addresses as MACs."""
    known = [mac_bytes(mac) for mac in macs]
    wanted = [0] * len(known) if addresses is None else [int(IPv4Address(address)) for address in addresses]
    if len(wanted) != len(known):
        raise ValueError(f"{len(wanted)} addresses for {len(known)} MACs, wanted as many")
    return Population(known, wanted, [i % relays for i in range(len(known))] if relays > 1 else [])


def mac_bytes(mac: Mac) -> bytes:
    """Six bytes of a MAC in any of its spellings.  ValueError."""
    if isinstance(mac, int):
        return mac.to_bytes(6, "big")
    found = mac if isinstance(mac, bytes) else bytes.fromhex(mac.replace(":", "").replace("-", "").replace(".", ""))
    if len(found) != 6:
        raise ValueError(f"MAC {mac!r} has {len(found)} bytes, wanted 6")
    return found
