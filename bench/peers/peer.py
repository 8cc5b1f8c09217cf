"""What the comparison has to know of a server: how it is found, configured, checked and started."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.lab.lab import Host, LabError, Process, which
from bench.peers.table import Table

STOP_S, CHECK_S = 5.0, 120.0


@dataclass(frozen=True, slots=True)
class Written:
    """A configuration on disk: the folder of all its files, the interface to serve, how many hosts are in it."""

    folder: Path
    ifname: str
    hosts: int


class Peer(ABC):
    """A DHCP server of somebody else's.  Stateless: everything about a run is in its `Written`."""

    name: ClassVar[str]
    program: ClassVar[str]
    package: ClassVar[str]  # Debian's
    usual_rate: ClassVar[float] = 4000.0  # replies/s at which a search may begin
    boots: ClassVar[bool] = True  # it can tell a host with a static address what to boot, and from where
    limits: ClassVar[str] = ""  # what its replies lack, or what the comparison had to leave out

    def missing(self) -> str | None:
        """None when it is installed, else what to install."""
        if which(self.program) is None:
            return f"{self.program} is not installed (Debian package {self.package})"
        return None

    def version(self) -> str:
        """Of its Debian package; "unknown" where it did not come from one."""
        if which("dpkg-query") is None:
            return "unknown"
        command = ["dpkg-query", "-W", "-f", "${Version}", self.package]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout.strip() or "unknown"

    @abstractmethod
    def files(self, table: Table, ifname: str, folder: Path) -> dict[str, str]:
        """Name -> content of every file of its configuration; the names are relative to `folder`."""

    @abstractmethod
    def command(self, written: Written) -> Sequence[str]:
        """Serves in the foreground until SIGTERM."""

    def check_command(self, written: Written) -> Sequence[str]:
        """Reads the configuration, says what is wrong with it and ends; empty where the program has no such mode."""
        del written
        return ()

    def environment(self, written: Written) -> dict[str, str]:
        del written
        return {}

    def write(self, table: Table, ifname: str, folder: Path) -> Written:
        """Its configuration for these hosts, in a folder that is there."""
        for name, content in self.files(table, ifname, folder).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return Written(folder, ifname, table.count)

    def check(self, host: Host, written: Written) -> None:
        """CommandFailed with the program's own words when it does not take its configuration."""
        if command := self.check_command(written):
            host.run(list(command), timeout=CHECK_S, env=self.environment(written))

    @contextmanager
    def running(self, host: Host, table: Table, ifname: str) -> Iterator[Process]:
        """Started on a laboratory host, stopped at the end.  It may not serve yet: answers.await_first()."""
        if reason := self.missing():
            raise LabError(f"{self.name}: {reason}")
        folder = host.scratch / self.name
        folder.mkdir()
        written = self.write(table, ifname, folder)
        self.check(host, written)
        process = host.popen(list(self.command(written)), env=self.environment(written))
        try:
            yield process
        finally:
            process.stop(timeout=STOP_S)
