"""One site of 50 hosts in the words of dhcpd, dnsmasq and Kea, and each of these servers serving it.

Two networks, one of them behind a relay; two groups; a boot file for each architecture, for iPXE and for HTTP boot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.lab.lab import Host, Process

START_S: Final = 60.0
SERVER, RELAY, ASKER = "10.88.0.1", "10.77.0.1", "10.88.0.2"
SENTINEL: Final = 0x0200000000FE
NEAR_COUNT, FAR_COUNT = 30, 20
RESCUED: Final = {3, 4, 35}  # a group with a boot file of its own
JUMBO: Final = {7, 8, 40}  # a group with an MTU
SEARCH: Final = ("dc1.example.org", "example.org")
DNS: Final = ("10.88.0.3", "10.88.0.4")
BIOS, UEFI, ARM, IPXE, HTTP = (
    "undionly.kpxe", "snponly.efi", "snponly-arm64.efi", "http://10.88.0.9/menu.ipxe", "http://10.88.0.9/shim.efi",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    number: int
    name: str
    mac: str
    address: str

    @property
    def is_far(self) -> bool:
        return self.number >= NEAR_COUNT


def machines() -> Iterator[Machine]:
    for number in range(NEAR_COUNT + FAR_COUNT):
        net = "10.88.0" if number < NEAR_COUNT else "10.77.0"
        yield Machine(number, f"node{number}", f"02:00:00:00:0a:{number:02x}", f"{net}.{100 + number}")
    yield Machine(0, "sentinel", SENTINEL.to_bytes(6, "big").hex(":"), "10.88.0.250")


def groups() -> list[tuple[str, set[int]]]:
    return [("rescue", RESCUED), ("jumbo", JUMBO)]


# --- dhcpd ------------------------------------------------------------------------------------------------------------

_DHCPD = f"""
authoritative; ddns-update-style none; ping-check off; use-host-decl-names on;
default-lease-time 7200; max-lease-time 7200;
option arch code 93 = unsigned integer 16;
option domain-name "{SEARCH[0]}";
option domain-name-servers {", ".join(DNS)};
option domain-search "{'", "'.join(SEARCH)}";
option ntp-servers 10.88.0.5;
class "roms" {{
  match if substring(option vendor-class-identifier, 0, 9) = "PXEClient";
  next-server 10.88.0.9;
  if exists user-class and option user-class = "iPXE" {{ filename "{IPXE}"; }}
  elsif option arch = 00:07 or option arch = 00:09 {{ filename "{UEFI}"; }}
  elsif option arch = 00:0b {{ filename "{ARM}"; }}
  else {{ filename "{BIOS}"; }}
}}
class "http" {{
  match if substring(option vendor-class-identifier, 0, 10) = "HTTPClient";
  option vendor-class-identifier "HTTPClient";
  filename "{HTTP}";
}}
subnet 10.88.0.0 netmask 255.255.255.0 {{ option routers 10.88.0.254; }}
subnet 10.77.0.0 netmask 255.255.255.0 {{ option routers {RELAY}; option ntp-servers 10.77.0.5; }}
"""


def dhcpd_conf(_folder: Path) -> dict[str, str]:
    lines = [_DHCPD]
    said = {"rescue": 'filename "rescue.0";', "jumbo": "option interface-mtu 9000;"}
    for name, members in groups():
        lines.append(f"group {{ {said[name]}")
        lines += [_dhcpd_host(each) for each in machines() if each.number in members and each.name != "sentinel"]
        lines.append("}")
    rest = RESCUED | JUMBO
    lines += [_dhcpd_host(each) for each in machines() if each.number not in rest or each.name == "sentinel"]
    return {"dhcpd.conf": "\n".join(lines), "dhcpd.leases": ""}


def _dhcpd_host(each: Machine) -> str:
    return f"host {each.name} {{ hardware ethernet {each.mac}; fixed-address {each.address}; }}"


def dhcpd(host: Host) -> Process:
    places = ["-cf", f"{host.scratch}/dhcpd.conf", "-lf", f"{host.scratch}/dhcpd.leases"]
    process = host.popen(["dhcpd", "-4", "-f", "-d", "--no-pid", *places, "near"])
    process.wait_for("Server starting service", START_S)
    return process


# --- dnsmasq ----------------------------------------------------------------------------------------------------------

_DNSMASQ = f"""
port=0
no-hosts
no-resolv
bind-interfaces
domain={SEARCH[0]}
dhcp-range=set:rack1,10.88.0.0,static,255.255.255.0,2h
dhcp-range=set:rack2,10.77.0.0,static,255.255.255.0,2h
dhcp-option=tag:rack1,option:router,10.88.0.254
dhcp-option=tag:rack2,option:router,{RELAY}
dhcp-option=option:dns-server,{",".join(DNS)}
dhcp-option=option:domain-search,{",".join(SEARCH)}
dhcp-option=option:ntp-server,10.88.0.5
dhcp-option=tag:rack2,option:ntp-server,10.77.0.5
dhcp-option=tag:jumbo,option:mtu,9000
dhcp-match=set:ipxe,175
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:efi,option:client-arch,9
dhcp-match=set:arm,option:client-arch,11
dhcp-vendorclass=set:http,HTTPClient
dhcp-boot={BIOS},,10.88.0.9
dhcp-boot=tag:efi,tag:!ipxe,{UEFI},,10.88.0.9
dhcp-boot=tag:arm,tag:!ipxe,{ARM},,10.88.0.9
dhcp-boot=tag:ipxe,{IPXE},,10.88.0.9
dhcp-boot=tag:http,{HTTP},,10.88.0.9
dhcp-boot=tag:rescue,rescue.0,,10.88.0.9
dhcp-option=tag:http,option:vendor-class,HTTPClient
dhcp-hostsfile=hosts
"""


def dnsmasq_conf(folder: Path) -> dict[str, str]:
    lines = []
    for each in machines():
        own = (
            "" if each.name == "sentinel" else "".join(f"set:{n}," for n, members in groups() if each.number in members)
        )
        lines.append(f"{each.mac},{own}{each.address},{each.name}")
    text = _DNSMASQ.replace("dhcp-hostsfile=hosts", f"dhcp-hostsfile={folder}/hosts")
    return {"dnsmasq.conf": text, "hosts": "\n".join(lines) + "\n"}


def dnsmasq(host: Host) -> Process:
    argv = ["dnsmasq", "--no-daemon", "--log-dhcp", "--user=root", f"--conf-file={host.scratch}/dnsmasq.conf"]
    process = host.popen([*argv, f"--dhcp-leasefile={host.scratch}/leases", "--interface=near", "--no-ping"])
    process.wait_for("DHCP, static leases only on 10.77", START_S)
    return process


# --- Kea --------------------------------------------------------------------------------------------------------------


def kea_conf(folder: Path) -> dict[str, str]:
    ipxe = "option[77].hex == 'iPXE'"
    subnets = [
        {"id": 1, "subnet": "10.88.0.0/24", "option-data": [_kea_option("routers", "10.88.0.254")]},
        {"id": 2, "subnet": "10.77.0.0/24",
         "option-data": [_kea_option("routers", RELAY), _kea_option("ntp-servers", "10.77.0.5")]},
    ]  # fmt: skip
    for at, subnet in enumerate(subnets):
        subnet["reservations"] = [_kea_host(each) for each in machines() if each.is_far == bool(at)]
    classes = [
        {"name": "ipxe", "test": ipxe, "boot-file-name": IPXE},
        {"name": "http", "test": "substring(option[60].hex,0,10) == 'HTTPClient'", "boot-file-name": HTTP,
         "option-data": [_kea_option("vendor-class-identifier", "HTTPClient")]},
        {"name": "efi", "test": f"not ({ipxe}) and (option[93].hex == 0x0007 or option[93].hex == 0x0009)",
         "boot-file-name": UEFI},
        {"name": "arm", "test": f"not ({ipxe}) and option[93].hex == 0x000b", "boot-file-name": ARM},
        {"name": "bios", "test": "substring(option[60].hex,0,9) == 'PXEClient' "
         "and not (member('ipxe') or member('efi') or member('arm'))", "boot-file-name": BIOS},
    ]  # fmt: skip
    said: dict[str, Any] = {
        "interfaces-config": {"interfaces": ["near"], "dhcp-socket-type": "raw"},
        "lease-database": {"type": "memfile", "persist": False},
        "host-reservation-identifiers": ["hw-address"], "reservations-global": False, "reservations-in-subnet": True,
        "match-client-id": False, "authoritative": True, "valid-lifetime": 7200, "next-server": "10.88.0.9",
        "option-data": [
            _kea_option("domain-name", SEARCH[0]), _kea_option("domain-name-servers", ", ".join(DNS)),
            _kea_option("domain-search", ", ".join(SEARCH)), _kea_option("ntp-servers", "10.88.0.5"),
        ],
        "client-classes": classes, "subnet4": subnets,
        "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": f"{folder}/kea.log"}]}],
    }  # fmt: skip
    return {"kea-dhcp4.conf": json.dumps({"Dhcp4": said}, indent=1)}


def _kea_option(name: str, data: str) -> dict[str, Any]:
    return {"name": name, "data": data}


def _kea_host(each: Machine) -> dict[str, Any]:
    own: dict[str, Any] = {"hw-address": each.mac, "ip-address": each.address, "hostname": each.name}
    if each.name != "sentinel" and each.number in RESCUED:
        own["boot-file-name"] = "rescue.0"
    if each.name != "sentinel" and each.number in JUMBO:
        own["option-data"] = [_kea_option("interface-mtu", "9000")]
    return own


def kea(host: Host) -> Process:
    from tests.netns.kea.site import await_socket

    places = {"KEA_PIDFILE_DIR": str(host.scratch), "KEA_LOCKFILE_DIR": str(host.scratch)}
    process = host.popen(["kea-dhcp4", "-c", f"{host.scratch}/kea-dhcp4.conf"], env=places)
    await_socket(host, process, host.scratch / "kea.log")
    return process


@dataclass(frozen=True)
class OldServer:
    """files: name -> text, the first one is the configuration."""

    program: str
    package: str
    files: Callable[[Path], dict[str, str]]
    start: Callable[[Host], Process]


SERVERS: Final = {
    "dhcpd": OldServer("dhcpd", "isc-dhcp-server", dhcpd_conf, dhcpd),
    "dnsmasq": OldServer("dnsmasq", "dnsmasq-base", dnsmasq_conf, dnsmasq),
    "kea": OldServer("kea-dhcp4", "kea-dhcp4-server", kea_conf, kea),
}
