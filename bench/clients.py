"""Real DHCP clients and a relay on the hosts of a laboratory (lab.py); each gives back the lease that it was given.

`udhcpc`, `dhclient`, `dhcpcd` and `tiny` (our own, tinyclient.py) return a `Lease` or raise `NoLease`.  The classes
behind them stay running and can renew and release.  A client's memory (lease file, state folder) lives as long as its
host, so a second run on a host starts in INIT-REBOOT.  No client ever runs with its stock hook: ours reports what the
client was told through a named pipe, and puts the address on the interface.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypedDict, Unpack

from bench.lab import CommandFailed, Host, LabError, Process, which

# Program -> the Debian package that has it.
PACKAGES = {
    "udhcpc": "udhcpc",
    "dhclient": "isc-dhcp-client",
    "dhcpcd": "dhcpcd5",
    "dhcrelay": "isc-dhcp-relay",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "ethtool": "ethtool",
    "tcpdump": "tcpdump",
}
STOP_S = 3.0
_ROOT = Path(__file__).resolve().parent.parent

# What a report ends with: the empty string after the last variable's own end.
_REPORT_END = b"\0\0"
_HOOK = r"""#!/bin/sh
# udhcpc calls with the event as $1, dhclient and dhcpcd with it in $reason.  dhcpcd sets addresses by itself.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export event="${reason:-$1}"
address=${ip:-$new_ip_address} mask=${mask:-$new_subnet_mask} router=${router:-$new_routers}
case $event:@CONFIGURES@ in
    bound:yes|renew:yes|BOUND:yes|RENEW:yes|REBIND:yes|REBOOT:yes)
        case $(ip -4 address show dev "$interface") in
            *"inet $address/"*) ;;
            *) ip -4 address flush dev "$interface"; ip address add "$address/${mask:-32}" dev "$interface" ;;
        esac
        [ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface" ;;
    deconfig:yes|EXPIRE:yes|RELEASE:yes|FAIL:yes|STOP:yes)
        ip -4 address flush dev "$interface" ;;
esac
{ env -0; printf '\0'; } > '@PIPE@'
"""

# Sets the BOOTP broadcast flag of whatever leaves for port 67: dhclient has no switch for it.  The checksum goes, as
# the kernel can't repair it here.
_FLAG_RULES = """table netdev bootstorm_flag {
    chain out {
        type filter hook egress device "@IF@" priority 0
        ether type ip udp dport 67 @th,144,16 set 0x8000 udp checksum set 0
    }
}
"""


class NoLease(LabError):
    """A client ended, or its time was over, without the lease that was wanted."""

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(f"{reason}; the client said:\n{log}")
        self.reason, self.log = reason, log


class Unsupported(LabError):
    """This machine can't do what was asked of a client (a missing program or kernel feature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a client was told; "" and 0 where it was told nothing or does not show it."""

    address: str
    mask: str = ""
    router: str = ""
    server_id: str = ""
    lease_time: int = 0
    boot_file: str = ""
    siaddr: str = ""
    hostname: str = ""
    domain: str = ""
    raw: Mapping[str, str]
    seconds: float


class Ask(TypedDict, total=False):
    """How a client shall ask.  Keys that it has no switch for: Unsupported."""

    broadcast: bool  # ask for broadcast replies; default no
    client_id: bool  # send the client identifier that it sends by itself; default as the client does
    vendor_class: str
    arp_check: bool  # probe the address before taking it, and DECLINE when somebody answers; default no
    timeout_s: float  # until NoLease; default 8


def missing(*programs: str) -> str | None:
    """None when all are installed, else which Debian packages to install."""
    lost = [
        f"{program} is not installed (Debian package {PACKAGES[program]})"
        for program in programs
        if not available(program)
    ]
    return "; ".join(lost) or None


def available(program: str) -> bool:
    return which(program) is not None


class _Reports:
    """Our hook script for one client, and the named pipe through which it tells every event."""

    def __init__(self, folder: Path, configures: bool) -> None:
        pipe = folder / "reports"
        os.mkfifo(pipe)
        # Opened for both directions: never blocks, never ends, whether a hook runs at the moment or not.
        self.fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self.script = folder / "hook"
        self.script.write_text(
            _HOOK.replace("@PIPE@", str(pipe)).replace("@CONFIGURES@", "yes" if configures else "no")
        )
        self.script.chmod(0o755)
        self._bytes = b""

    def next(self, until: float, process: Process) -> dict[str, str] | None:
        """The next report; None when monotonic time `until` is reached or the client has ended."""
        with contextlib.ExitStack() as opened:
            watched = [self.fd]
            if process.running():
                watched.append(os.pidfd_open(process.pid))
                opened.callback(os.close, watched[1])
            while _REPORT_END not in self._bytes:
                ready = select.select(watched, [], [], max(0.0, until - time.monotonic()))[0]
                if self.fd not in ready:
                    return None
                self._bytes += os.read(self.fd, 65536)
        report, self._bytes = self._bytes.split(_REPORT_END, 1)
        return dict(item.split("=", 1) for item in report.decode(errors="replace").split("\0") if "=" in item)

    def close(self) -> None:
        os.close(self.fd)


class Client:
    """A running DHCP client; a context manager that ends it (without a RELEASE, as a power cut would)."""

    name: ClassVar[str]
    configures: ClassVar[bool] = True  # our hook sets the address
    flag_by_rule: ClassVar[bool] = False  # it has no switch for the broadcast flag
    got: ClassVar[frozenset[str]]  # events that come with a lease
    stop_signal: ClassVar[int] = signal.SIGKILL
    stop_again_s: ClassVar[float | None] = None

    def __init__(self, host: Host, ifname: str, **ask: Unpack[Ask]) -> None:
        if lost := missing(self.name):
            raise Unsupported(lost)
        self.host, self.ifname, self.ask = host, ifname, ask
        self.timeout_s = ask.get("timeout_s", 8.0)
        number = sum(1 for _ in host.scratch.glob(f"{self.name}-*"))
        self.folder = host.scratch / f"{self.name}-{number}"
        self.folder.mkdir()
        self._opened = contextlib.ExitStack()
        self._reports = _Reports(self.folder, self.configures)
        self._opened.callback(self._reports.close)
        try:
            if self.flag_by_rule and ask.get("broadcast"):
                self._opened.enter_context(broadcast_flag(host, ifname))
            started = time.monotonic()
            self.process = host.popen(self.command())
            self._opened.callback(lambda: self.process.stop(self.stop_signal, STOP_S, self.stop_again_s))
            self.lease = self._await_lease(started)
        except BaseException:
            self._opened.close()
            raise

    def command(self) -> list[str]:
        """The program's arguments; whatever it needs in self.folder is written here."""
        raise NotImplementedError

    def parse(self, report: Mapping[str, str], seconds: float) -> Lease:
        """Lease of a report; the default reads the names that dhclient and dhcpcd share."""
        return Lease(
            address=report.get("new_ip_address", ""),
            mask=report.get("new_subnet_mask", ""),
            router=report.get("new_routers", ""),
            server_id=report.get("new_dhcp_server_identifier", ""),
            lease_time=int(report.get("new_dhcp_lease_time", 0)),
            boot_file=report.get("new_bootfile_name") or report.get("new_filename", ""),
            siaddr=report.get("new_next_server", ""),
            hostname=report.get("new_host_name", ""),
            domain=report.get("new_domain_name", ""),
            raw=report,
            seconds=seconds,
        )

    def log(self) -> str:
        return self.process.log()

    def _await_lease(self, started: float) -> Lease:
        until = time.monotonic() + self.timeout_s
        seen = []
        while (report := self._reports.next(until, self.process)) is not None:
            if report["event"] in self.got:
                return self.parse(report, time.monotonic() - started)
            seen.append(report["event"])
        how = "went on" if self.process.running() else f"ended with {self.process.wait(STOP_S)}"
        took = time.monotonic() - started
        raise NoLease(f"{self.host.name}: {self.name} {how} after {took:.1f} s and events {seen}, no lease", self.log())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


class Udhcpc(Client):
    """busybox's client; boot_file is option 67 or else the header's file."""

    name = "udhcpc"
    got = frozenset({"bound", "renew"})

    def command(self) -> list[str]:
        tries = max(1, int(self.timeout_s - 1))
        argv = ["udhcpc", "-f", "-n", "-i", self.ifname, "-s", str(self._reports.script), "-T", "1", "-t", str(tries)]
        # Its default list lacks what a boot needs.
        argv += [item for option in ("bootfile", "tftp", "serverid", "lease") for item in ("-O", option)]
        argv += ["-B"] if self.ask.get("broadcast") else []
        argv += [] if self.ask.get("client_id", True) else ["-C"]
        argv += ["-V", vendor] if (vendor := self.ask.get("vendor_class")) else []
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
    flag_by_rule = True
    _told = 0  # how much of the log is about leases before the present one
    got = frozenset({"BOUND", "RENEW", "REBIND", "REBOOT"})
    renews_after_s: ClassVar[int | None] = None

    def command(self) -> list[str]:
        if self.ask.get("arp_check"):
            raise Unsupported("dhclient: probes no address, wanted arp_check")
        lines = [
            "request subnet-mask, routers, domain-name, domain-name-servers, host-name, dhcp-lease-time, "
            "dhcp-server-identifier, tftp-server-name, bootfile-name;"
        ]
        if vendor := self.ask.get("vendor_class"):
            lines.append(f'send vendor-class-identifier "{vendor}";')
        if self.renews_after_s:
            lines += [f"supersede dhcp-renewal-time {self.renews_after_s};", "supersede dhcp-rebinding-time 60;"]
        (self.folder / "conf").write_text("\n".join(lines) + "\n")
        argv = ["dhclient", "-4", "-1", "-d", "-v", "-cf", f"{self.folder}/conf", "-lf", str(_dhclient_memory(self))]
        argv += ["-pf", f"{self.folder}/pid", "-sf", str(self._reports.script)]
        return argv + (["-i"] if self.ask.get("client_id") else []) + [self.ifname]

    def _await_lease(self, started: float) -> Lease:
        lease = super()._await_lease(started)
        # Its hook runs before it writes the lease file; ended now, it would remember nothing.
        self.process.wait_for("^bound to ", STOP_S, self._told)
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
    configures = False
    got = frozenset({"BOUND", "RENEW", "REBIND", "REBOOT", "INFORM"})
    stop_signal = signal.SIGTERM  # its helper processes outlive a SIGKILL
    stop_again_s = 0.5  # it loses a signal that comes while it forks a helper, right after a lease

    def command(self) -> list[str]:
        if self.ask.get("client_id") is False:
            raise Unsupported("dhcpcd: always sends a client identifier, wanted none")
        argv = ["dhcpcd", "-4", "-B", "-L", "--nodelay", "-d", "-f", "/dev/null", "-c", str(self._reports.script)]
        for option in ("tftp_server_name", "bootfile_name", "host_name", "domain_name", "dhcp_server_identifier"):
            argv += ["-o", option]
        argv += ["-J"] if self.ask.get("broadcast") else []
        argv += ["-i", vendor] if (vendor := self.ask.get("vendor_class")) else []
        return [*argv, *([] if self.ask.get("arp_check") else ["-A"]), self.ifname]

    def renew(self) -> Lease:
        """Unicast REQUEST to the server now; the new lease."""
        started = time.monotonic()
        # Without -4 it looks at another pid file, and starts a second client with the stock hook.
        self.host.run(["dhcpcd", "-4", "-N", self.ifname])
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
    argv = [sys.executable, "-m", "bench.tinyclient", ifname, "--timeout", str(ask.get("timeout_s", 8.0))]
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
def broadcast_flag(host: Host, ifname: str) -> Iterator[None]:
    """Every DHCP request that leaves `ifname` asks for broadcast replies.  Unsupported where nft can't do it."""
    if lost := missing("nft"):
        raise Unsupported(lost)
    try:
        host.run(["nft", "-f", "-"], text_in=_FLAG_RULES.replace("@IF@", ifname))
    except CommandFailed as error:
        raise Unsupported(f"nft can't rewrite flags here: {error}") from error
    try:
        yield
    finally:
        host.run(["nft", "delete", "table", "netdev", "bootstorm_flag"])


@contextlib.contextmanager
def dhcrelay(host: Host, down_if: str, up_if: str, server: str, option82: bool = False) -> Iterator[Process]:
    """ISC's relay between two interfaces, from the moment when it listens; `option82` adds the interface's name."""
    if lost := missing("dhcrelay"):
        raise Unsupported(lost)
    argv = ["dhcrelay", "-4", "-d", "--no-pid", "-iu", up_if, "-id", down_if, *(["-a"] if option82 else []), server]
    relay = host.popen(argv)
    try:
        relay.wait_for(r"^Sending on +Socket/", 5.0)  # the last thing that it says before it serves
        yield relay
    finally:
        relay.stop()
