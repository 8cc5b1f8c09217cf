"""Addresses that no new server may get although the inventory has them bound to nobody: ours, server ids, relays.

A relay is known by the giaddr of what it forwards, which anybody can forge: at worst an address stays free.  Bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any, Final

from control.config.config import Dhcp

RELAYS_MAX: Final = 4_096
REFUSED: Final = frozenset({"IGNORED_GIADDR", "IGNORED_RELAY"})  # it can be no relay, or dhcp.relays leaves it out
STRANGERS: Final = "IGNORED_UNKNOWN_MAC"


class Reserved:
    def __init__(self) -> None:
        self.links: dict[int, str] = {}  # address -> interface
        self.of_hosts: OrderedDict[int, None] = OrderedDict()  # giaddrs; the longest unseen first
        self.of_strangers: OrderedDict[int, None] = OrderedDict()

    def follow(self, links: Iterable[tuple[int, str]]) -> None:
        """(address, interface) of this machine, all of them."""
        self.links = dict(links)

    def note(self, event: Mapping[str, Any]) -> None:
        """A worker's event (ext/page.pyx): by which relay it came."""
        giaddr = event["giaddr"]
        if not giaddr or event["verdict"] in REFUSED:
            return
        seen = self.of_strangers if event["verdict"] == STRANGERS else self.of_hosts
        seen[giaddr] = None
        seen.move_to_end(giaddr)
        if len(seen) > RELAYS_MAX:
            seen.popitem(last=False)

    def word(self, address: int, config: Dhcp) -> str:
        """What has the address; "" for nothing."""
        if address in self.links:
            return f"this machine's, on {self.links[address]}"
        found = IPv4Address(address)
        if found == config.server_id or found in config.server_ids:
            return "a server id of ours (dhcp.server_id, dhcp.server_ids)"
        if any(network.prefixlen == 32 and found in network for network in config.relays):
            return "a relay of dhcp.relays"
        return "a relay, by the giaddr of requests" if address in self.of_hosts or address in self.of_strangers else ""
