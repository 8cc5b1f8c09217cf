"""One delivery each: with several workers, a broadcast is answered once and a single relay reaches all of them.

Plain SO_REUSEPORT does neither (measured before the project began: 4 OFFERs for one DISCOVER, all of a relay to one).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts, running_site

pytestmark = pytest.mark.netns

WORKERS = 4
HOSTS = 1000
SERVER, RELAY, NETWORK = "10.88.0.1", "10.88.0.2", "10.88.0.0/255.255.0.0/10.88.0.1"
FIRST_ADDRESS = "10.88.1.0"
SITES = {1: 0x020000000000, 4: 0x020100000000, 16: 0x020200000000}  # step between MACs -> first MAC


def host_file() -> str:
    """One set of hosts for each step, each with addresses of its own."""
    parts = [json.loads(many_hosts(HOSTS, NETWORK, first_address(step), SITES[step], step)) for step in SITES]
    for step, part in zip(SITES, parts, strict=True):
        for row in part["hosts"]:
            row["name"] += f"-{step}"
    merged = parts[0] | {"hosts": [row for part in parts for row in part["hosts"]]}
    return json.dumps(merged)


def first_address(step: int) -> int:
    return (10 << 24) + (88 << 16) + (1 << 8) + list(SITES).index(step) * 0x1000


def dotted(address: int) -> str:
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[RunningSite, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
        with running_site(server, host_file(), HOSTS * len(SITES), WORKERS) as running:
            yield running, client


def crowd(client: Host, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.engine.crowd", "--server", SERVER, *arguments]
    return dict(json.loads(client.run(command, timeout=60.0, env=ENVIRONMENT).stdout))


def received(running: RunningSite) -> list[int]:
    return [worker["rx"] for worker in running.ctl("status")["workers"]]


@pytest.mark.parametrize("flag", ["broadcast", "unicast"])
def test_a_broadcast_is_answered_once(site: tuple[RunningSite, Host], flag: str) -> None:
    running, client = site
    before = received(running)
    arguments = ["--ifname", "cl", "--hosts", "100", "--most", "100", "--first-address", FIRST_ADDRESS]
    figures = crowd(client, *arguments, *(["--broadcast-flag"] if flag == "broadcast" else []))
    assert (figures["answered"], figures["twice"], figures["wrong"]) == (100, 0, 0), figures
    assert sum(received(running)) - sum(before) == 100, "each DISCOVER is one delivery to one worker"


@pytest.mark.parametrize("step", SITES)
def test_one_relay_reaches_all_workers(site: tuple[RunningSite, Host], step: int) -> None:
    running, client = site
    before = received(running)
    figures = crowd(
        client, "--giaddr", RELAY, "--hosts", str(HOSTS), "--most", str(HOSTS), "--rate", "3000", "--mix",
        "--first-mac", SITES[step].to_bytes(6, "big").hex(":"), "--step", str(step),
        "--first-address", dotted(first_address(step)),
    )  # fmt: skip
    assert (figures["answered"], figures["twice"], figures["wrong"]) == (HOSTS, 0, 0), figures
    shares = [after - was for after, was in zip(received(running), before, strict=True)]
    assert sum(shares) == HOSTS
    assert min(shares) >= HOSTS / WORKERS / 2, f"shares of the workers at step {step}: {shares}"
