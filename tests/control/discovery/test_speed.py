"""Many machines come up at once: the coordinator, its registrars and the embedded inventory, each a process of its own.

BOOTSTORM_RACKS=50 for 1,000 machines; 5 racks otherwise.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control.clusto.client import connect
from control.clusto.server.store import Store
from control.discovery.coordinator import Coordinator
from tests.control.discovery.support import attribute, make_site, servers, snapshot, switch_address
from tests.control.discovery.test_coordinator import at_the_desk, configured, trap

RACKS, PORTS = int(os.environ.get("BOOTSTORM_RACKS", "5")), 20


@contextmanager
def inventory_process(folder: Path) -> Iterator[tuple[str, int]]:
    """Its URL and process id."""
    dsn = f"sqlite:///{folder / 'inventory.db'}"
    argv = [sys.executable, "-P", "-m", "control", "inventory", "--dsn", dsn, "--bind", "127.0.0.1:0"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "listening on" in line)
            url = re.search(r"http://\S+", line)
            assert url is not None, line
            yield url[0], process.pid
        finally:
            process.terminate()
            process.wait(30)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(1500)
@pytest.mark.long
def test_racks_of_new_servers(tmp_path: Path) -> None:
    with inventory_process(tmp_path) as (url, pid):
        connect(url)
        make_site(RACKS)
        macs = {
            (rack, port): f"52:54:00:01:{rack:02x}:{port:02x}" for rack in range(1, RACKS + 1) for port in range(1, 21)
        }
        figures: list[str] = []

        async def scenario(coordinator: Coordinator) -> None:
            started, before = time.monotonic(), cpu_s(pid)
            coordinator.take([trap(mac, port, switch_address(rack)) for (rack, port), mac in macs.items()])
            while coordinator.machines.counts["registered"] < len(macs):
                assert not coordinator.machines.counts["waits"], coordinator.listing(limit=5)
                await asyncio.sleep(0.1)
            took, cpu = time.monotonic() - started, cpu_s(pid) - before
            both = sum(cpu_s(registrar.pid) for registrar in coordinator.registrars if registrar.pid)
            each = 1000 / len(macs)
            figures.append(
                f"{len(macs)} servers registered in {took:.1f} s, {len(macs) / took:.1f} a second; CPU a server: "
                f"inventory {cpu * each:.0f} ms, both registrars {both * each:.0f} ms; load {os.getloadavg()[0]:.0f}"
            )

        at_the_desk(configured(tmp_path, url), scenario)
    print(*figures)
    store = Store(f"sqlite:///{tmp_path / 'inventory.db'}")
    found = snapshot(store)
    store.close()
    assert len(servers(found)) == len(macs)
    for (rack, port), mac in macs.items():
        (server,) = attribute(found, f"r{rack}-sw1", "port-nic-eth", "connection", port)
        assert attribute(found, server, "bootstrap", "mac") == [mac]
        assert attribute(found, f"r{rack}", "_contains", "ru", port) == [server]
    addresses = [address for name in servers(found) for address in attribute(found, name, "ip", "ipstring", 0)]
    assert len(set(addresses)) == len(macs)
