"""A Site -> rows of a host file: names, pools, which value stands where.  Pure.

What all networks tell alike stands once, on the pool that every host is in.  That is the same: pools count before
networks here, and groups, which are pools below it, before that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from control.importers.kinds import EVERYBODY, HTTP_BOOT, ROM_OF, PerKind, Said, Value
from control.importers.site import NOWHERE, Group, Host, Inside, Network, Place, Site
from control.importers.values import BOOT_FILE, BOOT_SERVER, ROUTER, is_address, is_host_name
from control.mac import parse_mac

ROOT_NAME: Final = "imported"
SEPARATOR: Final = "--"
NAME_CHARS_MAX: Final = 128
URLS: Final = ("http://", "https://")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NOT_A_NETWORK_S: Final = ("hostname", "enabled", "proxy")
_NOT_IN_HOST_NAMES: Final = re.compile(r"[^A-Za-z0-9.]+")
Attributes = dict[str, Value]


@dataclass(slots=True)
class Rows:
    """What stands in the file.  hosts: fields of each, made one by one."""

    networks: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    hosts: list[dict[str, Any]] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)


class Names:
    """One name for each object: clusto has one space of names for all of them."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def take(self, wanted: str) -> str:
        base = _NOT_IN_NAMES.sub("-", wanted).strip("-")[: NAME_CHARS_MAX - 8] or "unnamed"
        name, number = base, 1
        while name in self.taken:
            number += 1
            name = f"{base}-{number}"
        self.taken.add(name)
        return name


class Build:
    def __init__(
        self, site: Site, with_classes: bool, heard: Callable[[int, int], None] = lambda _done, _total: None
    ) -> None:
        """with_classes: a services.conf with dhcp.classes is written as well; else nothing is said to a class of it."""
        self.site = site
        self.with_classes = with_classes
        self.kinds = site.kinds
        self.notes = site.notes
        self.heard = heard
        self.names = Names()
        self.rows = Rows()
        self.pool_of: dict[Group, str] = {}
        self.above: dict[str, set[str]] = {}  # option -> classes to which networks and the root say something
        self.above_of: dict[Group | None, dict[str, set[str]]] = {}
        self.bound: set[IPv4Address] = set()
        self.gateways: dict[IPv4Network, IPv4Address | None] = {}

    def build(self) -> Rows:
        networks = self.networks()
        hosts = self.joined_hosts(networks)
        self.bound = {each for host in hosts for each in host.addresses}
        root, rest = self.hoisted(networks)
        for network in networks:
            self.rows.networks.append(self.network_row(network, rest[network.network]))
        root_name = self.names.take(ROOT_NAME)
        used = {group for host in hosts if host.group is not None for group in host.group.chain()}
        reserved = [(self.names.take(host.name), host) for host in hosts]
        self.rows.pools.append({"name": root_name, "dhcp": {"enabled": 1} | root})
        self.above_of[None] = self.above
        for group in self.in_order(used):
            self.pool_row(group, root_name)
        for done, (name, host) in enumerate(reserved):
            self.rows.hosts.append(self.host_row(name, host, root_name))
            if done % 1_000 == 0:
                self.heard(done, len(reserved))
        self.rows.classes = list(self.site_classes())
        return self.rows

    # --- networks ----------------------------------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        """By address, each once."""
        found: dict[IPv4Network, Network] = {}
        for network in self.site.networks:
            first = found.setdefault(network.network, network)
            if first is not network:
                text = f"{network.network}"
                self.notes.lost(network.place, text, f"it is declared on line {first.place.line} as well; that counts")
        shared: dict[str, int] = {}
        for network in found.values():
            if network.shared is not None:
                shared[network.shared] = shared.get(network.shared, 0) + 1
        for network in found.values():
            if network.shared is not None and shared[network.shared] < 2:
                network.shared = None
        return [found[key] for key in sorted(found)]

    def gateway(self, network: Network) -> IPv4Address | None:
        """The one router that everybody is told, where it is in the network; taken out of what is said then."""
        said = network.said.get(ROUTER)
        words = said.replace(",", " ").split() if isinstance(said, str) else []
        if len(words) != 1 or not is_address(words[0]):
            return None
        router = IPv4Address(words[0])
        if int(router) not in list_of_hosts(network.network) or router in self.bound:
            return None  # as an attribute; a network's gateway is no machine's address
        network.said = {option: value for option, value in network.said.items() if option != ROUTER}
        return router

    def hoisted(self, networks: list[Network]) -> tuple[Attributes, dict[IPv4Network, Said]]:
        """What the root says, and what is left to each network."""
        self.gateways = {network.network: self.gateway(network) for network in networks}
        rest = {}
        for network in networks:
            said = dict(network.said)
            for option in _NOT_A_NETWORK_S:
                if option in said:
                    del said[option]
                    self.notes.lost(network.place, option, "it is not a network's to say")
            for option, usual in (("subnet_mask", network.network.netmask),
                                  ("broadcast_address", network.network.broadcast_address)):  # fmt: skip
                if said.get(option) == str(usual):
                    del said[option]  # as it is sent anyway
            rest[network.network] = said
        common: Said = {}
        if rest:
            first, *others = rest.values()
            common = {
                option: value
                for option, value in first.items()
                if option != ROUTER and all(option in other and same(other[option], value) for other in others)
            }
        for said in rest.values():
            for option in common:
                del said[option]
        place = networks[0].place if networks else NOWHERE
        root = self.attributes(place, common | self.site.always, {})
        for said in rest.values():
            for option, value in said.items():
                classes, _ = self.kinds.classes(option, value)
                told = {name for name in classes if name != EVERYBODY and self.is_written(name)}
                self.above.setdefault(option, set()).update(told)
        self.note_classes(self.above, root)
        return root, rest

    def network_row(self, network: Network, said: Said) -> dict[str, Any]:
        gateway = self.gateways[network.network]
        dhcp = self.attributes(network.place, said, {})
        if network.shared is not None:
            dhcp["shared"] = network.shared
        base = str(network.network.network_address)
        self.names.taken.add(f"net-{base.replace('.', '-')}")
        row = {"base": base, "mask": str(network.network.netmask), "gateway": None if gateway is None else str(gateway)}
        return present(**row, dhcp=dhcp)

    # --- pools -------------------------------------------------------------------------------------------------------

    def in_order(self, groups: Iterable[Group]) -> list[Group]:
        """Wider ones first, those of one width as the file has them."""
        return sorted(groups, key=lambda group: (len(list(group.chain())), group.place, group.name))

    def pool_row(self, group: Group, root: str) -> None:
        """A group that says nothing is its parent."""
        parent = self.pool_of[group.parent] if group.parent is not None else root
        if not group.said:
            self.pool_of[group], self.above_of[group] = parent, self.above_of[group.parent]
            return
        above = self.above_of[group.parent]
        dhcp = self.attributes(group.place, group.said, above)
        name = self.pool_of[group] = self.names.take(group.name)
        self.above_of[group] = {option: set(classes) for option, classes in above.items()}
        self.note_classes(self.above_of[group], dhcp)
        self.rows.pools.append({"name": name, "pool": parent, "dhcp": dhcp})

    @staticmethod
    def note_classes(above: dict[str, set[str]], dhcp: Mapping[str, Any]) -> None:
        for key in dhcp:
            option, found, name = key.partition(SEPARATOR)
            if found:
                above.setdefault(option, set()).add(name)

    # --- hosts -------------------------------------------------------------------------------------------------------

    def joined_hosts(self, networks: list[Network]) -> list[Host]:
        """Those that are one machine are one row: with one MAC, or with one address."""
        inside = Inside(network.network for network in networks)
        kept: dict[str, Host] = {}
        by_address: dict[IPv4Address, Host] = {}
        found: list[Host] = []
        for host in self.site.hosts:
            host.addresses = tuple(each for each in host.addresses if self.is_usable(host, each, inside))
            host.macs = tuple(each for each in host.macs if self.is_card(host, each))
            if not host.addresses or not host.macs:
                continue
            same = next((kept[mac] for mac in host.macs if mac in kept), None)
            same = same or next((by_address[each] for each in host.addresses if each in by_address), None)
            if same is not None:
                self.join(same, host, kept)
            else:
                same = host
                found.append(host)
            for mac in same.macs:
                kept.setdefault(mac, same)
            for each in same.addresses:
                by_address.setdefault(each, same)
        for host in found:
            if len(host.addresses) > 1:
                self.keep_one_each(host, inside)
        return found

    def keep_one_each(self, host: Host, inside: Inside) -> None:
        """The first address of each network, as the old servers do."""
        kept: dict[IPv4Network | None, IPv4Address] = {}
        for address in host.addresses:
            first = kept.setdefault(inside.network(address), address)
            if first != address:
                self.notes.needless(host.place, f"host {host.name}: {address}", f"{first} of the same network is given")
        host.addresses = tuple(kept.values())

    def is_usable(self, host: Host, address: IPv4Address, inside: Inside) -> bool:
        """Named where it is not."""
        network = inside.network(address)
        why = ""
        if network is None:
            why = "it is in no network that is declared"
        elif network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
            why = f"it is the first or the last address of {network}"
        elif address.is_loopback or address.is_multicast or address.is_unspecified:
            why = "it is no address of a machine"
        if why:
            self.notes.lost(host.place, f"host {host.name}: {address}", why)
        return not why

    def is_card(self, host: Host, mac: str) -> bool:
        """Named where it is not."""
        if parse_mac(mac) is None:
            self.notes.lost(host.place, f"host {host.name}: {mac}", "it is no MAC address of a single card")
            return False
        return True

    def join(self, first: Host, other: Host, kept: Mapping[str, Host]) -> None:
        text = f"host {other.name}"
        if (first.said, first.group, first.enabled) != (other.said, other.group, other.enabled):
            why = "it has other options than that one, and one machine has one set of them"
            self.notes.lost(other.place, text, f"it shares MAC or address with host {first.name}: {why}")
            return
        if any(kept.get(mac, first) is not first for mac in other.macs):
            self.notes.lost(other.place, text, f"it has an address of host {first.name} and a MAC of another one")
            return
        first.macs = tuple(dict.fromkeys((*first.macs, *other.macs)))
        first.addresses = tuple(dict.fromkeys((*first.addresses, *other.addresses)))
        self.notes.needless(other.place, text, f"it is the same machine as host {first.name}, and one row with it")

    def host_row(self, name: str, host: Host, root: str) -> dict[str, Any]:
        dhcp = self.attributes(host.place, host.said, self.above_of[host.group]) if host.said else {}
        if len(host.macs) > 1:
            dhcp["boot_ports"] = "all"
        if not host.enabled:
            dhcp["enabled"] = 0
        hostname = host.hostname
        if hostname is None:  # then the row's name is sent, which clients have to take for one
            hostname = name if is_host_name(name) else _NOT_IN_HOST_NAMES.sub("-", name).strip("-.") or None
        if hostname is not None and not is_host_name(hostname):
            dhcp["hostname"], hostname = f"text:{hostname}", None
        elif hostname == name:
            hostname = None
        addresses = [str(each) for each in host.addresses]
        return present(
            name=name,
            mac=host.macs[0] if len(host.macs) == 1 else None,
            macs=list(host.macs) if len(host.macs) > 1 else None,
            address=addresses[0] if len(addresses) == 1 else None,
            addresses=addresses if len(addresses) > 1 else None,
            hostname=hostname,
            pool=self.pool_of[host.group] if host.group is not None else root,
            dhcp=dhcp,
        )

    # --- values ------------------------------------------------------------------------------------------------------

    def attributes(self, place: Place, said: Said, above: Mapping[str, set[str]]) -> Attributes:
        """As a row's `dhcp` has them."""
        found: Attributes = {}
        for option, value in said.items():
            if not isinstance(value, PerKind) and option not in above:
                found[option] = value
                continue
            classes, remarks = self.kinds.classes(option, value, above.get(option, ()))
            for remark in remarks:
                self.notes.lost(place, option, remark)
            for name, each in self.for_http_boot(option, classes, above.get(option, ())).items():
                if name in self.kinds.site and not self.with_classes:
                    self.leave_class(place, option, name, value)
                    continue
                found[f"{option}{SEPARATOR}{name}" if name else option] = each
        return found

    def is_written(self, name: str) -> bool:
        return self.with_classes or name not in self.kinds.site

    def leave_class(self, place: Place, option: str, name: str, value: Value | PerKind) -> None:
        """Note what is said to a class of the site, where none is written."""
        text = f"{option} for {self.kinds.site[name].words}"
        told = self.kinds.by_class(self.kinds.spread(value))
        why = "such clients are told apart by dhcp.classes of services.conf: --conf FILE writes it"
        if name in ROM_OF and told[name] == told[ROM_OF[name]]:
            why = f"there iPXE is told what the ROM is, here what a BIOS's iPXE is; {why}"
        self.notes.lost(place, text, why)

    def for_http_boot(self, option: str, classes: dict[str, Value], above: Collection[str]) -> dict[str, Value]:
        """Such firmware loads a URL and nothing else, and finds its server there: what is no URL is nothing to it."""
        if option not in (BOOT_SERVER, BOOT_FILE):
            return classes
        found = {}
        for name, value in classes.items():
            if name == EVERYBODY or HTTP_BOOT not in self.kinds.chain(name) or str(value).startswith(URLS):
                found[name] = value
            elif option == BOOT_FILE:
                wider = {*self.kinds.chain(name)} - {name, EVERYBODY}
                if name in above or not wider.isdisjoint(above) or not wider.isdisjoint(classes):
                    found[name] = ""
        return found

    def site_classes(self) -> Iterator[dict[str, Any]]:
        """For dhcp.classes of services.conf: those that something is said to."""
        said = {
            key.partition(SEPARATOR)[2]
            for rows in (self.rows.networks, self.rows.pools, self.rows.hosts)
            for row in rows
            for key in row.get("dhcp", ())
        }
        for name, each in self.kinds.site.items():
            if name in said:
                yield present(name=name, parent=each.parent or None, match=each.match)


def list_of_hosts(network: IPv4Network) -> range:
    return range(int(network.network_address) + 1, int(network.broadcast_address))


def same(one: Value | PerKind, other: Value | PerKind) -> bool:
    return type(one) is type(other) and one == other


def present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
