"""A whole site on one laboratory host: the embedded inventory, filled from a host file, and `bootstorm serve` on top.

Used by the demo, the namespace tests and the benches; drives everything by the public commands, as a site would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.lab.lab import CommandFailed, Host, LabError, Process

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = "127.0.0.1:9996"
READY_S = 60.0
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
BOOTSTORM = [sys.executable, "-m", "control"]


def many_hosts(count: int, network: str, first_address: int, first_mac: int, step: int = 1) -> str:
    """A host file (YAML, which JSON is) of `count` hosts in one pool, addresses and MACs counted up from the first.

    network: "10.96.0.0/255.240.0.0/10.96.0.1" is base, mask, gateway."""
    base, mask, gateway = network.split("/")
    hosts = [
        {
            "name": f"node{i:06d}",
            "mac": (first_mac + i * step).to_bytes(6, "big").hex(":"),
            "addresses": [".".join(str(b) for b in (first_address + i).to_bytes(4, "big"))],
            "pool": "racks",
        }
        for i in range(count)
    ]
    pool = {"name": "racks", "dhcp": {"enabled": 1, "tftp_server": gateway, "tftp_filename": "/pxelinux.0"}}
    return json.dumps({"networks": [{"base": base, "mask": mask, "gateway": gateway}], "pools": [pool], "hosts": hosts})


class RunningSite:
    """The processes of a site, and its control socket."""

    def __init__(
        self,
        host: Host,
        workers: int = 2,
        *,
        snmp: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        control: dict[str, Any] | None = None,
        **dhcp: Any,
    ) -> None:
        self.host = host
        self.database = f"sqlite:///{host.scratch}/inventory.db"
        self.console = host.scratch / "control.sock"
        self.config = host.scratch / "services.conf"
        state = host.scratch / "state"
        keys = {"api_url": f"http://{INVENTORY}", "state_dir": str(state), "workers": workers, "refresh_interval": 3600}
        more = {"snmp": snmp, "metrics": metrics}
        sections = {"dhcp": keys | dhcp, "control": {"socket": str(self.console)} | (control or {})}
        self.config.write_text(json.dumps(sections | {name: said for name, said in more.items() if said is not None}))
        self.environment = dict(ENVIRONMENT)  # of the service
        self.within: Sequence[str] = ()  # a command that starts it
        self.inventory: Process | None = None
        self.server: Process | None = None

    def fill(self, host_file: str) -> None:
        """Load a host file straight into the inventory's database."""
        path = self.host.scratch / "hosts.yaml"
        path.write_text(host_file)
        self.load(path)

    def load(self, path: Path) -> None:
        command = [*BOOTSTORM, "inventory", "--dsn", self.database, "load", str(path)]
        self.host.run(command, timeout=300.0, env=ENVIRONMENT)

    def start_inventory(self) -> None:
        command = [*BOOTSTORM, "inventory", "--dsn", self.database, "--bind", INVENTORY]
        self.inventory = self.host.popen(command, env=ENVIRONMENT)
        self.inventory.wait_for("listening on", READY_S)

    def stop_inventory(self) -> None:
        assert self.inventory is not None
        self.inventory.stop()

    def serve(self, hosts: int | None = None) -> None:
        """Start the service; with `hosts`, wait until that many are answered by every worker."""
        command = [*self.within, *BOOTSTORM, "serve", "-c", str(self.config)]
        self.server = self.host.popen(command, env=self.environment)
        if hosts is not None:
            self.await_status(lambda s: s["hosts"] == hosts and all(w["generation"] for w in s["workers"]))

    def await_status(self, good: Any, limit_s: float = READY_S) -> dict[str, Any]:
        """Ask until the status is good; each question is a process and paces the loop.  LabError in the end."""
        deadline, said = time.monotonic() + limit_s, "nothing"
        while time.monotonic() < deadline and self.server is not None and self.server.running():
            try:
                done = self.host.run([*self._ctl(), "status"], check=False, env=ENVIRONMENT)
            except CommandFailed as slow:  # a starved machine: the deadline decides, not this one question
                said = str(slow)
                continue
            said = done.stdout + done.stderr
            if done.stdout and good(status := json.loads(done.stdout)):
                return dict(status)
        log = self.server.log() if self.server is not None else "it was not started"
        raise LabError(f"bootstorm serve: not as wanted within {limit_s:g} s; last status {said}; it said:\n{log}")

    def _ctl(self) -> list[str]:
        return [*BOOTSTORM, "ctl", "--socket", str(self.console), "--json"]

    def ctl(self, *command: str) -> Any:
        """The result of a control command.  CommandFailed with its words when it fails; `status` is a result also while
        nobody is answered, which its exit code says."""
        argv = [*self._ctl(), *command]
        done = self.host.run(argv, timeout=120.0, check=command[0] != "status", env=ENVIRONMENT)
        if not done.stdout:
            raise CommandFailed(f"{self.host.name}: {' '.join(argv)}: {done.stderr}")
        return json.loads(done.stdout)

    def supervisor(self) -> int:
        """Its pid, as this process sees it."""
        return next(pid for pid, words in self.processes() if words[-2:-1] == ["supervise"])

    def processes(self) -> list[tuple[int, list[str]]]:
        """(pid, command line) of every process of the service, as this process sees them."""
        found = []
        mine = str(self.console.parent)
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                same = (folder / "ns/net").stat().st_ino == self.network()
            except OSError:
                continue
            if same and "-m" in words and words[-2:-1] and words[-2] in ("supervise", "worker", "run", "planner"):
                found.append((int(folder.name), words))
        if not found:
            raise LabError(f"no process of the service of {mine} is running")
        return found

    def network(self) -> int:
        return Path(f"/proc/{self.host.pid}/ns/net").stat().st_ino

    def stop(self) -> None:
        """End the service by SIGTERM, then the inventory."""
        for process in (self.server, self.inventory):
            if process is not None:
                process.stop()


@contextmanager
def running_site(
    host: Host,
    host_file: str,
    hosts: int,
    workers: int = 2,
    *,
    environment: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    **dhcp: Any,
) -> Iterator[RunningSite]:
    """A filled, serving site on `host`, stopped at the end.  environment: what the service gets besides; within: a
    command that starts it, and ends with it by SIGTERM."""
    site = RunningSite(host, workers, **dhcp)
    site.environment |= environment or {}
    site.within = within
    site.fill(host_file)
    site.start_inventory()
    try:
        site.serve(hosts)
        yield site
    finally:
        site.stop()


def send_signal(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        os.kill(pid, number)
