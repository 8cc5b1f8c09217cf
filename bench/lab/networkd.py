"""systemd-networkd as a DHCP client on a host of a laboratory; it runs without systemd, udev and D-Bus.

Its lease is read from the file that it keeps for its neighbours.  It shows no boot file.
"""

from __future__ import annotations

import signal
import time
from typing import ClassVar, Unpack

from bench.lab.client import STOP_S, Ask, Client, Lease, NoLease, Unsupported
from bench.lab.lab import Host, LabError

_CONFIGURATION = """[Match]
Name={ifname}
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
UseDNS=no
{lines}
"""


class Networkd(Client):
    """systemd's client.  Its client identifier is a DUID by itself, and hardware type and MAC with client_id="mac"."""

    name = "systemd-networkd"
    hides = frozenset({"boot_file"})
    program = "/lib/systemd/systemd-networkd"
    takes = frozenset({"broadcast", "client_id", "vendor_class", "user_class"})
    stop_signal = signal.SIGKILL
    environment: ClassVar = {"SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_LOG_TARGET": "console", "SYSTEMD_LOG_COLOR": "0"}
    _told = 0

    def command(self) -> list[str]:
        if int(self.host.read("/proc/self/uid_map").split()[2]) == 1:
            raise Unsupported(f"{self.name}: becomes a user of its own, and this user namespace has no second one")
        lines = ["SendRelease=yes"]
        lines += ["RequestBroadcast=yes"] if self.ask.get("broadcast") else []
        lines += [f"VendorClassIdentifier={vendor}"] if (vendor := self.ask.get("vendor_class")) else []
        lines += [f"UserClass={user}"] if (user := self.ask.get("user_class")) else []
        lines += [f"ClientIdentifier={kind}"] if isinstance(kind := self.ask.get("client_id"), str) else []
        text = _CONFIGURATION.format(ifname=self.ifname, lines="\n".join(lines))
        folder = "/run/systemd/network"
        self.host.run(["mkdir", "-p", folder])
        self.host.run(["tee", f"{folder}/{self.ifname}.network"], text_in=text)
        return [self.program]

    def _await_lease(self, started: float) -> Lease:
        # Its file is written after the ACK, and before it calls the interface configured.
        last = "DHCPv4 address and routes set" if self._told else "State changed: .* -> configured"
        try:
            self.process.wait_for(rf"(?s:DHCPv4 client: ACK$.*^){self.ifname}: {last}", self.timeout_s, self._told)
        except LabError as silence:
            took = time.monotonic() - started
            raise NoLease(f"{self.host.name}: {self.name} has no lease after {took:.1f} s", str(silence)) from silence
        seconds = time.monotonic() - started
        self._told = self.process.mark()
        number = self.host.read(f"/sys/class/net/{self.ifname}/ifindex").strip()
        text = self.host.read(f"/run/systemd/netif/leases/{number}")
        told = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return Lease(
            address=told.get("ADDRESS", ""),
            mask=told.get("NETMASK", ""),
            router=told.get("ROUTER", ""),
            server_id=told.get("SERVER_ADDRESS", ""),
            lease_time=int(told.get("LIFETIME", 0)),
            siaddr=told.get("NEXT_SERVER", ""),
            hostname=told.get("HOSTNAME", ""),
            domain=told.get("DOMAINNAME", ""),
            raw=told,
            seconds=seconds,
            hides=self.hides,
        )

    def release(self) -> None:
        """RELEASE; it ends."""
        self.process.stop(signal.SIGTERM, STOP_S)


def networkd(host: Host, ifname: str, **ask: Unpack[Ask]) -> Lease:
    with Networkd(host, ifname, **ask) as client:
        return client.lease
