"""Real DHCP clients and a relay on the hosts of a laboratory (lab.py); each gives back the lease that it was given.

`udhcpc`, `dhclient`, `dhcpcd` and `tiny` (our own, tinyclient.py) return a `Lease` or raise `NoLease`.  The classes
behind them stay running and can renew and release.  A client's memory (lease file, state folder) lives as long as its
host, so a second run on a host starts in INIT-REBOOT.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Unpack

from bench.lab.client import STOP_S, Ask, Client, Lease, NoLease, Unsupported, missing
from bench.lab.lab import Host, LabError, Process

_ROOT = Path(__file__).resolve().parents[2]


class Udhcpc(Client):
    """busybox's client; boot_file is option 67 or else the header's file."""

    name = "udhcpc"
    takes = frozenset({"broadcast", "client_id", "vendor_class", "user_class", "requested", "arp_check"})
    got = frozenset({"bound", "renew"})

    def command(self) -> list[str]:
        tries = max(1, int(self.timeout_s - 1))
        argv = ["udhcpc", "-f", "-n", "-i", self.ifname, "-s", str(self._reports.script), "-T", "1", "-t", str(tries)]
        # Its default list lacks what a boot needs.
        argv += [item for option in ("bootfile", "tftp", "serverid", "lease") for item in ("-O", option)]
        argv += ["-B"] if self.ask.get("broadcast") else []
        client_id = self.ask.get("client_id", True)
        argv += ["-x", f"0x3d:{client_id}"] if isinstance(client_id, str) else [] if client_id else ["-C"]
        argv += ["-V", vendor] if (vendor := self.ask.get("vendor_class")) else []
        argv += ["-x", f"0x4d:{user.encode().hex()}"] if (user := self.ask.get("user_class")) else []
        argv += ["-r", requested] if (requested := self.ask.get("requested")) else []
        return argv + (["-a"] if self.ask.get("arp_check") else [])

    def parse(self, report: Mapping[str, str], seconds: float) -> Lease:
        return Lease(
            address=report.get("ip", ""),
            mask=report.get("subnet", ""),
            router=report.get("router", ""),
            server_id=report.get("serverid", ""),
            lease_time=int(report.get("lease", 0)),
            boot_file=report.get("bootfile") or report.get("boot_file", ""),
            siaddr=report.get("siaddr", ""),
            hostname=report.get("hostname", ""),
            domain=report.get("domain", ""),
            raw=report,
            seconds=seconds,
        )

    def renew(self) -> Lease:
        """Unicast REQUEST to the server now; the new lease."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGUSR1)
        return self._await_lease(started)

    def release(self) -> None:
        """RELEASE; udhcpc then idles until its end."""
        self.process.send_signal(signal.SIGUSR2)
        self.process.wait_for("entering released state", STOP_S)


class Dhclient(Client):
    """ISC's client.  The broadcast flag is set on the way out by an nft rule."""

    name = "dhclient"
    takes = frozenset({"broadcast", "client_id", "vendor_class", "user_class", "relay", "refuse"})
    flag_by_rule = True
    _told = 0  # how much of the log is about leases before the present one
    got = frozenset({"BOUND", "RENEW", "REBIND", "REBOOT"})
    renews_after_s: ClassVar[int | None] = None

    def command(self) -> list[str]:
        lines = [
            "request subnet-mask, routers, domain-name, domain-name-servers, host-name, dhcp-lease-time, "
            "dhcp-server-identifier, tftp-server-name, bootfile-name;"
        ]
        if vendor := self.ask.get("vendor_class"):
            lines.append(f'send vendor-class-identifier "{vendor}";')
        if user := self.ask.get("user_class"):
            lines.append(f'send user-class "{user}";')
        client_id = self.ask.get("client_id")
        if isinstance(client_id, str):
            lines.append(f"send dhcp-client-identifier {bytes.fromhex(client_id).hex(':')};")
        if self.renews_after_s:
            lines += [f"supersede dhcp-renewal-time {self.renews_after_s};", "supersede dhcp-rebinding-time 60;"]
        (self.folder / "conf").write_text("\n".join(lines) + "\n")
        argv = ["dhclient", "-4", "-1", "-d", "-v", "-cf", f"{self.folder}/conf", "-lf", str(_dhclient_memory(self))]
        argv += ["-pf", f"{self.folder}/pid", "-sf", str(self._reports.script)]
        argv += ["-g", relay] if (relay := self.ask.get("relay")) else []
        return argv + (["-i"] if client_id is True else []) + [self.ifname]

    def _await_lease(self, started: float) -> Lease:
        lease = super()._await_lease(started)
        # Its hook runs before it writes the lease file; ended now, it would remember nothing.
        try:
            self.process.wait_for("^bound to ", STOP_S, self._told)
        except LabError as refused:
            raise NoLease(f"{self.host.name}: dhclient did not take its lease", str(refused)) from refused
        self._told = self.process.mark()
        return lease

    def release(self) -> None:
        """End this client, then let `dhclient -r` send the RELEASE of its lease."""
        self.process.stop(signal.SIGKILL)
        argv = [item for item in self.command() if item not in ("-1", "-d")]
        self.host.run([*argv[:-1], "-r", self.ifname], timeout=STOP_S)


class RenewingDhclient(Dhclient):
    """dhclient that renews after some 2 s whatever T1 says; it has no command for it."""

    renews_after_s = 2

    def renew(self) -> Lease:
        """Wait for its next unicast REQUEST to the server; the new lease."""
        return self._await_lease(time.monotonic())


class Dhcpcd(Client):
    """Roy Marples' client.  It shows no siaddr."""

    name = "dhcpcd"
    hides = frozenset({"siaddr"})
    takes = frozenset({"broadcast", "client_id", "vendor_class", "user_class", "inform", "arp_check"})
    configures = False
    got = frozenset({"BOUND", "RENEW", "REBIND", "REBOOT", "INFORM"})
    stop_signal = signal.SIGTERM  # its helper processes outlive a SIGKILL
    stop_again_s = 0.5  # it loses a signal that comes while it forks a helper, right after a lease

    def command(self) -> list[str]:
        client_id = self.ask.get("client_id", True)
        if client_id is False:
            raise Unsupported("dhcpcd: always sends a client identifier, wanted none")
        argv = ["dhcpcd", "-4", "-B", "-L", "--nodelay", "-d", "-f", "/dev/null", "-c", str(self._reports.script)]
        for option in ("tftp_server_name", "bootfile_name", "host_name", "domain_name", "dhcp_server_identifier"):
            argv += ["-o", option]
        argv += ["-J"] if self.ask.get("broadcast") else []
        argv += ["-i", vendor] if (vendor := self.ask.get("vendor_class")) else []
        argv += ["-u", user] if (user := self.ask.get("user_class")) else []
        argv += ["-I", bytes.fromhex(client_id).hex(":")] if isinstance(client_id, str) else []
        argv += [f"--inform={inform}"] if (inform := self.ask.get("inform")) else []
        # Without its ARP check, it does not take the address of --inform, and crashes at the ACK (9.4.1).
        return [*argv, *([] if self.ask.get("arp_check") or self.ask.get("inform") else ["-A"]), self.ifname]

    def renew(self) -> Lease:
        """Unicast REQUEST to the server now; the new lease."""
        started = time.monotonic()
        # Without -4 it looks at another pid file, and starts a second client with the stock hook.
        self.host.run(["dhcpcd", "-4", "-N", self.ifname])
        return self._await_lease(started)

    def rebind(self) -> Lease:
        """Broadcast REQUEST for its address now; the new lease."""
        started = time.monotonic()
        self.host.run(["dhcpcd", "-4", "-n", self.ifname])
        return self._await_lease(started)

    def release(self) -> None:
        """RELEASE; the client ends."""
        self.host.run(["dhcpcd", "-4", "-k", self.ifname])
        self.process.wait(STOP_S)


def udhcpc(host: Host, ifname: str, **ask: Unpack[Ask]) -> Lease:
    with Udhcpc(host, ifname, **ask) as client:
        return client.lease


def dhclient(host: Host, ifname: str, **ask: Unpack[Ask]) -> Lease:
    with Dhclient(host, ifname, **ask) as client:
        return client.lease


def dhcpcd(host: Host, ifname: str, **ask: Unpack[Ask]) -> Lease:
    with Dhcpcd(host, ifname, **ask) as client:
        return client.lease


def tiny(host: Host, ifname: str, **ask: Unpack[Ask]) -> Lease:
    """Our own client, for machines that have no other; it sets no address."""
    argv = [sys.executable, "-m", "bench.lab.tinyclient", ifname, "--timeout", str(ask.get("timeout_s", 8.0))]
    argv += ["--broadcast"] if ask.get("broadcast") else []
    argv += ["--no-client-id"] if ask.get("client_id") is False else []
    argv += ["--vendor-class", vendor] if (vendor := ask.get("vendor_class")) else []
    done = host.run(argv, timeout=ask.get("timeout_s", 8.0) + 5.0, check=False, env={"PYTHONPATH": str(_ROOT)})
    if done.returncode != 0:
        raise NoLease(f"{host.name}: tinyclient ended with {done.returncode}", done.stdout + done.stderr)
    told = json.loads(done.stdout)
    return Lease(**told, raw={key: str(value) for key, value in told.items()})


def _dhclient_memory(client: Dhclient) -> Path:
    path = client.host.scratch / f"dhclient.{client.ifname}.leases"
    path.touch()
    return path


def dhclient_remembers(host: Host, ifname: str, address: str, mask: str = "255.255.255.0") -> None:
    """Let dhclient believe that it has a lease of `address`: its next run asks for it in INIT-REBOOT."""
    lease = f"""lease {{
  interface "{ifname}";
  fixed-address {address};
  option subnet-mask {mask};
  option dhcp-lease-time 7200;
  renew 0 2037/01/04 00:00:00;
  rebind 0 2037/01/04 00:00:00;
  expire 0 2037/01/04 00:00:00;
}}
"""
    (host.scratch / f"dhclient.{ifname}.leases").write_text(lease)


@contextlib.contextmanager
def dhcrelay(
    host: Host, down_if: str, up_if: str, server: str, option82: bool = False, select: bool = False
) -> Iterator[Process]:
    """ISC's relay between two interfaces, from the moment when it listens.

    option82: it adds the interface's name.  select: its giaddr is its address on the server's side, and link selection
    (RFC 3527) says where the client is; implies option 82."""
    if lost := missing("dhcrelay"):
        raise Unsupported(lost)
    argv = ["dhcrelay", "-4", "-d", "--no-pid", "-iu", up_if, "-id", down_if]
    argv += (["-a"] if option82 or select else []) + (["-U", up_if] if select else [])
    relay = host.popen([*argv, server])
    try:
        relay.wait_for(r"^Sending on +Socket/", 5.0)  # the last thing that it says before it serves
        yield relay
    finally:
        relay.stop()
