"""IP managers and the addresses that hosts have in them: what the inventory says -> numbers, or why not.  Pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import islice
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

from control.sources.model import Address, Thing, is_ipv6, name_of
from control.sources.reasons import OTHER, Reason

SUBNET_MASK, ROUTER, BROADCAST, ROUTES = 1, 3, 28, 121
SHARED = "shared"  # subkey of an IP manager's `dhcp`: the name that networks on one link have together
NOT_OF_A_NETWORK = {
    "enabled",
    "proxy",
    "boot-ports",
    "boot-ends",
    "12",
}  # what only a machine, or a container of machines, can say


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
    key: tuple[Any, ...]  # what else than a host and its containers decides about a template
    said: Mapping[str, Any] = {}  # contexts.Merged: its `dhcp` attributes
    payloads: Mapping[str, bytes | None] = {}  # the same, encoded
    group: str = ""  # of networks on one link

    @property
    def is_unnumbered(self) -> bool:
        """One address without a network around it: its router is outside, and it is routed to wherever its host is."""
        return self.first == self.last

    def takes(self, value: int) -> bool:
        """True for an address that a host may have here; check_usable() says why not."""
        top = value >> 24
        return self.first < value < self.last and value != self.router and 0 < top < 224 and top != 127

    def options(self) -> dict[int, bytes]:
        """Netmask and broadcast, and the gateway when there is one."""
        options = {SUBNET_MASK: self.network.netmask.packed}
        if not self.is_unnumbered:
            options[BROADCAST] = self.network.broadcast_address.packed
        if self.gateway is not None:
            options[ROUTER] = self.gateway.packed
        return options


def routes_on_link(router: bytes) -> bytes:
    """Option 121 of who has no network (RFC 3442): the router is on the link, all else behind it.

    A client that takes it ignores option 3; without the first route it could not reach a router outside its mask."""
    return bytes((32,)) + router + bytes(4) + bytes((0,)) + router


def is_of_ipv6(thing: Thing) -> bool:
    return is_ipv6(thing.first("baseip", "property"))


def read_manager(thing: Thing) -> Manager:
    """Without its options.  Raises BadRecord."""
    base, mask, gateway = (thing.first(key, "property") for key in ("baseip", "netmask", "gateway"))
    if base is None:
        raise BadRecord("IP manager without baseip: it says nothing about a network", "bad-network")
    try:
        network = IPv4Network((str(base), str(mask or "255.255.255.255")), strict=False)
        router = IPv4Address(str(gateway)) if gateway else None
        first, last = int(network.network_address), int(network.broadcast_address)
        number = int(router) if router else 0
        return Manager(network, router, first, last, number, (first, last, number))
    except ValueError as error:
        raise BadRecord(
            f"IP manager with baseip {quote(base)}, netmask {quote(mask)}, gateway {quote(gateway)}: "
            f"{str(error)[:120]}",
            "bad-network",
        ) from error


def with_options(
    manager: Manager, said: Mapping[str, Any], payloads: Mapping[str, bytes | None], attributes: object
) -> Manager:
    """attributes: as the inventory has them; others are another key."""
    if not said:
        return manager
    digest = hashlib.blake2b(repr(attributes).encode("utf-8", "backslashreplace"), digest_size=16).digest()
    return manager._replace(said=said, payloads=payloads, key=(*manager.key, digest))


def shared_networks(
    managers: Mapping[str, Manager], blame: Callable[[str, str], None], whole: bool
) -> list[tuple[int, int, int]]:
    """(first, last, group) of networks that share a link, disjoint and sorted.  managers: by path.

    whole: no other IP manager can have been left unread.  A network with another one in it that is not of its group is
    left out: of an address in both nobody could say on which link it is."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    ordered = sorted(managers.values(), key=lambda each: (each.first, -each.last))
    firsts = [each.first for each in ordered]
    members = Counter(each.group for each in ordered)
    for path, manager in managers.items():
        if not manager.group:
            continue
        other = stranger_within(manager, ordered, firsts)
        if other is None:
            ranges.setdefault(manager.group, []).append((manager.first, manager.last))
            if whole and members[manager.group] == 1:
                blame(name_of(path), f"dhcp {SHARED} = {quote(manager.group)}: no other network has this group")
            continue
        whose = f"of group {quote(other.group)}" if other.group else "of no group"
        blame(
            name_of(path),
            f"dhcp {SHARED} = {quote(manager.group)} is not used: {manager.network} has {other.network} in it, {whose}",
        )
    return sorted((*span, group_number(group)) for group, spans in ranges.items() for span in union(spans))


def stranger_within(manager: Manager, ordered: Sequence[Manager], firsts: Sequence[int]) -> Manager | None:
    """A network inside another, or the same, that is not of its group.  ordered: by their first address."""
    for other in islice(ordered, bisect_left(firsts, manager.first), None):
        if other.first > manager.last:
            break
        if other.last <= manager.last and other.group != manager.group:
            return other
    return None


def union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of networks, of which one may be a part of another."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not found or last > found[-1][1]:
            found.append((first, last))
    return found


def group_number(name: str) -> int:
    """The same over all refreshes; never 0."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8).digest()) or 1


def kept_shared(
    former: Iterable[tuple[int, int, int]], now: Iterable[tuple[int, int, int]], networks: Iterable[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """As they are now, with those of before in whose place no network is known now: their IP manager may be one that
    cannot be read."""
    known = union(networks)
    firsts = [first for first, _last in known]

    def is_known(first: int, last: int) -> bool:
        at = bisect_right(firsts, last) - 1
        return at >= 0 and known[at][1] >= first

    return sorted([*now, *(one for one in former if not is_known(one[0], one[1]))])


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
