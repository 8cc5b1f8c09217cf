"""dhcp.io = xdp on a veth: the same answers as by sockets, exactly once, nothing lost, nobody else disturbed."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts, running_site, send_signal
from tests.netns.under_load.test_faults import Load, account, await_change, hang, local_pid, settled, slots, upgrade

pytestmark = pytest.mark.netns

HOSTS, TURNS = 500, 10
SERVER, RELAY, NETWORK = "10.88.0.1", "10.88.0.2", "10.88.0.0/255.255.0.0/10.88.0.1"
FIRST = (10 << 24) + (88 << 16) + (1 << 8)
FIRST_ADDRESS = "10.88.1.0"


@contextmanager
def wire() -> Iterator[tuple[Host, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("bpf(2) needs root, which a user namespace does not give")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
        yield server, client


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server without a service yet, and a client."""
    with wire() as both:
        yield both


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[RunningSite, Host]]:
    rows = many_hosts(HOSTS, NETWORK, FIRST, 0x020000000000)
    with wire() as (server, client), running_site(server, rows, HOSTS, io="xdp", interfaces=["sv"]) as running:
        assert running.server is not None
        status = running.ctl("status")
        assert (status["io"], status["io_reason"]) == ("xdp", None), running.server.log()
        yield running, client


def crowd(client: Host, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.engine.crowd", "--server", SERVER, "--hosts", str(HOSTS)]
    command += ["--first-address", FIRST_ADDRESS, *arguments]
    return dict(json.loads(client.run(command, timeout=60.0, env=ENVIRONMENT).stdout))


def by_sockets(host: Host) -> int:
    """Datagrams that the kernel's UDP has taken in or sent out on the host."""
    snmp = Path(f"/proc/{host.pid}/net/snmp").read_text()
    names, values = re.findall(r"^Udp: (.*)$", snmp, re.MULTILINE)
    found = dict(zip(names.split(), map(int, values.split()), strict=True))
    return found["InDatagrams"] + found["OutDatagrams"]


def received(running: RunningSite) -> list[int]:
    return [worker["rx"] for worker in running.ctl("status")["workers"]]


def latencies(running: RunningSite) -> list[int]:
    """How many waits and answers are in the workers' histograms."""
    totals = running.ctl("status")["latency"]["totals"]
    return [sum(totals[name]["counts"]) for name in ("wait", "answer")]


def program_of(host: Host) -> bool:
    return "prog/xdp" in host.run(["ip", "link", "show", "sv"]).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--ifname", "cl", "--most", "200"], id="direct"),
        pytest.param(["--ifname", "cl", "--most", "200", "--broadcast-flag"], id="direct-broadcast-flag"),
        pytest.param(["--ifname", "cl", "--most", "1000", "--mix"], id="direct-mix"),
        pytest.param(["--giaddr", RELAY, "--most", "1000", "--mix", "--rate", "3000"], id="relayed"),
    ],
)
def test_answered_once_by_both_workers_past_the_kernel(site: tuple[RunningSite, Host], arguments: list[str]) -> None:
    running, client = site
    before, sockets, observed = received(running), by_sockets(running.host), latencies(running)
    figures = crowd(client, *arguments)
    most = int(arguments[arguments.index("--most") + 1])
    assert (figures["answered"], figures["twice"], figures["wrong"]) == (most, 0, 0), figures
    shares = [after - was for after, was in zip(received(running), before, strict=True)]
    assert sum(shares) == most and min(shares) > most / 8, shares
    assert by_sockets(running.host) == sockets, "nothing went through the kernel's UDP"
    assert latencies(running) == [was + most for was in observed], "the program's stamps tell how long they waited"


PING = f"""
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(5)
for number in range(200):
    text = struct.pack("!BBHHH", 8, 0, 0, 77, number) + bytes(1400)
    total = sum(struct.unpack("!704H", text))
    total = (total & 0xFFFF) + (total >> 16)
    s.sendto(text[:2] + struct.pack("!H", ~total & 0xFFFF) + text[4:], ("{SERVER}", 0))
    while True:
        got = s.recv(2000)[20:]
        if got[0] == 0 and got[4:] == text[4:]:
            break
"""


def test_other_traffic_is_undisturbed_meanwhile(site: tuple[RunningSite, Host]) -> None:
    running, client = site
    listen = "import socket; s = socket.create_server(('', 8080)); print('ready', flush=True); c = s.accept()[0]\n"
    server = running.host.popen([sys.executable, "-c", listen + "while d := c.recv(65536): c.sendall(d)"])
    server.wait_for("ready", 10.0)
    load = Load(client)
    try:
        client.run([sys.executable, "-c", PING], timeout=30.0)
        echo = (
            f"import socket; c = socket.create_connection(('{SERVER}', 8080)); d = bytes(range(256)) * 256; got = b''\n"
            "for _ in range(40):\n"
            "    c.sendall(d); got = b''\n"
            "    while len(got) < len(d): got += c.recv(65536)\n"
            "    assert got == d\n"
        )
        client.run([sys.executable, "-c", echo], timeout=30.0)
    finally:
        figures = load.end()
        server.stop()
    account(figures, 100)


TAGGING = """
import signal, socket
from fastpath.sockets import bpf
from fastpath.sockets.bpf import R2, R3, R0
push = [bpf.alu(R2, "=", 0x0081), bpf.alu(R3, "=", 7), bpf.call(18), bpf.alu(R0, "=", -1), bpf.leave()]
link = bpf.link(bpf.load_program(3, push, name="tagging"), socket.if_nametoindex("cl"), where=47)
print("ready", flush=True)
signal.pause()
"""


def test_a_tag_of_another_network_is_not_answered(site: tuple[RunningSite, Host]) -> None:
    """On a veth the tag travels beside the frame, where a program that does not ask for it sees none."""
    running, client = site
    before = received(running)
    tagging = client.popen([sys.executable, "-c", TAGGING], env=ENVIRONMENT)
    try:
        tagging.wait_for("ready", 10.0)
        figures = crowd(client, "--ifname", "cl", "--most", "20")
        assert figures["answered"] == 0 and received(running) == before
    finally:
        tagging.stop()
    assert crowd(client, "--ifname", "cl", "--most", "20")["answered"] == 20


def test_what_is_odd_comes_by_the_sockets(site: tuple[RunningSite, Host]) -> None:
    """A datagram too long for a frame of ours: the program passes it, and a worker counts it."""
    running, client = site
    before = running.ctl("status")["counters"].get("IGNORED_TRUNCATED", 0)
    send = f"import socket; s = socket.socket(2, 2); s.sendto(bytes(4000), ('{SERVER}', 67))"
    client.run([sys.executable, "-c", send])
    running.await_status(lambda s: s["counters"].get("IGNORED_TRUNCATED", 0) == before + 1)


def test_a_damaged_datagram_is_not_answered(site: tuple[RunningSite, Host]) -> None:
    """The kernel would have looked at the checksum."""
    running, client = site
    before = running.ctl("status")["counters"]
    send = (
        "import socket; from bench.lab.tinyclient import request_frame\n"
        "frame = bytearray(request_frame(bytes.fromhex('020000000001'), 7, 0, bytes([53, 1, 1])))\n"
        "frame[40:42] = b'\\x12\\x34'\n"
        "s = socket.socket(17, 3); s.bind(('cl', 0)); s.send(frame)"
    )
    client.run([sys.executable, "-c", send], env=ENVIRONMENT)
    after = running.await_status(lambda s: s["counters"].get("IGNORED_CHECKSUM", 0) == 1)["counters"]
    assert after.get("OFFERED", 0) == before.get("OFFERED", 0)


ELSEWHERE = f"""
import socket
from bench.engine.crowd import Crowd
crowd = Crowd(hosts=10, first_mac=0x020000000000, step=1, first_address={FIRST}, server=0, giaddr=0x0a580003)
relay, giaddr = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
relay.bind(("{RELAY}", 67))
giaddr.bind(("10.88.0.3", 67))
giaddr.settimeout(5)
for number in range(10):
    relay.sendto(crowd.payload(number), ("{SERVER}", 67))
    crowd.sent_s.append(0)
    crowd.take(giaddr.recv(2000), 0)
assert len(crowd.answers) == 10 and not crowd.wrong, crowd.wrong
"""


def test_a_relay_with_two_addresses_is_answered_by_the_routes(site: tuple[RunningSite, Host]) -> None:
    """Its requests come from an address that is not giaddr: who that is, the kernel knows."""
    running, client = site
    before, sockets = received(running), by_sockets(running.host)
    client.ip("address add 10.88.0.3/16 dev cl")
    client.run([sys.executable, "-c", ELSEWHERE], timeout=60.0, env=ENVIRONMENT)
    assert sum(received(running)) - sum(before) == 10
    assert by_sockets(running.host) - sockets == 10, "in by XDP, out by the sockets"


@pytest.mark.parametrize("slot", [0, 1])
def test_killed_workers_lose_nothing(site: tuple[RunningSite, Host], slot: int) -> None:
    running, client = site
    load = Load(client)
    try:
        for _turn in range(TURNS):
            settled(running)
            pid = int(await_change(lambda: local_pid(running, slots(running)[slot]), bool, f"a worker in slot {slot}"))
            send_signal([pid])
            await_change(lambda pid=pid: os.path.exists(f"/proc/{pid}"), lambda there: not there, f"{pid} is gone")
        settled(running)
    finally:
        figures = load.end()
    account(figures)


def pool_of(running: RunningSite) -> int:
    """The memory of the only pool, by the supervisor's own descriptor."""
    folder = Path(f"/proc/{running.supervisor()}/fd")
    return os.open(next(fd for fd in folder.iterdir() if "bootstorm-xdp" in os.readlink(fd)), os.O_RDWR)


LOCK, TAKEN, ANSWERED = 64, 128, 136  # of slot 0's plain ring, in ext/xsk.pxd: Pool


def test_what_a_dead_worker_had_begun_is_answered_and_its_lock_released(site: tuple[RunningSite, Host]) -> None:
    """A worker that dies between two instructions, made by hand: it stands still while requests queue up, and its part
    of the pool then says that it had begun five of them and held the lock."""
    running, client = site
    settled(running)
    before = {worker["slot"]: worker["recovered"] for worker in running.ctl("status")["workers"]}
    pool = pool_of(running)
    command = [sys.executable, "-m", "bench.engine.crowd", "--server", SERVER, "--giaddr", RELAY, "--hosts", str(HOSTS)]
    command += ["--first-address", FIRST_ADDRESS, "--rate", "2000", "--most", "6000"]
    load = client.popen(command, env=ENVIRONMENT)
    load.wait_for("crowd: sending", 10.0)
    pid = local_pid(running, slots(running)[0])
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.05)  # a hundred requests, half of them for this worker; at 0.2 s it is killed
    (taken,) = struct.unpack("=I", os.pread(pool, 4, TAKEN))
    os.pwrite(pool, struct.pack("=I", taken + 5), TAKEN)
    os.pwrite(pool, struct.pack("=I", 1), LOCK)
    await_change(lambda: os.path.exists(f"/proc/{pid}"), lambda there: not there, "the stopped worker is gone")
    load.wait(30.0)
    figures = json.loads(load.log().strip().splitlines()[-1])
    assert (figures["answered"], figures["wrong"]) == (6000, 0), figures
    after = {worker["slot"]: worker["recovered"] for worker in running.ctl("status")["workers"]}
    assert after[0] - before[0] >= 5 and after[1] == before[1]
    assert os.pread(pool, 4, LOCK) == bytes(4)
    assert os.pread(pool, 4, TAKEN) == os.pread(pool, 4, ANSWERED)
    os.close(pool)


def test_a_hung_worker_is_replaced(site: tuple[RunningSite, Host]) -> None:
    hang(*site, 500)


def test_an_upgrade_in_place_loses_nothing(site: tuple[RunningSite, Host]) -> None:
    running, _client = site
    upgrade(*site, 2)
    assert running.ctl("status")["io"] == "xdp" and program_of(running.host)


def test_the_program_goes_with_the_supervisor(site: tuple[RunningSite, Host]) -> None:
    """The last of those with this site: it ends the service."""
    running, _client = site
    assert program_of(running.host)
    send_signal([running.supervisor()])
    await_change(lambda: program_of(running.host), lambda there: not there, "the program is gone")


def started(server: Host, **dhcp: Any) -> Any:
    return running_site(server, many_hosts(10, NETWORK, FIRST, 0x020000000000), 10, io="xdp", **dhcp)


def answers_by_sockets(running: RunningSite, client: Host, reason: str) -> None:
    assert running.server is not None
    status = running.ctl("status")
    assert status["io"] == "socket" and re.search(reason, status["io_reason"]), status["io_reason"]
    assert running.server.log().count("no XDP, sockets instead") == 1
    figures = crowd(client, "--ifname", "cl", "--hosts", "10", "--most", "10")
    assert (figures["answered"], figures["twice"], figures["wrong"]) == (10, 0, 0), figures


def test_an_interface_that_is_not_there(hosts: tuple[Host, Host]) -> None:
    server, client = hosts
    with started(server, interfaces=["sv", "none7"]) as running:
        answers_by_sockets(running, client, "names none7, which is not there")


def test_an_interface_without_queues(hosts: tuple[Host, Host]) -> None:
    server, client = hosts
    server.ip("link add br7 type bridge", "link set br7 up")
    try:
        with started(server, interfaces=["sv", "br7"]) as running:
            answers_by_sockets(running, client, r"br7 \(bridge\) has no receive queues of its own")
            assert not program_of(server), "all or none"
    finally:
        server.ip("link delete br7")


def test_stopping_takes_the_program_off(hosts: tuple[Host, Host]) -> None:
    server, _client = hosts
    with started(server, interfaces=["sv"]) as running:
        assert running.ctl("status")["io"] == "xdp" and program_of(server)
    assert not program_of(server)
