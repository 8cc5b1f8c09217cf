"""The whole of control, planner and registrars: from a trap and a DHCP request to a row in the table, by `ctl`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control.cli.ctl import RENDER, CallFailed
from tests.control.discovery.conftest import Inventory
from tests.control.discovery.support import MAC, MACS
from tests.control.discovery.test_coordinator import sighting, trap
from tests.control.refreshing import Ctl, commanded


@asynccontextmanager
async def discovering(ctl: Ctl) -> AsyncIterator[None]:
    task = asyncio.create_task(ctl.service.coordinator.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(ctl: Ctl, mac: str, state: str) -> dict[str, Any]:
    while True:
        found = await ctl("discovered")
        for row in found["machines"]:
            if (row["mac"], row["state"]) == (mac, state):
                text = RENDER["discovered"](found)
                assert any(line.startswith(mac) for line in text)
                checked: dict[str, Any] = row
                return checked
        await asyncio.sleep(0.1)


def test_from_a_trap_and_a_dhcp_request_to_the_table(site: Inventory, tmp_path: Path) -> None:
    status_s: list[float] = []

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        with pytest.raises(CallFailed, match="no trap and no DHCP request of 00:11:22:33:44:55 was seen"):
            await ctl("discovered", mac=MAC)
        with pytest.raises(CallFailed, match="nobody knows where it is"):
            await ctl("adopt", mac=MAC)
        with pytest.raises(CallFailed, match="'x' is no MAC"):
            await ctl("ignore", mac="x")
        async with discovering(ctl):
            ctl.service.coordinator.take([trap(MAC, 7)])
            await until(ctl, MAC, "registered")
            with pytest.raises(CallFailed, match="has no host"):
                await ctl("lookup", mac=MAC)
            ctl.service.coordinator.sighted(sighting(MAC))
            row = await until(ctl, MAC, "confirmed")
            assert row["server"] == "s0001" and any("nic-eth 1 mac" in step for step in row["did"])
            while True:
                started = time.monotonic()
                status = await ctl.status()
                status_s.append(time.monotonic() - started)
                if status["hosts"] == 1:
                    break
                await asyncio.sleep(0.05)
            assert status["discovery"]["counters"]["registered"] == 1
            found = await ctl("lookup", mac=MAC)
            assert found["host"] == "s0001" and found["leases"][0]["address"] == "10.100.1.2", "no full refresh came"
            assert (await ctl("ignore", mac=MACS[3]))["state"] == "ignored"
            assert RENDER["ignore"](await ctl("ignore", mac=MACS[3]))[0].startswith(MACS[3])
            assert RENDER["unignore"](await ctl("unignore", mac=MACS[3]))[0].startswith(MACS[3])
            with pytest.raises(CallFailed, match=f"no trap and no DHCP request of {MACS[3]} was seen"):
                await ctl("discovered", mac=MACS[3])
            with pytest.raises(CallFailed, match=f"{MACS[3]} is not ignored; `ctl discovered` lists what is"):
                await ctl("unignore", mac=MACS[3])

    folder = tmp_path / "control"
    folder.mkdir()
    commanded(site.url, folder, scenario)
    print(f"ctl status: {sorted(status_s)[len(status_s) // 2] * 1e3:.0f} ms in the middle")


def test_machines_that_get_somewhere_are_events_whatever_the_log_has_room_for(site: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        coordinator, ring = ctl.service.coordinator, ctl.service.ring
        coordinator.log_left, coordinator.log_since_s = -1e6, coordinator.clock()
        async with discovering(ctl):
            coordinator.take([trap(MAC, 7)])
            await until(ctl, MAC, "registered")
            coordinator.sighted(sighting(MAC))
            await until(ctl, MAC, "confirmed")
        told = [event for event in ring.page(ring.first)[0] if event["kind"].startswith("machine-")]
        assert [(event["kind"], event["object"], event["mac"]) for event in told] == [
            ("machine-registered", "s0001", MAC), ("machine-confirmed", "s0001", MAC),
        ]  # fmt: skip
        assert all(event["reason"].endswith(" on r1-sw1 port 7") for event in told)

    commanded(site.url, tmp_path, scenario)
