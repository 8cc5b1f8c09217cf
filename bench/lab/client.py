"""What all DHCP clients of a laboratory share: the lease, how to ask for one, and the hook that reports what came.

No client ever runs with its stock hook: ours reports what the client was told through a named pipe, and puts the
address on the interface.  clients.py and networkd.py have the clients themselves.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypedDict, Unpack

from bench.lab.lab import CommandFailed, Host, LabError, Process, which

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
    "qemu-system-x86_64": "qemu-system-x86",
    "dhcping": "dhcping",
    "nmap": "nmap",
    "/usr/lib/klibc/bin/ipconfig": "klibc-utils",
    "/lib/systemd/systemd-networkd": "systemd",
}
STOP_S = 3.0

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
[ "$event:@REFUSES@" != BOUND:yes ]  # a status of 1 makes dhclient decline the address
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
    """What a client was told; "" and 0 where it was told nothing.  `hides`: fields that this client never shows."""

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
    hides: frozenset[str] = frozenset()


class Ask(TypedDict, total=False):
    """How a client shall ask.  Keys that it has no switch for: Unsupported."""

    broadcast: bool  # ask for broadcast replies; default no
    client_id: bool | str  # send its usual one, or none, or this (bytes as hex); default as the client does
    vendor_class: str
    user_class: str
    requested: str  # address to ask for in the DISCOVER
    relay: str  # pose as a relay with this address, which is on the interface
    inform: str  # ADDRESS/BITS that it has: ask for the options only
    arp_check: bool  # probe the address before taking it, and DECLINE when somebody answers; default no
    refuse: bool  # DECLINE whatever is given; default no
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

    def __init__(self, folder: Path, configures: bool, refuses: bool) -> None:
        pipe = folder / "reports"
        os.mkfifo(pipe)
        # Opened for both directions: never blocks, never ends, whether a hook runs at the moment or not.
        self.fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self.script = folder / "hook"
        text = _HOOK.replace("@PIPE@", str(pipe)).replace("@CONFIGURES@", "yes" if configures else "no")
        self.script.write_text(text.replace("@REFUSES@", "yes" if refuses else "no"))
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
    program: ClassVar[str] = ""  # unless it is the name
    hides: ClassVar[frozenset[str]] = frozenset()  # fields of Lease
    takes: ClassVar[frozenset[str]]  # keys of Ask that it has a switch for
    configures: ClassVar[bool] = True  # our hook sets the address
    flag_by_rule: ClassVar[bool] = False  # it has no switch for the broadcast flag
    got: ClassVar[frozenset[str]]  # events that come with a lease
    stop_signal: ClassVar[int] = signal.SIGKILL
    stop_again_s: ClassVar[float | None] = None
    environment: ClassVar[Mapping[str, str]] = {}

    def __init__(self, host: Host, ifname: str, **ask: Unpack[Ask]) -> None:
        if lost := missing(self.program or self.name):
            raise Unsupported(lost)
        if alien := sorted(key for key, value in ask.items() if value and key not in self.takes | {"timeout_s"}):
            raise Unsupported(f"{self.name}: has no switch for {', '.join(alien)}")
        self.host, self.ifname, self.ask = host, ifname, ask
        self.timeout_s = ask.get("timeout_s", 8.0)
        number = sum(1 for _ in host.scratch.glob(f"{self.name}-*"))
        self.folder = host.scratch / f"{self.name}-{number}"
        self.folder.mkdir()
        self._opened = contextlib.ExitStack()
        self._reports = _Reports(self.folder, self.configures, bool(ask.get("refuse")))
        self._opened.callback(self._reports.close)
        try:
            if self.flag_by_rule and ask.get("broadcast"):
                self._opened.enter_context(broadcast_flag(host, ifname))
            started = time.monotonic()
            self.process = host.popen(self.command(), env=self.environment)
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
            hides=self.hides,
        )

    def log(self) -> str:
        return self.process.log()

    def next_lease(self) -> Lease:
        """The lease that it gets next by itself, at T1 or T2."""
        return self._await_lease(time.monotonic())

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


def broadcast_flag(host: Host, ifname: str) -> contextlib.AbstractContextManager[None]:
    """Every DHCP request that leaves `ifname` asks for broadcast replies.  Unsupported where nft can't do it."""
    return _rule(host, ifname, "flag", "ether type ip udp dport 67 @th,144,16 set 0x8000 udp checksum set 0")


def unreachable(host: Host, ifname: str, server: str) -> contextlib.AbstractContextManager[None]:
    """What leaves `ifname` for `server` itself is lost; broadcasts go through.  Unsupported where nft can't do it."""
    return _rule(host, ifname, "lost", f"ether type ip ip daddr {server} udp dport 67 drop")


def deaf(host: Host, ifname: str) -> contextlib.AbstractContextManager[None]:
    """DHCP replies that leave `ifname`, a port of a switch, are lost.  Unsupported where nft can't do it."""
    return _rule(host, ifname, "deaf", "ether type ip udp sport 67 drop")


@contextlib.contextmanager
def _rule(host: Host, ifname: str, name: str, rule: str) -> Iterator[None]:
    if lost := missing("nft"):
        raise Unsupported(lost)
    hook = f'type filter hook egress device "{ifname}" priority 0'
    try:
        host.run(["nft", "-f", "-"], text_in=f"table netdev {name} {{\n chain out {{\n  {hook}\n  {rule}\n }}\n}}\n")
    except CommandFailed as error:
        raise Unsupported(f"nft has no egress hook here: {error}") from error
    try:
        yield
    finally:
        host.run(["nft", "delete", "table", "netdev", name])
