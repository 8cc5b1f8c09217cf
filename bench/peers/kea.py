"""Kea 2.2 (Debian's kea-dhcp4-server) as a rival: static hosts only, set up to be as fast as its manual allows."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from bench.lab import Host, LabError, Process

READY_S = 60.0
PORT_67 = re.compile(r"^ *\d+: [0-9A-F]{8}:0043 ", re.MULTILINE)


def configuration(host_file: str, ifname: str, network: IPv4Network, log: Path) -> dict[str, Any]:
    """Kea's configuration for a host file as `bench.site.many_hosts` writes it: one network, one pool.

    The replies hold the same options as ours: 1, 3, 12, 28, 51, 54, 58, 59, 61, 66, 67, siaddr and file."""
    site = json.loads(host_file)
    attributes, gateway = site["pools"][0]["dhcp"], site["networks"][0]["gateway"]
    boot = {"tftp-server-name": attributes["tftp_server"], "boot-file-name": attributes["tftp_filename"]}
    options = {"routers": gateway, "broadcast-address": str(network.broadcast_address)} | boot
    reservations = [
        {"hw-address": host["mac"], "ip-address": host["addresses"][0], "hostname": host["name"]}
        for host in site["hosts"]
    ]
    subnet = {"id": 1, "subnet": str(network), "reservations": reservations}
    server = {
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
        "valid-lifetime": 3600,
        "renew-timer": 1600,
        "rebind-timer": 3150,
        "next-server": attributes["tftp_server"],
        "boot-file-name": attributes["tftp_filename"],
        "option-data": [{"name": name, "data": data, "always-send": True} for name, data in options.items()],
        "subnet4": [subnet],
        "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": str(log)}]}],
    }
    return {"Dhcp4": server}


@contextmanager
def running_kea(host: Host, host_file: str, ifname: str, network: IPv4Network) -> Iterator[Process]:
    """A serving kea-dhcp4 on `host`, stopped at the end.  LabError with its log when it does not come up."""
    log = host.scratch / "kea.log"
    with serving(host, configuration(host_file, ifname, network, log), log) as kea:
        yield kea


@contextmanager
def serving(host: Host, configured: dict[str, Any], log: Path) -> Iterator[Process]:
    """The same with a configuration of one's own.  log: where that says that Kea logs."""
    config = host.scratch / "kea-dhcp4.json"
    config.write_text(json.dumps(configured))
    places = {"KEA_PIDFILE_DIR": str(host.scratch), "KEA_LOCKFILE_DIR": str(host.scratch)}
    kea = host.popen(["kea-dhcp4", "-c", str(config)], env=places)
    try:
        _await_socket(host, kea, log)
        yield kea
    finally:
        kea.stop()


def _await_socket(host: Host, kea: Process, log: Path) -> None:
    """Its log says nothing at this level: it serves once it has its socket, which it opens last."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and kea.running():
        if PORT_67.search(Path(f"/proc/{host.pid}/net/udp").read_text()):
            return
        time.sleep(0.05)
    said = kea.log() + (log.read_text() if log.exists() else "")
    raise LabError(f"kea-dhcp4: no socket on port 67 within {READY_S:g} s; it said:\n{said}")
