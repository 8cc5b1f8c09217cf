"""dnsmasq (Debian's dnsmasq-base, 2.90): a static range, hosts from a file, no DNS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.peers.peer import Peer, Written
from bench.peers.table import Table

CONFIG, HOSTS, LEASES = "dnsmasq.conf", "hosts", "leases"


class Dnsmasq(Peer):
    name, program, package = "dnsmasq", "dnsmasq", "dnsmasq-base"
    usual_rate = 500.0
    limits = "looks through its list of hosts for every packet"

    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        base, mask = table.network.network_address, table.network.netmask
        lines = [
            "port=0",
            "no-hosts",
            "no-resolv",
            "user=root",
            "log-facility=/dev/null",
            f"pid-file={folder / 'pid'}",
            f"dhcp-leasefile={folder / LEASES}",
            f"dhcp-lease-max={table.count}",
            "dhcp-authoritative",
            "no-ping",
            "quiet-dhcp",
            f"interface={ifname}",
            "bind-interfaces",
            f"dhcp-range={base},static,{mask},{table.lease_s}",
            f"dhcp-hostsfile={folder / HOSTS}",
            f"dhcp-boot={table.boot_file},{table.server},{table.server}",  # 66, 67 and siaddr
            f"dhcp-option=3,{table.server}",
        ]
        hosts = [f"{host.mac},{host.address},{host.name}" for host in table.hosts()]
        return {CONFIG: "\n".join(lines) + "\n", HOSTS: "\n".join(hosts) + "\n"}

    def command(self, written: Written) -> Sequence[str]:
        return [self.program, "--keep-in-foreground", f"--conf-file={written.folder / CONFIG}"]

    def check_command(self, written: Written) -> Sequence[str]:
        return [self.program, "--test", f"--conf-file={written.folder / CONFIG}"]
