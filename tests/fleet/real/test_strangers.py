"""Whole services: a server that was added a moment ago asks a machine that does not read the inventory."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.clusto.client import IPManager, PenguinServer, Pool
from tests.control.discovery.support import inventory
from tests.ext.packets import DISCOVER, message
from tests.fleet.real.test_members import make_lease
from tests.fleet.rig.nats import Nats, running
from tests.fleet.rig.services import Server, until

pytestmark = pytest.mark.fleet


def add_server(number: int) -> int:
    """Into the inventory; its MAC."""
    server, mac = PenguinServer(f"new{number}"), 0x020000000100 + number
    server.set_port_attr("nic-eth", 1, "mac", mac.to_bytes(6, "big").hex(":"))
    server.bind_ip_to_osport(f"10.96.0.{number}", "eth0", "nic-eth", 1)
    Pool("pxeboot").insert(server)
    return mac


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Server, Server, Nats]]:
    """a leads and reads the inventory; b follows, and does not know where that is."""
    (tmp_path / "inventory").mkdir()
    with inventory(tmp_path / "inventory") as (_store, url), running(tmp_path / "nats") as engine:
        IPManager("net", baseip="10.96.0.0", netmask="255.240.0.0", gateway="10.96.0.254")
        Pool("pxeboot").set_attr("dhcp", 1, subkey="enabled")
        add_server(1)
        asyncio.run(make_lease(engine))
        a = Server(tmp_path, "a", url, engine.url)
        b = Server(tmp_path, "b", "http://127.0.0.1:9", engine.url, lead=False)
        try:
            a.start()
            until(lambda: bool(a.state.get("leads")), 40, "a leads")
            b.start()
            until(lambda: a.hosts() == b.hosts() == 1 and bool(b.state.get("follows")), 30, "both serve by the head")
            yield a, b, engine
        finally:
            a.stop(signal.SIGKILL)
            b.stop(signal.SIGKILL)


def discover(server: Server, mac: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(message(DISCOVER, mac), ("127.0.0.1", server.dhcp["port"]))


def test_a_stranger_of_a_follower_is_looked_up_by_the_leader(site: tuple[Server, Server, Nats]) -> None:
    a, b, engine = site
    mac = add_server(2)
    discover(b, mac)
    took_s = until(lambda: a.hosts() == b.hosts() == 2, 10, "the new server is served by both")
    print(f"a server that a follower did not know was served by both {took_s:.2f} s after its DISCOVER")
    assert b.status()["fleet"]["look_ups"] == {"asked": 1, "failed": 0, "for_others": 0}
    assert a.status()["fleet"]["look_ups"]["for_others"] == 1
    assert b.status()["refresh"]["outcomes"]["published"] == 0, "it asked no inventory itself"
    add_server(3)
    told = b.ctl("refresh", "--host", "new3")
    assert told.returncode == 0 and "1 added" in told.stdout, told
    until(lambda: a.hosts() == b.hosts() == 3, 5, "and so it is for a person")
    nobody = b.ctl("refresh", "--host", "nobody")
    assert "nobody" in nobody.stdout + nobody.stderr, nobody
    engine.kill()
    until(lambda: not b.state.get("connected"), 15, "it is noticed")
    stranger = 0x020000000999
    discover(b, stranger)
    until(lambda: "no engine" in (b.status()["fleet"]["look_up_fault"] or ""), 5, "status says why nobody is asked")
    shown = stranger.to_bytes(6, "big").hex(":")

    def told_by_recent() -> bool:
        discover(b, stranger)  # it asks again, and is noted at most once a second
        return any("no engine" in (row["detail"] or "") for row in b.call("recent", mac=shown))

    until(told_by_recent, 10, "and so does recent")
    assert b.hosts() == 3
