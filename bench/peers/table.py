"""The hosts that every server of a comparison gets, and what each of them has to be told: one table for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from bench.lab.site import many_hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine: name, MAC with colons, address."""

    name: str
    mac: str
    address: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`count` hosts, MACs and addresses counted up; one network and one boot server, which is the DHCP server itself.

    All get options 1, 3, 51, 54, 66, 67 and siaddr; 12, 28, 58, 59 and 61 from the servers that can."""

    count: int
    network: IPv4Network
    server: IPv4Address
    first_mac: int
    first_address: int
    boot_file: str = "/pxelinux.0"
    lease_s: int = 3600
    renew_s: int = 1600
    rebind_s: int = 3150

    def hosts(self) -> Iterator[Host]:
        for i in range(self.count):
            mac = (self.first_mac + i).to_bytes(6, "big").hex(":")
            yield Host(name=f"node{i:06d}", mac=mac, address=IPv4Address(self.first_address + i))

    def host_file(self) -> str:
        """The same as a file for our own inventory."""
        base = f"{self.network.network_address}/{self.network.netmask}/{self.server}"
        return many_hosts(self.count, base, self.first_address, self.first_mac)
