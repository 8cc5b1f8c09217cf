"""ISC dhcpd (Debian's isc-dhcp-server, 4.4): host declarations with fixed addresses, no pool, no lease to write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.peers.peer import Peer, Written
from bench.peers.table import Table

CONFIG, LEASES = "dhcpd.conf", "dhcpd.leases"


class Dhcpd(Peer):
    name, program, package = "dhcpd", "dhcpd", "isc-dhcp-server"
    limits = "receives through a packet socket, also what relays send"

    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        del ifname, folder
        return {CONFIG: "\n".join(_lines(table)) + "\n", LEASES: ""}

    def command(self, written: Written) -> Sequence[str]:
        quiet = ["-f", "-q", "--no-pid"]
        return [self.program, "-4", *quiet, *_places(written), written.ifname]

    def check_command(self, written: Written) -> Sequence[str]:
        return [self.program, "-4", "-t", "-q", *_places(written)]


def _places(written: Written) -> list[str]:
    return ["-cf", str(written.folder / CONFIG), "-lf", str(written.folder / LEASES)]


def _lines(table: Table) -> Iterator[str]:
    yield from (
        "authoritative;",
        "ddns-update-style none;",
        "ping-check off;",
        "log-facility local7;",  # nobody listens there: writing a log is no part of the comparison
        f"default-lease-time {table.lease_s};",
        f"max-lease-time {table.lease_s};",
        f"option dhcp-renewal-time {table.renew_s};",
        f"option dhcp-rebinding-time {table.rebind_s};",
        f"next-server {table.server};",
        f'filename "{table.boot_file}";',
        f'option tftp-server-name "{table.server}";',
        f'option bootfile-name "{table.boot_file}";',
        f"option routers {table.server};",
        f"option broadcast-address {table.network.broadcast_address};",
        "use-host-decl-names on;",
        f"subnet {table.network.network_address} netmask {table.network.netmask} {{ }}",
    )
    for host in table.hosts():
        yield f"host {host.name} {{ hardware ethernet {host.mac}; fixed-address {host.address}; }}"
