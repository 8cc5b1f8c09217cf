"""coredhcp (Debian's coredhcp-server): its plugins answer in the order in which they stand in the configuration.

`file` stands before `nbp`, because `nbp` ends the chain: behind it `file` is never asked, and every reply says 0.0.0.0.
In Debian's version (2022) `file` ends the chain as well, so a host with a static address is never told what to boot;
`nbp` stays in the configuration for versions where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from bench.peers.peer import Peer, Written
from bench.peers.table import Table

CONFIG, HOSTS = "config.yml", "hosts"


class Coredhcp(Peer):
    name, program, package = "coredhcp", "coredhcp", "coredhcp-server"
    boots = False
    limits = "says no boot file beside a static address, no host name, no broadcast address, no T1 and T2"

    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        plugins = [
            {"lease_time": f"{table.lease_s}s"},
            {"server_id": str(table.server)},
            {"router": str(table.server)},
            {"netmask": str(table.network.netmask)},
            {"file": str(folder / HOSTS)},
            {"nbp": f"tftp://{table.server}{table.boot_file}"},
        ]
        server = {"listen": [f"%{ifname}"], "plugins": plugins}
        hosts = "".join(f"{host.mac} {host.address}\n" for host in table.hosts())
        return {CONFIG: yaml.safe_dump({"server4": server}, sort_keys=False), HOSTS: hosts}

    def command(self, written: Written) -> Sequence[str]:
        return [self.program, "--conf", str(written.folder / CONFIG), "--loglevel", "error"]
