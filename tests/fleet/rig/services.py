"""Whole services on the loopback, each with a state folder and a port of its own: `bootstorm serve`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.lab.site import ENVIRONMENT, ROOT, many_hosts
from control.service_client import CallFailed, ServiceClient
from tests.ports import free_port

ADDRESS, MAC = 0x0A600001, 0x020000000001
LOOK_S = 0.05


class Inventory:
    """A host file that only those read who are told of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, count: int, first: int = 0) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(many_hosts(count, "10.96.0.0/255.240.0.0/10.96.0.1", ADDRESS + 1 + first, MAC + first))
        aside.rename(self.path.with_suffix(".yaml"))

    @property
    def url(self) -> str:
        return f"file://{self.path.with_suffix('.yaml')}"


class Server:
    def __init__(self, folder: Path, name: str, api_url: str, engine: str, **fleet: Any) -> None:
        self.folder, self.name = folder / name, name
        self.folder.mkdir()
        self.conf = self.folder / "services.conf"
        self.write(api_url, {"servers": [engine], "name": name} | fleet)
        self.client = ServiceClient(str(self.folder / "control.sock"))
        self.process: subprocess.Popen[bytes] | None = None

    snmp: dict[str, Any] | None = None  # its section, where it has one

    def write(self, api_url: str, fleet: dict[str, Any] | None) -> None:
        dhcp = {"state_dir": str(self.folder), "api_url": api_url, "port": free_port(), "boot_port": 0, "workers": 1}
        self.dhcp = getattr(self, "dhcp", dhcp) | {"api_url": api_url}
        sections = {"dhcp": self.dhcp, "fleet": fleet, "snmp": self.snmp}
        self.conf.write_text(json.dumps({name: each for name, each in sections.items() if each is not None}))

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        command = [sys.executable, "-m", "control", "serve", "-c", str(self.conf)]
        environment = {**os.environ, **ENVIRONMENT}
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        log.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def status(self) -> dict[str, Any]:
        """Empty while it does not answer."""
        try:
            found: dict[str, Any] = self.client.call("status", {})
        except (CallFailed, OSError):
            return {}
        return found

    @property
    def state(self) -> dict[str, Any]:
        return (self.status().get("fleet") or {}).get("state") or {}

    def hosts(self) -> int:
        return int(self.status().get("hosts", 0))

    def call(self, command: str, **arguments: Any) -> Any:
        return self.client.call(command, arguments)

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "control", "ctl", *words, "--socket", str(self.folder / "control.sock")]
        environment = {**os.environ, **ENVIRONMENT}
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)

    def log(self) -> str:
        return (self.folder / "log").read_text()


def until(true: Callable[[], bool], limit_s: float, what: str) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < limit_s, f"{what}: not within {limit_s} s"
        time.sleep(LOOK_S)
    return time.monotonic() - began
