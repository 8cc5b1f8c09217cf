"""Inventory + config -> what the table shall hold: a row a host, and a reason for each one that is not answered.  Pure.

The rules are the document's (docs/inventory.md): any object with a MAC on nic-eth 1; `dhcp`/`enabled` merged from the
containers; of every other `dhcp` attribute the most specific counts; every bound address may be handed out.  A bad
record is quarantined with its reason and never harms the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

from ext.table import OWN_BYTES_MAX

from control.clusto.model import Address, Attribute, Inventory, Thing
from control.config import Dhcp
from control.option_table import option_by_code
from control.options import PXELINUX_MAGIC as MAGIC
from control.options import OptionRejected, Vocabulary, encode, pxelinux_magic, render, tlv

LEASE_S, RENEWAL_S, REBINDING_S = 3600, 1600, 3150
INFINITE_S = 0xFFFFFFFF
FILE_BYTES_MAX = 127
LEASES_MAX = 255
HOST_NAME_BYTES_MAX = 255  # one option; DNS allows a name no more
ON, OFF = {"1", "true", "yes"}, {"0", "false", "no", ""}
_MAC = re.compile(r"[0-9a-f]{12}")
_USUAL_MAC = re.compile(":".join([r"([0-9a-f]{2})"] * 6))
_SUBNET_MASK, _ROUTER, _HOST_NAME, _BROADCAST, _SERVER_ID = 1, 3, 12, 28, 54
_LEASE, _RENEWAL, _REBINDING, _TFTP_SERVER, _TFTP_FILENAME, _MAGIC = 51, 58, 59, 66, 67, 208
_TIMES = (_LEASE, _RENEWAL, _REBINDING)


class State(IntEnum):
    """Index into ext.table.STATES."""

    SERVED = 0
    DISABLED = 1
    NO_ADDRESS = 2
    CONFLICT = 3
    QUARANTINED = 4


class Template(NamedTuple):
    """What many hosts share; the fields of ext.table.Builder.add_template."""

    options: bytes
    file: bytes
    siaddr: int
    server_id: int
    lease_s: int
    renewal_s: int
    rebinding_s: int


class Row(NamedTuple):
    """One host of the table.  leases: (address, prefix, template), the preferred first."""

    mac: int
    state: State
    name: str
    own: bytes
    leases: tuple[tuple[int, int, Template], ...]
    reason: str = ""


@dataclass(slots=True)
class Plan:
    """rows: sorted by MAC.  faults: name -> why its record, or a part of it, is not used.  networks: (first, last)."""

    rows: list[Row] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    networks: list[tuple[int, int]] = field(default_factory=list)

    def blame(self, name: str, reason: str) -> None:
        reasons = self.faults.setdefault(name, [])
        if reason not in reasons:
            reasons.append(reason)


class Manager(NamedTuple):
    """An IP manager.  The ints say again what the objects say: hosts are many, and ipaddress is slow."""

    network: IPv4Network
    gateway: IPv4Address | None
    first: int
    last: int
    router: int

    def takes(self, value: int) -> bool:
        """True for an address that a host may have here; check_usable() says why not."""
        top = value >> 24
        return self.first < value < self.last and value != self.router and 0 < top < 224 and top != 127


class BadRecord(Exception):
    """This host cannot be answered; the text is the reason that the operator reads."""


class Values(NamedTuple):
    """The attributes of one subkey on one object, and which object that is."""

    subkey: str
    values: tuple[Any, ...]
    origin: str


Merged = dict[str, Values]  # by identity of the option: its code, or the folded subkey


def parse_mac(text: str) -> int | None:
    """Any usual spelling (colons, dashes, dots, none; any case) -> 48-bit int; None when it is none, or all zero."""
    usual = _USUAL_MAC.fullmatch(text)
    digits = "".join(usual.groups()) if usual else re.sub(r"[:.\-\s]", "", text).lower()
    if not usual and not _MAC.fullmatch(digits):
        return None
    mac = int(digits, 16)
    return mac if mac and not mac >> 40 & 1 else None


def quote(value: Any) -> str:
    """As a reason quotes it: escaped, and short whatever stands in the inventory."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def show_mac(mac: int) -> str:
    return mac.to_bytes(6, "big").hex(":")


def plan_hosts(inventory: Inventory, config: Dhcp) -> Plan:
    """Rows for every host of the inventory, whatever its state."""
    return _Planner(inventory, config).plan()


class _Planner:
    def __init__(self, inventory: Inventory, config: Dhcp) -> None:
        self.inventory = inventory
        self.config = config
        self.vocabulary = Vocabulary(config.extra_options)
        self.result = Plan()
        self.merged_by_parents: dict[tuple[str, ...], Merged] = {}
        self.templates: dict[tuple[Any, ...], Template] = {}
        self.managers: dict[str, Manager] = {}
        self.hints: dict[str, str] = {}
        self.bound: dict[str, list[Address]] = {}  # of the hosts, by path

    def plan(self) -> Plan:
        self.read_managers()
        rows = [row for path in self.inventory.hosts for row in self.plan_host(self.inventory.things[path])]
        self.result.rows = sorted(self.without_conflicts(rows))
        return self.result

    # --- networks ------------------------------------------------------------------------------------------------

    def read_managers(self) -> None:
        for path in self.inventory.managers:
            thing = self.inventory.things[path]
            try:
                self.managers[path] = read_manager(thing)
            except BadRecord as bad:
                self.result.blame(thing.name, str(bad))
        self.result.networks = [
            (int(manager.network.network_address), int(manager.network.broadcast_address))
            for manager in self.managers.values()
        ]

    def manager_of(self, address: Address, value: IPv4Address) -> Manager:
        if address.manager is not None:
            manager = self.managers.get(address.manager)
            if manager is None:
                raise BadRecord(f"address {value}: its manager {address.manager} is not usable")
            if value not in manager.network:
                raise BadRecord(f"address {value} lies outside its manager's network {manager.network}")
            return manager
        fitting = [manager for manager in self.managers.values() if value in manager.network]
        if len(fitting) != 1:
            raise BadRecord(f"address {value} has no manager, and {len(fitting)} managers contain it; wanted 1")
        return fitting[0]

    # --- one host ------------------------------------------------------------------------------------------------

    def plan_host(self, thing: Thing) -> list[Row]:
        """Its row; several when the object claims several MACs for nic-eth 1 (then none is answered)."""
        macs = {parse_mac(text): text for text in thing.mac()}
        if None in macs:
            self.result.blame(
                thing.name, f"port-nic-eth 1 mac {quote(macs.pop(None))} is no MAC address of a single card"
            )
        try:
            if len(macs) > 1:
                raise BadRecord(f"port-nic-eth 1 has {len(macs)} MACs: {', '.join(sorted(macs.values()))}; wanted one")
            return [self.judge(mac, thing) for mac in macs if mac is not None]
        except BadRecord as bad:
            self.result.blame(thing.name, str(bad))
            return [Row(mac, State.QUARANTINED, thing.name, b"", (), str(bad)) for mac in macs if mac is not None]

    def judge(self, mac: int, thing: Thing) -> Row:
        inherited = self.merge_containers(thing.path)
        own = self.own_attributes(thing)
        enabled = own.get("enabled", inherited.get("enabled"))
        if not is_enabled(enabled):
            reason = f"dhcp enabled is off ({enabled.origin})" if enabled else "dhcp enabled is set nowhere"
            return Row(mac, State.DISABLED, thing.name, b"", (), reason)
        leases, refused = self.leases(thing, own, inherited)
        if not leases:
            reason = "; ".join(refused) or "no address bound"
            return Row(mac, State.QUARANTINED if refused else State.NO_ADDRESS, thing.name, b"", (), reason)
        options = self.own_options(thing, own, inherited)
        check_size(options, leases)
        return Row(mac, State.SERVED, thing.name, options, leases)

    def leases(
        self, thing: Thing, own: Merged, inherited: Merged
    ) -> tuple[tuple[tuple[int, int, Template], ...], list[str]]:
        """One address a network, the one bound first (lowest number), and why others are not used."""
        chosen: dict[tuple[int, int], tuple[int, int, Template]] = {}
        refused = []
        self.bound[thing.path] = thing.addresses()
        for address in self.bound[thing.path]:
            if self.config.update_ipmi and address.port_name == self.config.ipmi_port_name:
                continue
            try:
                value, manager = self.usable(address)
            except BadRecord as bad:
                refused.append(str(bad))
                self.result.blame(thing.name, str(bad))
                continue
            network = (manager.first, manager.last)
            if network in chosen:
                first = IPv4Address(chosen[network][0])
                self.result.blame(
                    thing.name,
                    f"address {IPv4Address(value)} is not used: {first} in the same network was bound first",
                )
                continue
            template = self.template(thing, own, inherited, manager)
            chosen[network] = (value, manager.network.prefixlen, template)
        return tuple(chosen.values()), refused

    def usable(self, address: Address) -> tuple[int, Manager]:
        """The address and its manager; raises BadRecord with the reason."""
        quick = quick_address(address.text)
        known = self.managers.get(address.manager) if address.manager is not None else None
        if quick is not None and known is not None and known.takes(quick):
            return quick, known
        value = parse_address(address)
        manager = self.manager_of(address, value)
        check_usable(value, manager)
        return int(value), manager

    # --- attributes ----------------------------------------------------------------------------------------------

    def identity(self, subkey: str) -> str:
        """Two spellings of one option are one option."""
        option = self.vocabulary.find(subkey)
        return str(option.code) if option is not None else subkey.lower()

    def collect(self, things: Iterable[Thing]) -> Merged:
        """The `dhcp` attributes of one level; among several objects the first by name counts, and a tie is reported."""
        merged: Merged = {}
        for thing in things:
            for identity, values in self.own_attributes(thing).items():
                other = merged.setdefault(identity, values)
                if other.values != values.values:
                    self.result.blame(
                        thing.name,
                        f"dhcp {values.subkey} = {quote(values.values[0])} competes with {quote(other.values[0])} of "
                        f"{other.origin} on the same level; the first by name counts",
                    )
        return merged

    def own_attributes(self, thing: Thing) -> Merged:
        grouped: dict[str, list[Attribute]] = {}
        for attribute in thing.attributes:
            if attribute.key == "dhcp" and attribute.subkey is not None:
                grouped.setdefault(self.identity(attribute.subkey), []).append(attribute)
        found = {}
        for identity, attributes in grouped.items():
            attributes.sort(key=lambda a: (a.number is not None, a.number or 0))
            values = tuple(a.value for a in attributes)
            found[identity] = Values(str(attributes[0].subkey), values, thing.name)
        return found

    def merge_containers(self, path: str) -> Merged:
        """All containers of a thing, the most specific level first; remembered: most hosts share their parents."""
        key = tuple(self.inventory.parents.get(path, ()))
        known = self.merged_by_parents.get(key)
        if known is None:
            known = {}
            for level in self.inventory.levels(path):
                things = [self.inventory.things[p] for p in level if p in self.inventory.things]
                for identity, values in self.collect(things).items():
                    known.setdefault(identity, values)
            self.merged_by_parents[key] = known
        return known

    # --- options -------------------------------------------------------------------------------------------------

    def own_options(self, thing: Thing, own: Merged, inherited: Merged) -> bytes:
        """What goes to this host alone: its name, unless somebody set another, and its own attributes."""
        if not own and str(_HOST_NAME) not in inherited:
            name = thing.host_name()
            if 0 < len(name) <= HOST_NAME_BYTES_MAX and name.isascii() and name.isprintable():
                return bytes([_HOST_NAME, len(name)]) + name.encode()  # what render() makes of nearly every host
        payloads = {code: data for code, data in self.payloads(own).items() if code not in _APART}
        if str(_HOST_NAME) not in own and str(_HOST_NAME) not in inherited:
            try:
                payloads[_HOST_NAME] = host_name(thing)
            except OptionRejected as fault:
                self.result.blame(thing.name, str(fault))
        return render(payloads)

    def template(self, thing: Thing, own: Merged, inherited: Merged, manager: Manager) -> Template:
        """What this host shares with others of its containers and its network, less what it overrides."""
        parents = tuple(self.inventory.parents.get(thing.path, ()))
        if not own:
            shared = (parents, manager.first, manager.last, manager.router)
            if shared not in self.templates:
                self.templates[shared] = self.make_template(own, inherited, manager)
            return self.templates[shared]
        apart = tuple((key, own[key].values) for key in sorted(own) if key.isdigit() and int(key) in _APART)
        hidden = tuple(sorted(key for key in own if key.isdigit()))
        magic = pxelinux_magic(values.subkey for values in own.values())
        key = (parents, manager, apart, hidden, magic)
        known = self.templates.get(key)
        if known is None:
            known = self.templates[key] = self.make_template(own, inherited, manager)
        return known

    def make_template(self, own: Merged, inherited: Merged, manager: Manager) -> Template:
        payloads = network_options(manager)
        payloads.update(self.payloads(inherited))
        theirs = self.payloads(own)
        for identity in own:  # also where the host's own value is not usable: the wider one may be the wrong boot file
            if identity.isdigit():
                payloads.pop(int(identity), None)
        payloads.update({code: data for code, data in theirs.items() if code in _APART})
        subkeys = [values.subkey for values in (*inherited.values(), *own.values())]
        if pxelinux_magic(subkeys) and str(_MAGIC) not in own and str(_MAGIC) not in inherited:
            payloads[_MAGIC] = MAGIC
        lease, renewal, rebinding = lease_times(*(payloads.pop(code, None) for code in _TIMES))
        server_id = payloads.pop(_SERVER_ID, b"")
        file = payloads.get(_TFTP_FILENAME, b"").rstrip(b"\0")
        return Template(
            options=render(payloads),
            file=file if len(file) <= FILE_BYTES_MAX else b"",
            siaddr=literal_address(payloads.get(_TFTP_SERVER, b"")),
            server_id=int.from_bytes(server_id, "big"),
            lease_s=lease,
            renewal_s=renewal,
            rebinding_s=rebinding,
        )

    def payloads(self, merged: Merged) -> dict[int, bytes]:
        """Encoded values by code.  A value that cannot be sent costs that option, not the host, and is reported."""
        found = {}
        for values in merged.values():
            if values.subkey.lower() == "enabled":
                continue
            option = self.vocabulary.find(values.subkey)
            if option is None:
                self.result.blame(values.origin, f"dhcp {values.subkey}: no such option{self.hint(values.subkey)}")
                continue
            try:
                payload = encode(option, values.values)
                tlv(option.code, payload)
            except (OptionRejected, ValueError) as fault:
                self.result.blame(values.origin, str(fault))
                continue
            found[option.code] = payload
        return found

    def hint(self, subkey: str) -> str:
        """Remembered: a guess takes half a millisecond, and ten thousand hosts may have the same unknown attribute."""
        if subkey not in self.hints:
            nearest = self.vocabulary.nearest(subkey)
            self.hints[subkey] = f"; did you mean {nearest}?" if nearest else ""
        return self.hints[subkey]

    # --- the whole -----------------------------------------------------------------------------------------------

    def without_conflicts(self, rows: Sequence[Row]) -> list[Row]:
        """Two objects with one MAC or one address: neither is answered, both are named."""
        by_mac: dict[int, list[Row]] = {}
        for row in rows:
            by_mac.setdefault(row.mac, []).append(row)
        owners = self.address_owners()
        checked = []
        for mac, same in by_mac.items():
            if len({row.name for row in same}) > 1:
                checked.append(self.conflict(mac, [row.name for row in same], f"MAC {show_mac(mac)}"))
                continue
            row = same[0]
            for address, _prefix, _template in row.leases:
                if len(owners[address]) > 1:
                    row = self.conflict(mac, sorted(owners[address]), f"address {IPv4Address(address)}", row.name)
                    break
            checked.append(row)
        return checked

    def conflict(self, mac: int, names: Sequence[str], what: str, name: str | None = None) -> Row:
        reason = f"{what} belongs to {' and '.join(sorted(names))}"
        for each in names:
            self.result.blame(each, reason)
        return Row(mac, State.CONFLICT, name or ", ".join(sorted(names)), b"", (), reason)

    def address_owners(self) -> dict[int, set[str]]:
        """Of every object that was read, not only of DHCP hosts: a switch's address is nobody else's either."""
        owners: dict[int, set[str]] = {}
        for path, thing in self.inventory.things.items():
            bound = self.bound.get(path)
            for address in thing.addresses() if bound is None else bound:
                value = quick_address(address.text)
                if value is not None:  # else it is nobody's address, and reported where its host is planned
                    owners.setdefault(value, set()).add(thing.name)
        return owners


_APART = {*_TIMES, _SERVER_ID, _TFTP_SERVER, _TFTP_FILENAME}  # fields of the template, wherever the attribute stands


def is_enabled(values: Values | None) -> bool:
    """Raises BadRecord for a value that is neither on nor off."""
    if values is None:
        return False
    text = str(values.values[0]).strip().lower() if values.values[0] is not None else ""
    if text in ON:
        return True
    if text in OFF:
        return False
    raise BadRecord(f"dhcp enabled = {quote(values.values[0])} of {values.origin}: wanted 1, true, yes or 0, false, no")


def read_manager(thing: Thing) -> Manager:
    base, mask, gateway = (thing.first(key, "property") for key in ("baseip", "netmask", "gateway"))
    if base is None:
        raise BadRecord("IP manager without baseip: it says nothing about a network")
    try:
        network = IPv4Network((str(base), str(mask or "255.255.255.255")), strict=False)
        router = IPv4Address(str(gateway)) if gateway else None
        first, last = int(network.network_address), int(network.broadcast_address)
        return Manager(network, router, first, last, int(router) if router else 0)
    except ValueError as error:
        raise BadRecord(
            f"IP manager with baseip {quote(base)}, netmask {quote(mask)}, gateway {quote(gateway)}: {str(error)[:120]}"
        ) from error


def quick_address(text: str) -> int | None:
    """Dotted quad -> int; None for everything that IPv4Address refuses too."""
    try:
        return int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):
        return None


def parse_address(address: Address) -> IPv4Address:
    try:
        return IPv4Address(address.text)
    except AddressValueError as error:
        raise BadRecord(f"address {quote(address.text)} (ip number {address.number}) is no IPv4 address") from error


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
        raise BadRecord(f"address {value} is not an address of a host")
    if network.prefixlen < 31 and value in (network.network_address, network.broadcast_address):
        raise BadRecord(f"address {value} is the network or broadcast address of {network}")
    if value == manager.gateway:
        raise BadRecord(f"address {value} is the gateway of {network}")


def check_size(options: bytes, leases: Sequence[tuple[int, int, Template]]) -> None:
    """Raises BadRecord for what no table can hold; no packet could carry it either."""
    if len(leases) > LEASES_MAX:
        raise BadRecord(f"addresses in {len(leases)} networks; a host has at most {LEASES_MAX}")
    longest = max(len(options), *(len(template.options) for _address, _prefix, template in leases))
    if longest > OWN_BYTES_MAX:
        raise BadRecord(f"{longest} bytes of DHCP options; a host has at most {OWN_BYTES_MAX}")


def host_name(thing: Thing) -> bytes:
    """Raises OptionRejected for a name that cannot be sent."""
    option = option_by_code(_HOST_NAME)
    payload = encode(option, (thing.host_name(),))
    if len(payload) > HOST_NAME_BYTES_MAX:
        raise OptionRejected(option, f"{len(payload)} bytes", f"at most {HOST_NAME_BYTES_MAX}")
    return payload


def network_options(manager: Manager) -> dict[int, bytes]:
    """Netmask and broadcast from the IP manager, and its gateway when it has one."""
    options = {
        _SUBNET_MASK: manager.network.netmask.packed,
        _BROADCAST: manager.network.broadcast_address.packed,
    }
    if manager.gateway is not None:
        options[_ROUTER] = manager.gateway.packed
    return options


def lease_times(lease: bytes | None, renewal: bytes | None, rebinding: bytes | None) -> tuple[int, int, int]:
    """Seconds.  T1 and T2 that are not below the lease become 1/2 and 7/8 of it (RFC 2131 section 4.4.5)."""
    lease_s = int.from_bytes(lease, "big") if lease else LEASE_S
    renewal_s = int.from_bytes(renewal, "big") if renewal else RENEWAL_S
    rebinding_s = int.from_bytes(rebinding, "big") if rebinding else REBINDING_S
    if lease_s != INFINITE_S:
        if rebinding_s >= lease_s:
            rebinding_s = lease_s * 7 // 8
        if renewal_s >= lease_s or renewal_s > rebinding_s:
            renewal_s = lease_s // 2
    return lease_s, renewal_s, rebinding_s


def literal_address(payload: bytes) -> int:
    """siaddr is an address; a name goes out as option 66 only, for who can resolve it."""
    try:
        return int(IPv4Address(payload.rstrip(b"\0").decode()))
    except (AddressValueError, UnicodeDecodeError):
        return 0
