"""A relay whose path has a smaller MTU than ours: a long reply arrives, at its first try, in pieces."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import RunningSite, running_site
from tests.ext.packets import OFFER, Parsed

pytestmark = pytest.mark.netns

CASES = Path(__file__).parents[1] / "data" / "cases"
SERVER, RELAY = "10.30.0.1", "10.99.1.1"
PATH_MTU = 576

ASK = """
import socket, sys
relay, server, *requests = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((relay, 67))
    sock.settimeout(5)
    for request in requests:
        sock.sendto(bytes.fromhex(request), (server, 67))
    for _ in requests:
        print(sock.recvfrom(4096)[0].hex())
"""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """server - router - relay; the router's way to the relay is the narrow one."""
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, router, relay = lab.host("server"), lab.host("router"), lab.host("relay")
        lab.wire(server, router, a_if="sv", b_if="near", a_addr=f"{SERVER}/24", b_addr="10.30.0.2/24")
        lab.wire(router, relay, a_if="far", b_if="rl", a_addr="10.99.1.2/24", b_addr=f"{RELAY}/24")
        server.no_offload("sv")
        router.no_offload("near", "far")
        router.sysctl("net.ipv4.ip_forward", 1)
        for host, ifname in ((router, "far"), (relay, "rl")):
            host.ip(f"link set {ifname} mtu {PATH_MTU}")
        server.route("10.99.1.0/24", "10.30.0.2")
        relay.route("10.30.0.0/24", "10.99.1.2")
        yield server, relay


@pytest.mark.parametrize("io", ["sockets", "xdp"])
def test_a_long_reply_arrives_at_the_first_try(hosts: tuple[Host, Host], io: str) -> None:
    server, relay = hosts
    dhcp: dict[str, Any] = {"io": io, "interfaces": ["sv"]} if io == "xdp" else {}
    request = bytes.fromhex((CASES / "16-big-reply-relayed.hex").read_text())
    others = [request[:4] + number.to_bytes(4, "big") + request[8:] for number in range(1, 9)]
    with running_site(server, (CASES / "16-hosts.yaml").read_text(), 1, 1, **dhcp) as running:
        assert running.ctl("status")["io"] == io or io == "sockets", running.server.log()
        (reply,) = asked(relay, request)
        must_be_whole(reply, request)
        for reply, other in zip(sorted(asked(relay, *others), key=lambda one: one[4:8]), others, strict=True):
            must_be_whole(reply, other)
        assert sent(running) == 9, "each was sent once"


def asked(relay: Host, *requests: bytes) -> list[bytes]:
    """What came back, as long as each is answered within 5 s."""
    said = relay.run([sys.executable, "-c", ASK, RELAY, SERVER, *(each.hex() for each in requests)], timeout=20)
    return [bytes.fromhex(line) for line in said.stdout.split()]


def must_be_whole(reply: bytes, request: bytes) -> None:
    said = Parsed.of(reply)
    assert (said.kind, said.yiaddr, said.giaddr) == (OFFER, "10.99.1.11", RELAY)
    assert reply[4:8] == request[4:8] and len(reply) > 2 * PATH_MTU
    assert {224, 225, 226, 227} <= set(said.codes) and said.codes[-1] == 82


def sent(running: RunningSite) -> int:
    return sum(worker["tx"] for worker in running.ctl("status")["workers"])
