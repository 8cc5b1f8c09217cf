"""A server that is added, changed or taken out is answered so at once, without a refresh of everything."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from bench.lab.client import NoLease
from bench.lab.clients import tiny
from bench.lab.lab import CommandFailed, Host, Lab
from bench.lab.site import ENVIRONMENT, INVENTORY, RunningSite, many_hosts, running_site

pytestmark = pytest.mark.netns

SERVER, NETWORK = "10.88.0.1", "10.88.0.0/255.255.0.0/10.88.0.1"
NEW_MAC = "02:aa:00:00:00:01"


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[RunningSite, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_mac=NEW_MAC)
        with running_site(server, many_hosts(20, NETWORK, 0x0A580100, 0x020000000000), 20) as running:
            yield running, client


def inventory(running: RunningSite, program: str) -> None:
    head = f"from control.clusto.client import *\nconnect('http://{INVENTORY}')\n"
    running.host.run([sys.executable, "-c", head + program], timeout=30.0, env=ENVIRONMENT)


def test_a_new_server_is_answered_at_its_second_discover(site: tuple[RunningSite, Host]) -> None:
    running, client = site
    with pytest.raises(NoLease):
        tiny(client, "cl", timeout_s=1.0)
    asked = running.await_status(lambda status: status["lookups"]["unknown"] == 1)["counters"]["IGNORED_UNKNOWN_MAC"]
    assert asked >= 1
    with pytest.raises(CommandFailed, match=f"NOT FOUND: {NEW_MAC} is neither"):
        running.ctl("refresh", "--mac", NEW_MAC)  # nothing is there yet, and nothing breaks
    program = f"s = BasicServer('new0')\ns.set_port_attr('nic-eth', 1, 'mac', '{NEW_MAC.upper()}')\n"
    program += "s.bind_ip_to_osport('10.88.2.1', 'eth0')\nPool('racks').insert(s)\n"
    inventory(running, program)
    figures = running.ctl("refresh", "--host", "new0", "--wait")
    assert figures["added"] == 1
    assert tiny(client, "cl").address == "10.88.2.1"


def test_a_server_that_nobody_announced(site: tuple[RunningSite, Host]) -> None:
    """No `ctl` command at all: the first DISCOVER makes control look, the next one is answered."""
    running, client = site
    mac = "02:aa:00:00:00:02"
    client.ip("link set cl down", f"link set cl address {mac}", "link set cl up")
    client.await_carrier("cl")
    program = f"s = BasicServer('new1')\ns.set_port_attr('nic-eth', 1, 'mac', '{mac}')\n"
    program += "s.bind_ip_to_osport('10.88.2.2', 'eth0')\nPool('racks').insert(s)\n"
    inventory(running, program)
    generation = running.ctl("status")["generation"]
    started = time.monotonic()
    lease = tiny(client, "cl", timeout_s=10.0)
    assert lease.address == "10.88.2.2"
    assert time.monotonic() - started < 8.0, "the second DISCOVER, not a full refresh"
    status = running.ctl("status")
    assert status["generation"] > generation and status["lookups"]["found"] == 1
    assert status["hosts"] == 22


def test_a_removed_server_falls_silent(site: tuple[RunningSite, Host]) -> None:
    running, client = site
    inventory(running, "BasicServer('new1').delete()\n")
    figures = running.ctl("refresh", "--host", "new1", "--wait")
    assert (figures["removed"], figures["hosts"]) == (1, 21)
    with pytest.raises(NoLease):
        tiny(client, "cl", timeout_s=1.0)
    with pytest.raises(CommandFailed, match="no host"):
        running.ctl("lookup", "02:aa:00:00:00:02")


def test_a_second_owner_of_an_address_silences_both(site: tuple[RunningSite, Host]) -> None:
    running, _client = site
    before = running.ctl("status")["hosts"]
    program = "t = BasicServer('thief')\nt.set_port_attr('nic-eth', 1, 'mac', '02:aa:00:00:00:03')\n"
    for subkey, value in (("ipstring", "10.88.1.0"), ("manager", None)):
        if value is not None:
            program += f"t.add_attr(key='ip', subkey='{subkey}', number=990, value='{value}')\n"
    program += "Pool('racks').insert(t)\n"
    inventory(running, program)
    running.ctl("refresh", "--mac", "02:aa:00:00:00:03", "--wait")
    assert running.ctl("lookup", "02:00:00:00:00:00")["state"] == "conflict"
    assert running.ctl("lookup", "02:aa:00:00:00:03")["state"] == "conflict"
    assert running.ctl("status")["hosts"] == before - 1
