"""Programs that ask a DHCP server once and say what they understood: independent eyes on our answers.

nmap decodes an OFFER by code of its own, dhcping asks as an administrator does, ipconfig is the client of an initramfs.
"""

from __future__ import annotations

import re
import time

from bench.lab.client import Lease, NoLease, Unsupported, missing
from bench.lab.lab import Host

IPCONFIG = "/usr/lib/klibc/bin/ipconfig"


def nmap_discover(host: Host, ifname: str, mac: str, timeout_s: float = 3.0) -> dict[str, str]:
    """Fields of the OFFER to a broadcast DISCOVER, by nmap's names; {} for silence.  Values without their NUL."""
    arguments = f"broadcast-dhcp-discover.mac={mac},broadcast-dhcp-discover.timeout={timeout_s:g}"
    return _nmap(host, ["--script", "broadcast-dhcp-discover", "-e", ifname, "--script-args", arguments])


def nmap_inform(host: Host, server: str) -> dict[str, str]:
    """Fields of the ACK to a unicast INFORM from the host's own address, by nmap's names; {} for silence."""
    return _nmap(host, ["-n", "-Pn", "-sU", "-p67", "--script", "dhcp-discover", server])


def _nmap(host: Host, arguments: list[str]) -> dict[str, str]:
    if lost := missing("nmap"):
        raise Unsupported(lost)
    said = host.run(["nmap", *arguments], timeout=60.0).stdout
    lines = re.findall(r"^\|_? +([A-Z][^:\n]*): (.*)$", said, re.MULTILINE)
    return {name: value.replace("\\x00", "") for name, value in lines if name != "Interface"}


def dhcping(host: Host, address: str, mac: str, server: str, inform: bool = False) -> str:
    """Who answered its REQUEST (followed by a RELEASE) or INFORM from `address`, which the host has; "" for nobody."""
    if lost := missing("dhcping"):
        raise Unsupported(lost)
    argv = ["dhcping", "-v", "-t", "5", *(["-i"] if inform else []), "-c", address, "-h", mac, "-s", server]
    found = re.search(r"Got answer from: (\S+)", host.run(argv, check=False).stdout)
    return found[1] if found else ""


def ipconfig(host: Host, ifname: str, timeout_s: float = 8.0) -> Lease:
    """klibc's client; it sets the address and ends.  NoLease when its time is over."""
    if lost := missing(IPCONFIG):
        raise Unsupported(lost)
    started = time.monotonic()
    argv = [IPCONFIG, "-t", f"{timeout_s:g}", "-c", "dhcp", "-d", ifname]
    done = host.run(argv, timeout=timeout_s + 5.0, check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        raise NoLease(f"{host.name}: ipconfig ended with {done.returncode}", done.stdout + done.stderr)
    told = dict(re.findall(r"^(\w+)='(.*)'$", host.read(f"/run/net-{ifname}.conf"), re.MULTILINE))
    shown = re.search(r"\(dhcp from (\S+)\)", done.stdout)
    return Lease(
        address=told.get("IPV4ADDR", ""),
        mask=told.get("IPV4NETMASK", ""),
        router=told.get("IPV4GATEWAY", ""),
        server_id=shown[1] if shown else "",
        lease_time=int(told.get("DHCPLEASETIME", 0)),
        boot_file=told.get("filename", ""),
        siaddr=told.get("ROOTSERVER", ""),
        hostname=told.get("HOSTNAME", ""),
        domain=told.get("DNSDOMAIN", ""),
        raw=told,
        seconds=seconds,
    )
