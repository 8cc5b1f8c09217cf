"""A server and the generator on one machine: two laboratory hosts on a wire, one core each.

server  sv 10.96.0.1/12  ------  cl 10.96.0.2, the first relay  generator; behind it 10.111.128.0 and on, the others
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from bench.engine.target import Population, Target, population
from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts, running_site
from bench.report.machine import cpu_s, dropped, pinned

NETWORK = IPv4Network("10.96.0.0/12")
SERVER, RELAY, FIRST_ADDRESS = "10.96.0.1", "10.96.0.2", int(IPv4Address("10.96.1.0"))
FIRST_MAC = 0x020000000000
HOSTS_MAX, RELAYS_MAX = 1_000_000, 1000
# Behind the first one, as relays are behind a router: so many neighbours on one wire would overflow the kernel's table
# (net.ipv4.neigh.default.gc_thresh3, 1024), which no site does.  No host has an address up there.
OTHER_RELAYS = IPv4Network("10.111.128.0/17")


@dataclass(frozen=True, slots=True)
class Stage:
    """server, client: laboratory hosts; cores: (the server's, the generator's)."""

    server: Host
    client: Host
    cores: tuple[int, int]
    target: Target
    site: RunningSite | None = None  # ours, where it runs

    def service(self) -> dict[str, float]:
        """What the server's processes and sockets used and lost so far: CPU seconds, datagrams without room."""
        return {"cpu_s": cpu_s(self.server), "dropped": dropped(self.server)}

    def since(self, before: dict[str, float]) -> dict[str, Any]:
        """The same, from an earlier `service()` to now."""
        return {name: round(value - before[name], 2) for name, value in self.service().items()}


def two_cores() -> tuple[int, int]:
    """The server's core and the generator's; the same twice where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[1 % len(cores)]


def invented(hosts: int, relays: int = 1) -> Population:
    """MACs and addresses counted up, as `many_hosts` writes them into an inventory."""
    return population(range(FIRST_MAC, FIRST_MAC + hosts), range(FIRST_ADDRESS, FIRST_ADDRESS + hosts), relays)


@contextmanager
def two_hosts(relays: int = 1) -> Iterator[Stage]:
    """A laboratory with the wire, and nothing on the server yet."""
    if not 1 <= relays <= RELAYS_MAX:
        raise ValueError(f"{relays} relays, wanted 1 to {RELAYS_MAX}")
    others = [str(OTHER_RELAYS.network_address + i) for i in range(1, relays)]
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        prefix = NETWORK.prefixlen
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/{prefix}", b_addr=f"{RELAY}/{prefix}")
        if others:
            client.ip(*(f"address add {giaddr}/32 dev cl" for giaddr in others))
            server.route(str(OTHER_RELAYS), RELAY)
        yield Stage(server, client, two_cores(), Target(SERVER, (RELAY, *others), host=client))


@contextmanager
def own_site(
    people: Population,
    relays: int = 1,
    workers: int = 1,
    *,
    environment: Mapping[str, str] | None = None,
    **dhcp: Any,
) -> Iterator[Stage]:
    """Our own server with these hosts in its inventory, all of it on the first core.

    environment, dhcp: what the service gets besides, and keys of its configuration."""
    network = f"{NETWORK.network_address}/{NETWORK.netmask}/{SERVER}"
    macs = [int.from_bytes(mac, "big") for mac in people.macs]
    with two_hosts(relays) as stage, pinned(stage.cores[0]):
        file = many_hosts(len(macs), network, FIRST_ADDRESS, FIRST_MAC)
        if macs != list(range(FIRST_MAC, FIRST_MAC + len(macs))):
            file = _named(file, macs)
        with running_site(stage.server, file, len(macs), workers=workers, environment=environment, **dhcp) as site:
            yield replace(stage, site=site)


def _named(host_file: str, macs: list[int]) -> str:
    """The host file with other MACs, in order."""
    content = json.loads(host_file)
    for host, mac in zip(content["hosts"], macs, strict=True):
        host["mac"] = mac.to_bytes(6, "big").hex(":")
    return json.dumps(content)


@contextmanager
def echo_server(stage: Stage, *, bare: bool, reply_bytes: int) -> Iterator[None]:
    """The echo (bench/engine/echo.pyx) in the server's place, on its core."""
    command = [
        sys.executable,
        "-m",
        "bench.engine.echo_server",
        SERVER,
        "bare" if bare else "full",
        str(reply_bytes),
        RELAY,
    ]
    with pinned(stage.cores[0]):
        process = stage.server.popen(command, env=ENVIRONMENT)
    try:
        process.wait_for("ready", 20.0)
        yield
    finally:
        process.stop()


def server_used(stage: Stage | None, before: dict[str, float]) -> dict[str, Any]:
    """What our own server used; nothing is known of somebody else's."""
    return {"server_used": stage.since(before)} if stage is not None else {}
