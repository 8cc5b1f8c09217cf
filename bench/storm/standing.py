"""The site of racks in a laboratory: bootstorm on one host, all its machines and relays on another, a core for each.

server  sv 10.100.0.1/16 ------ seg  client: the machines of row 0, in Ethernet frames
        uplink 10.99.0.1/24 --- cl client: the relays 10.101.0.1, 10.102.0.1, ... with the other rows behind them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from bench.engine.target import Target
from bench.lab.lab import Host, Lab
from bench.lab.site import ENVIRONMENT, INVENTORY, RunningSite
from bench.report.machine import pinned
from bench.rig.stage import two_cores
from bench.storm.racks import Machine, Site, contested, gateway_of, host_file, network_of

UPLINK, RELAYS = "10.99.0.1", "10.99.0.2"
ADDRESS_BIAS = 1 << 31  # clusto's: an address as a signed number
# What a person would do in clusto, who mistypes: an address in all of its spellings.
_CONTEST = """
import json, sys, urllib.parse, urllib.request
for url, address, number, cidr in json.load(sys.stdin):
    for what in ({"subkey": "ipstring", "value": address}, {"datatype": "int", "value": number},
                 {"subkey": "cidr", "value": cidr}):
        query = urllib.parse.urlencode({"key": "ip", "number": 0, **what})
        urllib.request.urlopen(f"{url}?{query}", timeout=60).read()
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Machines that ask the same way.  numbers: of the machines; relays: of each, which of target.giaddrs."""

    target: Target
    numbers: list[int]
    relays: list[int]


@dataclass(frozen=True, slots=True)
class Standing:
    """A service that answers for a site; cores: the service's and the machines'."""

    site: Site
    service: RunningSite
    parts: list[Part]
    cores: tuple[int, int]


def parts_of(site: Site, client: Host) -> list[Part]:
    """On the segment, and behind the relays; only those that there are."""
    by_wire: tuple[list[Machine], list[Machine]] = ([], [])
    for machine in site.machines:
        by_wire[site.link_of(machine) != 0].append(machine)
    relays = tuple(gateway_of(row) for row in range(1, len(site.rows)))
    segment, relayed = ([machine.number for machine in some] for some in by_wire)
    parts = [Part(Target(gateway_of(0), ifname="seg", host=client), segment, [])] if segment else []
    if relayed:
        at = [site.link_of(machine) - 1 for machine in by_wire[1]]
        parts.append(Part(Target(UPLINK, relays, host=client), relayed, at))
    return parts


@contextmanager
def standing(
    site: Site, workers: int = 2, *, environment: Mapping[str, str] | None = None, **sections: Any
) -> Iterator[Standing]:
    """The service has read its inventory and answers, on a core of its own; it stops at the end.

    environment: what the service gets besides; sections: keys of `dhcp`, and `metrics`, as RunningSite takes them."""
    cores = two_cores()
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="seg", a_addr=f"{gateway_of(0)}/16", b_addr=f"{network_of(0)[2]}/16")
        lab.wire(server, client, a_if="uplink", b_if="cl", a_addr=f"{UPLINK}/24", b_addr=f"{RELAYS}/24")
        behind = range(1, len(site.rows))
        if behind:
            client.ip(*(f"address add {gateway_of(row)}/32 dev cl" for row in behind))
        for row in behind:
            server.route(str(network_of(row)), RELAYS)
        service = RunningSite(server, workers, **sections)
        service.environment |= environment or {}
        try:
            with pinned(cores[0]):
                service.fill(host_file(site))
                service.start_inventory()
                contest(server, contested(site))
                service.serve(site.served)
            yield Standing(site, service, parts_of(site, client), cores)
        finally:
            service.stop()


def contest(server: Host, pairs: Sequence[tuple[Machine, Machine]]) -> None:
    """Gives machines the addresses of others in the inventory, which keeps both."""
    rows = []
    for one, two in pairs:
        url, address = f"http://{INVENTORY}/server/{one.name}/setattr", str(IPv4Address(two.address))
        rows.append((url, address, two.address - ADDRESS_BIAS, f"{address}/16"))
    if rows:
        server.run([sys.executable, "-c", _CONTEST], timeout=120.0, text_in=json.dumps(rows), env=ENVIRONMENT)
