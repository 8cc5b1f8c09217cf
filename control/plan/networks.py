"""IP managers and the addresses that hosts have in them: what the inventory says -> numbers, or why not.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

from control.sources.model import Address, Thing
from control.sources.reasons import OTHER, Reason

SUBNET_MASK, ROUTER, BROADCAST = 1, 3, 28


class BadRecord(Exception):
    """This host cannot be answered; the text is the reason that the operator reads.  kind, about: of that Reason."""

    def __init__(self, text: str, kind: str = OTHER, about: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.reason = Reason(text, kind, about)


class Manager(NamedTuple):
    """An IP manager.  The ints say again what the objects say: hosts are many, and ipaddress is slow."""

    network: IPv4Network
    gateway: IPv4Address | None
    first: int
    last: int
    router: int

    @property
    def key(self) -> tuple[int, int, int]:
        return self.first, self.last, self.router

    def takes(self, value: int) -> bool:
        """True for an address that a host may have here; check_usable() says why not."""
        top = value >> 24
        return self.first < value < self.last and value != self.router and 0 < top < 224 and top != 127

    def options(self) -> dict[int, bytes]:
        """Netmask and broadcast, and the gateway when there is one."""
        options = {SUBNET_MASK: self.network.netmask.packed, BROADCAST: self.network.broadcast_address.packed}
        if self.gateway is not None:
            options[ROUTER] = self.gateway.packed
        return options


def read_manager(thing: Thing) -> Manager:
    base, mask, gateway = (thing.first(key, "property") for key in ("baseip", "netmask", "gateway"))
    if base is None:
        raise BadRecord("IP manager without baseip: it says nothing about a network", "bad-network")
    try:
        network = IPv4Network((str(base), str(mask or "255.255.255.255")), strict=False)
        router = IPv4Address(str(gateway)) if gateway else None
        first, last = int(network.network_address), int(network.broadcast_address)
        return Manager(network, router, first, last, int(router) if router else 0)
    except ValueError as error:
        raise BadRecord(
            f"IP manager with baseip {quote(base)}, netmask {quote(mask)}, gateway {quote(gateway)}: "
            f"{str(error)[:120]}",
            "bad-network",
        ) from error


def quote(value: Any) -> str:
    """As a reason quotes it: escaped, and short whatever stands in the inventory."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def quick_address(text: str) -> int | None:
    """Dotted quad -> int; None for everything that IPv4Address refuses too."""
    try:
        return int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):
        return None


def parse_address(address: Address) -> IPv4Address:
    try:
        value = IPv4Address(address.text)
    except AddressValueError as error:
        raise BadRecord(
            f"address {quote(address.text)} (ip number {address.number}) is no IPv4 address", "bad-address"
        ) from error
    if address.other is not None and address.other != address.text:
        raise BadRecord(
            f"address {value} (ip number {address.number}) is {address.other} in the same record: which one is meant?",
            "bad-address",
        )
    return value


def manager_of(address: Address, value: IPv4Address, managers: dict[str, Manager]) -> Manager:
    """The manager that the record names, or else the only one that contains the address.  Raises BadRecord."""
    if address.manager is not None:
        manager = managers.get(address.manager)
        if manager is None:
            raise BadRecord(f"address {value}: its manager {address.manager} is not usable", "no-network")
        if value not in manager.network:
            raise BadRecord(f"address {value} lies outside its manager's network {manager.network}", "no-network")
        return manager
    fitting = [manager for manager in managers.values() if value in manager.network]
    if len(fitting) != 1:
        raise BadRecord(
            f"address {value} has no manager, and {len(fitting)} managers contain it; wanted 1", "no-network"
        )
    return fitting[0]


def check_usable(value: IPv4Address, manager: Manager) -> None:
    """Raises BadRecord for an address that no host can have, or that would take the router's."""
    network = manager.network
    if (
        value.is_loopback
        or value.is_multicast
        or value.is_unspecified
        or int(value) >> 28 == 15
        or int(value) >> 24 == 0
    ):
        raise BadRecord(f"address {value} is not an address of a host", "bad-address")
    if network.prefixlen < 31 and value in (network.network_address, network.broadcast_address):
        raise BadRecord(f"address {value} is the network or broadcast address of {network}", "bad-address")
    if value == manager.gateway:
        raise BadRecord(f"address {value} is the gateway of {network}", "gateway-address")


def claimed(addresses: Iterable[Address]) -> set[int]:
    """Every address that a record holds in whatever way: nobody else may be given it."""
    texts = [text for address in addresses for text in (address.text, address.other) if text is not None]
    return {value for value in map(quick_address, texts) if value is not None}
