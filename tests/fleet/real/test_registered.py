"""Whole services: a switch's trap reaches a machine that may not write, and the leader's death costs nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.clusto.server.store import Store
from control.service_client import CallFailed
from tests.control.discovery.support import attribute, inventory, make_site, servers, snapshot
from tests.control.discovery.traps.messages import v1_trap
from tests.fleet.real.test_members import LEADS_S, make_lease
from tests.fleet.real.test_service import is_fleet_of
from tests.fleet.rig.nats import running
from tests.fleet.rig.services import Server, until
from tests.ports import free_port

pytestmark = pytest.mark.fleet
SWITCH = socket.inet_aton("10.0.0.1")  # of rack r1


class Reporting(Server):
    """One that takes traps, of which switches say by whom they are."""

    def write(self, api_url: str, fleet: dict[str, Any] | None) -> None:
        self.snmp = {
            "bind_address": "127.0.0.1", "bind_port": free_port(), "communities": ["public"],
            "proxies": ["127.0.0.1/32"],
        }  # fmt: skip
        super().write(api_url, fleet)

    def trap(self, mac: str, port: int) -> None:
        assert self.snmp is not None
        history = bytes.fromhex(f"01000a{mac.replace(':', '')}{port:04x}00")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(v1_trap(SWITCH, history), ("127.0.0.1", self.snmp["bind_port"]))


Site = tuple[Store, Reporting, Reporting, Reporting]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """a leads; b may, once a is gone; c may not, and does not know where the inventory is."""
    (tmp_path / "inventory").mkdir()
    with inventory(tmp_path / "inventory") as (store, url), running(tmp_path / "nats") as engine:
        make_site()
        asyncio.run(make_lease(engine))
        a, b = (Reporting(tmp_path, name, url, engine.url) for name in "ab")
        c = Reporting(tmp_path, "c", "http://127.0.0.1:9", engine.url, lead=False)
        try:
            a.start()
            until(lambda: bool(a.state.get("leads")), 40, "a leads")
            b.start()
            c.start()
            until(lambda: all(each.state.get("connected") for each in (b, c)), 30, "all are there")
            yield store, a, b, c
        finally:
            for server in (a, b, c):
                server.stop(signal.SIGKILL)


def machine(server: Reporting, mac: str) -> dict[str, Any]:
    """Its row, or nothing."""
    try:
        found: dict[str, Any] = server.call("discovered", mac=mac)["machines"][0]
    except CallFailed:
        return {}
    return found


def macs(store: Store) -> list[str]:
    return [str(mac) for mac in attribute(snapshot(store), "s0001", "bootstrap", "mac")]


def test_a_trap_of_a_follower_makes_a_server_and_the_next_leader_goes_on(site: Site) -> None:
    store, a, b, c = site
    first, second, third = (f"02:00:00:00:0a:0{number}" for number in (1, 2, 3))
    c.trap(first, 7)
    took_s = until(lambda: servers(snapshot(store)) == ["s0001"], 30, "it is registered")
    print(f"a trap that a follower received made a server {took_s:.1f} s later")
    until(lambda: machine(a, first).get("state") == "registered", 10, "the leader says so")
    until(lambda: c.state["waiting"] == 0, 10, "and the follower has forgotten it")
    for server in (b, c):
        for command in ("discovered", "adopt", "ignore", "unignore"):
            with pytest.raises(CallFailed, match=f"{command}: discovery is the fleet's, which a leads just now"):
                server.call(command, mac=first)
    a.call("ignore", mac=second)
    a.stop(signal.SIGKILL)
    c.trap(second, 8)
    c.trap(third, 9)
    until(lambda: bool(b.state.get("leads")), LEADS_S + 6, "b leads")
    until(lambda: servers(snapshot(store)) == ["s0001", "s0002"], 30, "what came meanwhile is registered")
    until(lambda: machine(b, third).get("server") == "s0002", 10, "and b says so")
    assert machine(b, second)["state"] == "ignored", "as a person said on the machine that led then"
    until(lambda: c.state["waiting"] == 0, 10, "nothing waits")
    assert [server.status()["fleet"]["discovery"]["taken"] for server in (b, c)] == [2, 0]


def test_a_leader_whose_fleet_process_is_stopped_writes_nothing_and_hands_over(site: Site) -> None:
    """Control and its registrars live on, and believe for a while that this machine leads: the page of each request
    says that it does not."""
    store, a, b, _c = site
    before, mac = "02:00:00:00:0a:08", "02:00:00:00:0a:09"
    a.trap(before, 7)
    until(lambda: machine(a, before).get("state") == "registered", 30, "its registrar is at work")
    (pid,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_fleet_of(int(pid), a)]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: bool(b.state.get("leads")), LEADS_S + 6, "b leads")
    a.trap(mac, 7)  # one more MAC of that server: one request
    until(lambda: "does not lead its fleet any more" in (machine(a, mac).get("reason") or ""), 8, "a says why not")
    assert a.state["leads"] and mac not in macs(store), "although it has not been told yet"
    took_s = until(lambda: mac in macs(store), 45, "b has written it")
    print(f"the machine was handed over and recorded {took_s:.1f} s later")
    until(lambda: machine(b, mac).get("server") == "s0001", 10, "and says so")
