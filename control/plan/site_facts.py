"""What the site knows of itself, as the table holds it: configuration, interfaces, networks.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ext.builder import Surroundings

from control.config.bmc import rules
from control.config.config import Dhcp


def surroundings(
    dhcp: Dhcp,
    networks: Iterable[tuple[int, int]],
    links: Iterable[tuple[Any, ...]],
    shared: Iterable[tuple[int, int, int]],
) -> Surroundings:
    """networks: (first, last) of the inventory's IP managers.  links: (ifindex, address, prefix, mtu, served).  shared:
    (first, last, group) of networks on one link."""
    return Surroundings(
        networks=tuple(networks),
        shared=tuple(shared),
        links=tuple(links),
        interfaces_limited=bool(dhcp.interfaces),
        server_id=int(dhcp.server_id) if dhcp.server_id else 0,
        server_ids=tuple(int(address) for address in dhcp.server_ids),
        relays=tuple((int(relay.network_address), relay.prefixlen) for relay in dhcp.relays),
        max_nak_age_s=int(dhcp.max_nak_age),
        bootp=dhcp.bootp,
        rules=rules(dhcp.update_ipmi, dhcp.bmc_rules),
        classes=dhcp.classes,
    )
