"""Engines of several nodes, and with TLS: what `bootstorm fleet init` writes, in folders and on ports of the test."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from control.fleet.setup.engines import CLIENTS, CONF, LEAVES, ROUTES
from tests.fleet.rig.nats import PROGRAM, Nats
from tests.ports import free_port

NOW = datetime.now(UTC)
READY = b"Server is ready"
READY_S = 10.0
HEALTH = 8222  # its usual port for that


def moved(text: str, folder: Path, host: str, ports: Mapping[int, int]) -> str:
    """A node's file as it has to be here, with a place to ask for its health.  ports: of engines.py -> of the test."""
    for port, ours in ports.items():
        text = text.replace(f'"0.0.0.0:{port}"', f'"{host}:{ours}"').replace(f":{port}", f":{ours}")
    text = text.replace('"/etc/', f'"{folder}/').replace('"/var/lib/nats"', f'"{folder}/store"')
    return f'{text}\nhttp: "{host}:{ports[HEALTH]}"\n'


class Node(Nats):
    """One nats-server.  folder: has its nats-server.conf, as /etc has.  enter: words before its command."""

    def __init__(self, folder: Path, host: str, ports: Mapping[int, int], enter: Sequence[str] = ()) -> None:
        self.folder, self.host, self.port, self.health = folder, host, ports[CLIENTS], ports[HEALTH]
        self.conf, self.store, self.log = folder / CONF, folder / "store", folder / "nats.log"
        self.enter = enter
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"tls://{self.host}:{self.port}"

    def start(self) -> None:
        assert PROGRAM is not None
        log = self.log.open("ab")
        before = self.said(READY)
        self.process = subprocess.Popen([*self.enter, PROGRAM, "-c", str(self.conf)], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + READY_S
        while self.said(READY) == before:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)  # it tells nobody but its log

    def healthy(self) -> bool:
        """It says that it has all of its streams, as new as the other nodes."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.health}/healthz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def said(self, what: bytes) -> int:
        return self.log.read_bytes().count(what)


class Site:
    """A folder of `fleet init`, and the nodes of its engine."""

    def __init__(self, folder: Path, servers: Sequence[str], *words: str) -> None:
        if PROGRAM is None:
            pytest.skip("nats-server is not installed")
        self.folder = folder / "site"
        given = [word for server in servers for word in ("--server", server)]
        ran = CliRunner().invoke(main, ["fleet", "init", *given, *words, "-o", str(self.folder), "--etc", "/ETC"])
        assert ran.exit_code == 0, ran.output
        self.ports = {CLIENTS: free_port(), ROUTES: free_port(), LEAVES: free_port(), HEALTH: free_port()}
        self.nodes = [self.node(server) for server in servers]

    def node(self, server: str) -> Node:
        folder = self.folder / "engine" / server
        conf = folder / CONF
        conf.write_text(moved(conf.read_text(), folder, server, self.ports))
        return Node(folder, server, self.ports)

    def section(self, name: str) -> dict[str, Any]:
        """As the machine has it, with its files where they are here, and without its name."""
        folder = self.folder / "machines" / name
        text = (folder / "fleet.json").read_text().replace("/ETC/", f"{folder}/")
        found: dict[str, Any] = json.loads(text.replace(f":{CLIENTS}", f":{self.ports[CLIENTS]}"))["fleet"]
        del found["name"]
        return found

    @contextlib.contextmanager
    def running(self) -> Iterator[Site]:
        try:
            for node in self.nodes:
                node.start()
            yield self
        finally:
            for node in self.nodes:
                node.kill()


def checked(conf: Path, environment: Mapping[str, str] | None = None) -> str:
    """What `nats-server -t` says of a file that it does not take; nothing of a good one."""
    assert PROGRAM is not None
    words = [PROGRAM, "-t", "-c", str(conf)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=20, env=environment)
    return "" if ran.returncode == 0 else f"{ran.stdout}{ran.stderr}"


def copied(folder: Path, source: Path) -> Path:
    """A folder of deploy/nats."""
    shutil.copytree(source, folder)
    return folder
