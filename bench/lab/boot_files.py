"""The servers that boot files come from: dnsmasq for TFTP (its DHCP is off) and Python's HTTP server.

Both serve one folder and log each file with the address that it went to.  An announcement of an IPv6 router comes with
them: iPXE waits 13 s for one before it fetches anything.  `announcing` makes one on another segment.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.lab.client import Unsupported, missing
from bench.lab.lab import Host

READY_S = 20.0
SENT_S = 5.0
PROVIDERS = {  # file -> where Debian puts it, and the package
    "pxelinux.0": ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
    "ldlinux.c32": ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
    "libcom32.c32": ("/usr/lib/syslinux/modules/bios/libcom32.c32", "syslinux-common"),
    "reboot.c32": ("/usr/lib/syslinux/modules/bios/reboot.c32", "syslinux-common"),
    "undionly.kpxe": ("/usr/lib/ipxe/undionly.kpxe", "ipxe"),
    "snponly.efi": ("/usr/lib/ipxe/snponly.efi", "ipxe"),
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that went out whole (TFTP), or was asked for with success (HTTP)."""

    protocol: str
    file: str
    address: str


def _announcer(host: Host, ifname: str, prefix: str) -> list[str]:
    """A dnsmasq that announces an IPv6 router on the interface, which gets an address for it."""
    if lost := missing("dnsmasq"):
        raise Unsupported(lost)
    host.sysctl(f"net/ipv6/conf/{ifname}/disable_ipv6", 0)
    host.ip(f"address replace {prefix}1/64 dev {ifname}")
    argv = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0", "--user=root"]
    argv += ["--log-facility=-", "--dhcp-leasefile=/dev/null", f"--interface={ifname}", "--bind-interfaces"]
    return [*argv, "--enable-ra", f"--ra-param={ifname},5,60", f"--dhcp-range={prefix},ra-only,64,10m"]


@contextmanager
def announcing(host: Host, ifname: str) -> Iterator[None]:
    """An IPv6 router is announced on a segment, from the moment when dnsmasq says so."""
    router = host.popen(_announcer(host, ifname, "fd00:77::"))
    try:
        router.wait_for("IPv6 router advertisement enabled", READY_S)
        yield
    finally:
        router.stop()


class BootFiles:
    """A folder of boot files under TFTP and HTTP on one address of a host; a context manager that ends both."""

    def __init__(
        self, host: Host, ifname: str, address: str, texts: Mapping[str, str], prefix: str = "fd00:88::"
    ) -> None:
        """texts: scripts and configurations by file name, beside what PROVIDERS lists and this machine has.

        prefix: announced; another one for each of several on a segment."""
        self.folder = host.scratch / "boot-files"
        for name, (path, _) in PROVIDERS.items():
            if Path(path).exists():
                self._put(name).write_bytes(Path(path).read_bytes())
        for name, text in texts.items():
            self._put(name).write_text(text)
        argv = [*_announcer(host, ifname, prefix), "--enable-tftp", f"--tftp-root={self.folder}"]
        self._tftp = host.popen(argv)
        http = [
            sys.executable,
            "-P",
            "-u",
            "-m",
            "http.server",
            "80",
            "--bind",
            address,
            "--directory",
            str(self.folder),
        ]
        self._http = host.popen(http)
        self._tftp.wait_for("TFTP root is", READY_S)
        self._http.wait_for("Serving HTTP", READY_S)

    def _put(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def needs(self, *names: str) -> None:
        """Unsupported when a file is not there, with the package that has it."""
        lost = [
            f"{path} is not there (Debian package {package})"
            for path, package in map(PROVIDERS.__getitem__, names)
            if not Path(path).exists()
        ]
        if lost:
            raise Unsupported("; ".join(lost))

    def await_missing(self, name: str, since: tuple[int, int], timeout: float) -> None:
        """Wait until somebody has asked TFTP for a file that is not there."""
        self._tftp.wait_for(rf"file {re.escape(f'{self.folder}/{name}')} not found", timeout, since[0])

    def await_tftp(self, name: str, address: str) -> None:
        """Wait until a file has gone out whole; it is logged after the client has begun to run it."""
        self._tftp.wait_for(rf"sent {re.escape(f'{self.folder}/{name}')} to {re.escape(address)}$", SENT_S)

    def mark(self) -> tuple[int, int]:
        """How much was logged so far, for `fetched`."""
        return self._tftp.mark(), self._http.mark()

    def fetched(self, since: tuple[int, int] = (0, 0)) -> list[Fetched]:
        """What was fetched since a mark, TFTP first, each in its order."""
        sent = re.findall(rf"sent {re.escape(str(self.folder))}/+(\S+) to (\S+)", self._tftp.log(since[0]))
        got = re.findall(r'^(\S+) - - \[[^]]*\] "GET /(\S+) HTTP/[^"]*" 20[06]', self._http.log(since[1]), re.MULTILINE)
        return [Fetched("tftp", file, address) for file, address in sent] + [
            Fetched("http", file, address) for address, file in got
        ]

    def close(self) -> None:
        self._tftp.stop()
        self._http.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
