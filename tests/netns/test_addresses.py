"""Thousands of interface addresses: more than one message holds; a cold start serves, and every change is followed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts

pytestmark = pytest.mark.netns

HOSTS, ADDRESSES = 3, 5_000
SERVER, RELAY, NETWORK = "10.88.0.1", "10.88.0.2", "10.88.0.0/255.255.0.0/10.88.0.1"
FIRST = (10 << 24) + (88 << 16) + (1 << 8)


def many_addresses(verb: str, count: int) -> list[str]:
    return [f"address {verb} 172.16.{number // 250}.{number % 250 + 1}/32 dev lo" for number in range(count)]


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
        yield server, client


def answered(client: Host) -> int:
    """Of 20 requests of a relay."""
    command = [sys.executable, "-m", "bench.engine.crowd", "--server", SERVER, "--giaddr", RELAY, "--mix"]
    command += ["--hosts", str(HOSTS), "--first-address", "10.88.1.0", "--rate", "100", "--most", "20"]
    done = client.run(command, env=ENVIRONMENT)
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["wrong"] == figures["unanswered"] == 0, figures
    return int(figures["answered"])


def test_a_cold_start_with_5000_addresses_serves_and_follows_their_changes(hosts: tuple[Host, Host]) -> None:
    server, client = hosts
    server.ip(*many_addresses("add", ADDRESSES))
    site = RunningSite(server)
    site.fill(many_hosts(HOSTS, NETWORK, FIRST, 0x020000000000))
    site.start_inventory()
    try:
        site.serve(HOSTS)
        assert answered(client) == 20
        assert site.await_status(lambda _: True)["restarts"]["control"] == 0
        assert site.ctl("explain", "02:00:00:00:00:00")["networks"][0]["groups"], "asked from the first network"

        server.ip(*many_addresses("delete", ADDRESSES))
        server.ip(f"address delete {SERVER}/16 dev sv", f"address add {SERVER}/15 dev sv")
        before = site.await_status(lambda status: status["generation"] > 1)["generation"]
        server.ip(*many_addresses("add", ADDRESSES))
        after = site.await_status(lambda status: status["generation"] > before)
        assert answered(client) == 20
        assert after["restarts"]["control"] == 0
        assert after["generation"] - before < 50, "5,000 changes are told in a few messages"
    finally:
        site.stop()
