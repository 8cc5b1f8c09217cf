"""The site of the captures in Kea's words: the same hosts, networks, options and classes as the host file's."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from bench.lab.lab import Host, LabError, Process
from tests.ext.exchanges import WIRES, host_file

READY_S = 60.0
PORT_67 = re.compile(r"^ *\d+: [0-9A-F]{8}:0043 ", re.MULTILINE)
KEPT_OUT = ("lease_time--bios-pxe",)  # Kea has no other T1 and T2 for a class
SENTINEL, SENTINEL_ADDRESSES = 0x0200000000FE, ("10.88.0.250", "10.77.0.250", "10.96.250.1")  # on every wire


def site() -> dict[str, Any]:
    """The host file of the captures, without what cannot be said to Kea."""
    described: dict[str, Any] = json.loads(host_file())
    for pool in described["pools"]:
        for subkey in KEPT_OUT:
            pool["dhcp"].pop(subkey, None)
    host = {"name": "sentinel", "mac": SENTINEL.to_bytes(6, "big").hex(":"), "addresses": list(SENTINEL_ADDRESSES)}
    described["hosts"].append(host | {"pool": "racks"})
    return described


def option(name: str, data: str) -> dict[str, Any]:
    return {"name": name, "data": data, "always-send": True}


def octets(code: int, value: bytes) -> dict[str, Any]:
    return {"code": code, "data": value.hex(), "csv-format": False, "always-send": True}


def boot(name: str, test: str, file: str, *options: dict[str, Any], url: bool = False) -> dict[str, Any]:
    """A client class with its boot file, in the file field and in 67."""
    said = octets(67, file.encode() + (b"" if url else b"\0"))
    return {"name": name, "test": test, "boot-file-name": file, "option-data": [said, *options]}


def classes(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    server = octets(66, attributes["tftp_server"].encode() + b"\0")
    url, file = attributes["bootfile_url"], attributes["tftp_filename"]
    http = octets(60, b"HTTPClient")
    ipxe, no_proxy = "option[77].hex == 'iPXE'", octets(175, b"\xb0\x01\x01")
    return [
        boot("ipxe-http", f"{ipxe} and option[175].exists", url, server, no_proxy, url=True),
        boot("ipxe-old", f"{ipxe} and not option[175].exists", file, server, no_proxy),
        boot("http", f"not ({ipxe}) and substring(option[60].hex, 0, 10) == 'HTTPClient'", url, http, url=True),
        boot(
            "uefi",
            f"not ({ipxe}) and substring(option[60].hex, 0, 20) == 'PXEClient:Arch:00007'",
            attributes["tftp_filename--uefi-x64"],
            server,
        ),
        boot("others", f"not ({ipxe}) and not member('http') and not member('uefi')", file, server),
    ]


def subnet(number: int, network: dict[str, str], hosts: list[dict[str, Any]]) -> dict[str, Any]:
    net = IPv4Network(f"{network['base']}/{network['mask']}")
    reservations = [
        {"hw-address": host["mac"], "ip-address": address, "hostname": host["name"]}
        for host in hosts
        for address in host["addresses"]
        if IPv4Address(address) in net
    ]
    options = [option("routers", network["gateway"]), option("broadcast-address", str(net.broadcast_address))]
    return {"id": number, "subnet": str(net), "option-data": options, "reservations": reservations}


def configuration(log: Path) -> dict[str, Any]:
    described = site()
    attributes = described["pools"][0]["dhcp"]
    servers = option("domain-name-servers", ", ".join(attributes["name_server"]))
    server = {
        "interfaces-config": {"interfaces": [wire.ifname for wire in WIRES], "dhcp-socket-type": "raw"},
        "multi-threading": {"enable-multi-threading": False},
        "lease-database": {"type": "memfile", "persist": False, "lfc-interval": 0},
        "host-reservation-identifiers": ["hw-address"],
        "reservations-global": False,
        "reservations-in-subnet": True,
        "reservations-out-of-pool": True,
        "match-client-id": False,  # one machine, one address, as here
        "authoritative": True,
        "decline-probation-period": 0,
        "dhcp-ddns": {"enable-updates": False},
        "ddns-send-updates": False,
        "valid-lifetime": attributes["lease_time"],
        "renew-timer": attributes["renewal_time"],
        "rebind-timer": attributes["rebinding_time"],
        "next-server": attributes["tftp_server"],
        "option-def": [{"name": "etherboot", "code": 175, "type": "binary", "space": "dhcp4"}],
        "option-data": [option("domain-name", attributes["domain"]), servers],
        "client-classes": classes(attributes),
        "subnet4": [subnet(i, network, described["hosts"]) for i, network in enumerate(described["networks"], 1)],
        "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": str(log)}]}],
    }
    return {"Dhcp4": server}


@contextmanager
def serving(host: Host, configured: dict[str, Any], log: Path) -> Iterator[Process]:
    """A serving kea-dhcp4 on `host`, stopped at the end.  log: where that says that Kea logs.

    LabError with its log when it does not come up."""
    config = host.scratch / "kea-dhcp4.json"
    config.write_text(json.dumps(configured))
    places = {"KEA_PIDFILE_DIR": str(host.scratch), "KEA_LOCKFILE_DIR": str(host.scratch)}
    kea = host.popen(["kea-dhcp4", "-c", str(config)], env=places)
    try:
        await_socket(host, kea, log)
        yield kea
    finally:
        kea.stop()


def await_socket(host: Host, kea: Process, log: Path) -> None:
    """Its log says nothing at this level: it serves once it has its socket, which it opens last."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and kea.running():
        if PORT_67.search(Path(f"/proc/{host.pid}/net/udp").read_text()):
            return
        time.sleep(0.05)
    said = kea.log() + (log.read_text() if log.exists() else "")
    raise LabError(f"kea-dhcp4: no socket on port 67 within {READY_S:g} s; it said:\n{said}")
