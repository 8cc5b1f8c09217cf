"""Kea (Debian's kea-dhcp4-server, 2.2): static hosts only, set up to be as fast as its manual allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers.peer import Peer, Written
from bench.peers.table import Table

CONFIG = "kea-dhcp4.json"


class Kea(Peer):
    name, program, package = "kea", "kea-dhcp4", "kea-dhcp4-server"

    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        return {CONFIG: json.dumps(configuration(table, ifname, folder / "kea.log"))}

    def command(self, written: Written) -> Sequence[str]:
        return [self.program, "-c", str(written.folder / CONFIG)]

    def check_command(self, written: Written) -> Sequence[str]:
        return [self.program, "-t", str(written.folder / CONFIG)]

    def environment(self, written: Written) -> dict[str, str]:
        return {"KEA_PIDFILE_DIR": str(written.folder), "KEA_LOCKFILE_DIR": str(written.folder)}


def configuration(table: Table, ifname: str, log: Path) -> dict[str, Any]:
    """One network without a pool.  Replies hold what ours do: 1, 3, 12, 28, 51, 54, 58, 59, 61, 66, 67, siaddr, file.

    log: file for its warnings."""
    server = str(table.server)
    options = {
        "routers": server,
        "broadcast-address": str(table.network.broadcast_address),
        "tftp-server-name": server,
        "boot-file-name": table.boot_file,
    }
    reservations = [
        {"hw-address": host.mac, "ip-address": str(host.address), "hostname": host.name} for host in table.hosts()
    ]
    dhcp4 = {
        "interfaces-config": {"interfaces": [ifname], "dhcp-socket-type": "udp"},  # relayed only: no raw sockets
        "multi-threading": {"enable-multi-threading": False},  # one core; its threads cost more than they bring there
        "lease-database": {"type": "memfile", "persist": False, "lfc-interval": 0},
        "host-reservation-identifiers": ["hw-address"],
        "reservations-global": False,
        "reservations-in-subnet": True,
        "reservations-out-of-pool": True,  # no look-up of a dynamic address on the way
        "statistic-default-sample-count": 0,
        "dhcp-ddns": {"enable-updates": False},
        "ddns-send-updates": False,
        "valid-lifetime": table.lease_s,
        "renew-timer": table.renew_s,
        "rebind-timer": table.rebind_s,
        "next-server": server,
        "boot-file-name": table.boot_file,
        "option-data": [{"name": name, "data": data, "always-send": True} for name, data in options.items()],
        "subnet4": [{"id": 1, "subnet": str(table.network), "reservations": reservations}],
        "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": str(log)}]}],
    }
    return {"Dhcp4": dhcp4}
