"""PXE's port 4011 through a whole service: which worker, which socket, and what it costs nobody when it is taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bench.lab.lab import Host, Lab, Process
from bench.lab.site import RunningSite, running_site, send_signal
from tests.ext.packets import ACK, Parsed, discover, ip, quad, request, tlv
from tests.netns.asker import Asker, Heard

pytestmark = pytest.mark.netns

SERVER, SENTINEL, FIRST_MAC, HOSTS, WORKERS = "10.88.0.1", 0x02E2E0000001, 0x02E2E0000100, 100, 4
ROM = tlv(60, b"PXEClient:Arch:00000:UNDI:002001") + tlv(97, bytes(17))
GONE_S = 20.0


def host_file() -> str:
    """The sentinel is served, the others get their addresses elsewhere."""
    pool = {"enabled": 1, "tftp_server": SERVER, "tftp_filename": "/pxelinux.0"}
    hosts = [{"name": "sentinel", "mac": mac(SENTINEL), "addresses": ["10.88.0.20"], "pool": "boot"}]
    hosts += [
        {"name": f"proxied{n}", "mac": mac(FIRST_MAC + n), "pool": "boot", "dhcp": {"proxy": 1}} for n in range(HOSTS)
    ]
    networks = [{"base": "10.88.0.0", "mask": "255.255.255.0", "gateway": SERVER}]
    return json.dumps({"networks": networks, "pools": [{"name": "boot", "dhcp": pool}], "hosts": hosts})


def mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="sv", a_addr=f"{SERVER}/24", b_addr="10.88.0.2/24")
        server.route("10.99.0.0/24", "10.88.0.2")
        yield server, client


@pytest.fixture(scope="module")
def site(hosts: tuple[Host, Host]) -> Iterator[tuple[RunningSite, Asker]]:
    server, client = hosts
    with (
        running_site(server, host_file(), HOSTS + 1, WORKERS) as running,
        Asker(client, server, ("sv",), SENTINEL, "sv") as asker,
    ):
        yield running, asker


def ask_all(asker: Asker, source: str, source_port: int) -> list[Heard]:
    """A REQUEST of each host at port 4011, from addresses counted up; all that is answered."""
    for number in range(HOSTS):
        address = ip(source) + number
        packet = request(FIRST_MAC + number, ciaddr=address, xid=number + 1, options=ROM)
        asker.send("sv", packet, address, source_port, ip(SERVER), to_port=4011)
    found = asker.hear(lambda some: len(some) >= HOSTS)
    return found + asker.settle()


def must_be_answers(found: list[Heard], source: str, port: int) -> None:
    assert sorted(Parsed.of(one.payload).xid for one in found) == list(range(1, HOSTS + 1)), "each once"
    for one in found:
        said = Parsed.of(one.payload)
        assert (one.source, one.source_port, one.port) == (ip(SERVER), 4011, port)
        assert one.destination == ip(source) + said.xid - 1
        assert (said.kind, said.yiaddr, said.siaddr) == (ACK, "0.0.0.0", SERVER)
        assert said.file.rstrip(b"\0") == b"/pxelinux.0" and said.option(97) == bytes(17)


@pytest.mark.parametrize("port", [68, 4011])
def test_every_worker_answers_its_own_by_frame(site: tuple[RunningSite, Asker], port: int) -> None:
    running, asker = site
    before = taken(running)
    found = ask_all(asker, "10.88.0.100", port)
    must_be_answers(found, "10.88.0.100", port)
    assert all(one.to_mac == Parsed.of(one.payload).chaddr[:6] for one in found)
    assert all(now > was for now, was in zip(taken(running), before, strict=True)), "a worker has had nothing"


def test_behind_a_router_by_udp(site: tuple[RunningSite, Asker]) -> None:
    _, asker = site
    found = ask_all(asker, "10.99.0.100", 68)
    must_be_answers(found, "10.99.0.100", 68)


def test_after_all_workers_were_killed(site: tuple[RunningSite, Asker]) -> None:
    """The sockets are the supervisor's: what came meanwhile is answered as well."""
    running, asker = site
    before = {worker["pid"] for worker in running.ctl("status")["workers"]}
    send_signal([pid for pid, words in running.processes() if words[-2] == "worker"])
    must_be_answers(ask_all(asker, "10.88.0.100", 68), "10.88.0.100", 68)
    status = running.await_status(lambda s: all(w["pid"] and w["pid"] not in before for w in s["workers"]), GONE_S)
    assert status["boot_port"] == {"port": 4011, "state": "open", "reason": None}


def test_an_offer_without_address_comes_from_port_67(site: tuple[RunningSite, Asker]) -> None:
    _, asker = site
    (one,) = asker.ask("sv", discover(FIRST_MAC, options=ROM), 0, 68, 0xFFFFFFFF)
    said = Parsed.of(one.payload)
    assert (one.source_port, one.destination, one.port, said.yiaddr) == (67, 0xFFFFFFFF, 68, "0.0.0.0")
    assert said.file.rstrip(b"\0") == b"/pxelinux.0"


def test_the_recorder_and_the_counters_tell_the_ports_apart(site: tuple[RunningSite, Asker]) -> None:
    running, asker = site
    count = running.ctl("status")["counters"].get("ACKED_BOOT", 0)
    must_be_answers(ask_all(asker, "10.88.0.100", 68), "10.88.0.100", 68)
    assert running.ctl("status")["counters"]["ACKED_BOOT"] == count + HOSTS
    records = running.ctl("recent", "--packets")["records"]
    assert {(record["verdict"], record["port"]) for record in records} >= {("ACKED_BOOT", 4011), ("OFFERED", 67)}


def taken(running: RunningSite) -> list[int]:
    return [worker["rx"] for worker in running.ctl("status")["workers"]]


HOLD = """
import signal, socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("", 4011))
print("held", flush=True)
signal.pause()
"""


def test_a_port_that_somebody_has_stays_his_and_dhcp_is_served() -> None:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="sv", a_addr=f"{SERVER}/24", b_addr="10.88.0.2/24")
        holder: Process = server.popen([sys.executable, "-c", HOLD])
        holder.wait_for("held", GONE_S)
        with (
            running_site(server, host_file(), HOSTS + 1, 1) as running,
            Asker(client, server, ("sv",), SENTINEL, "sv") as asker,
        ):
            status: dict[str, Any] = running.ctl("status")
            assert status["boot_port"]["state"] == "failed"
            assert "belongs to another program" in status["boot_port"]["reason"]
            (offer,) = asker.ask("sv", discover(FIRST_MAC, options=ROM), 0, 68, 0xFFFFFFFF)
            assert Parsed.of(offer.payload).option(54) == quad(SERVER)
            packet = request(FIRST_MAC, ciaddr="10.88.0.100", options=ROM)
            asker.send("sv", packet, ip("10.88.0.100"), 68, ip(SERVER), to_port=4011)
            assert asker.settle() == []
            assert running.server is not None and "UDP port 4011 belongs to another program" in running.server.log()
