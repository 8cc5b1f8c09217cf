"""An inventory by docs/contract.md behind the whole of control: ctl's commands, strangers, and a soak of edits."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control.config.config import Config
from control.planner.planner import Planner
from control.service_client import CallFailed
from fastpath.protocol import close_all
from tests.control.refreshing import Ctl, commanded
from tests.control.sources.contract.hosts_server import POOL, SITE, Row, host, serving
from tests.control.sources.contract.test_contract_reading import opened, table
from tests.control.sources.test_filesource import CONFIG


def test_what_a_person_sees(tmp_path: Path) -> None:
    """Twins by name, a bad row, an option's origin, a host that is looked up, and an inventory that is down."""
    with serving(*SITE, host(20, name="h2"), host(30, mac="junk")) as server:

        async def scenario(ctl: Ctl) -> None:
            done = await ctl("refresh")
            assert (done["hosts"], done["added"]) == (7, 7)
            faults = (await ctl("faults"))["faults"]
            assert [(each["object"], each["kind"]) for each in faults] == [("h30", "bad-row")]
            server.rows.put(host(20, name="h2", address="10.1.0.99"), host(2, address="10.1.0.98"))
            done = await ctl("refresh", host="h2")
            assert done["changed"] == 2 and not done["missing"]
            with pytest.raises(CallFailed, match=r"02:00:00:00:00:02.*02:00:00:00:00:14"):
                await ctl("explain", mac="h2")
            server.rows.put(host(9))
            done = await ctl("refresh", mac="02:00:00:00:00:09")
            assert done["added"] == 1
            said = str(await ctl("explain", mac="02:00:00:00:00:09"))
            assert "pool racks" in said and "/pxelinux.0" in said
            server.rows.put(host(10))
            ctl.service.on_unknown("02:00:00:00:00:0a", "eth0")
            await ctl.service.lookups.take(ctl.service.lookups.next_batch())
            assert await ctl.state_of("02:00:00:00:00:0a") == "served"
            server.spoil = lambda _target: b"HTTP/1.1 503 Maintenance\r\n\r\n"
            failed = await asyncio.gather(ctl("refresh"), return_exceptions=True)
            assert "status 503" in str(failed[0])
            status = await ctl.status()
            assert status["inventory"] == "stale" and status["hosts"] == 9

        commanded(server.url, tmp_path, scenario)


def test_a_soak_of_edits_ends_where_a_planner_that_begins_anew_ends(tmp_path: Path) -> None:
    """Refreshes, look-ups and failed reads in any order, with addresses, MACs and names that change owners."""
    chance = random.Random(18)
    sent: list[Any] = []
    with serving(*SITE) as server:
        config = Config(dhcp=replace(CONFIG, api_url=server.url, state_dir=tmp_path, max_shrink=1.0))
        planner = Planner(config, [], lambda message, _fds=(): sent.append(message))
        planner.refresh(False)
        for _ in range(60):
            for _ in range(chance.randrange(4)):
                edited(server.rows, chance)
            way = chance.random()
            macs, names = [f"02:00:00:00:00:{chance.randrange(2, 14):02x}"], [f"h{chance.randrange(2, 14)}"]
            if way < 0.2:
                server.spoil = lambda _target: b"HTTP/1.1 200 OK\r\n\r\n<html>"
                planner.refresh(False)
                assert sent[-1].kind == "down"
                server.spoil = lambda _target: None
            elif way < 0.5:
                planner.look_up(macs, [])
            elif way < 0.7:
                planner.look_up([], names)
            else:
                planner.refresh(True)
            assert planner.served.pair is not None and not list(planner.served.view().twice())
        planner.refresh(True)
        fresh, _ = table(opened(server.url))
        assert rows_of(planner.served.pair) == rows_of(fresh)
        close_all(planner.served.fds())


def rows_of(holder: Any) -> dict[Any, Any]:
    return {key: told(holder.lookup(*key)) for key in holder.keys()}  # noqa: SIM118


def told(row: Row) -> tuple[Any, ...]:
    return row["name"], row["state"], row["identity"], [lease["address"] for lease in row["leases"]], row["own"]


def edited(rows: Any, chance: random.Random) -> None:
    told_apart, name, mac, address = (chance.randrange(2, 14) for _ in range(4))
    if chance.random() < 0.25:
        rows.now.pop(str(told_apart), None)
    elif chance.random() < 0.1:
        rows.put(POOL | {"dhcp": {"enabled": 1, "tftp_filename": f"/{name}"}})
    else:
        row = host(told_apart, name=f"h{name}", mac=f"02:00:00:00:00:{mac:02x}", address=f"10.1.0.{address}")
        rows.put(row)
