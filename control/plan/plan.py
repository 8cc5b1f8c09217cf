"""Inventory + config -> what the table shall hold: a row a host, and a reason for each one that is not answered.  Pure.

The rules are docs/inventory.md's: any object with a MAC on an Ethernet port; `dhcp`/`enabled` merged from the
containers; of every other `dhcp` attribute the most specific counts; every bound address may be handed out.  A bad
record is quarantined with its reason and never harms the rest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from ext.classify import ClientClass
from ext.leases import LeaseState as State

from control.config.bmc import ROLE_BIT
from control.config.config import Dhcp
from control.mac import parse_mac
from control.options.rendering import OptionRejected, Vocabulary, encode, pxelinux_magic, render
from control.options.table import option_by_code
from control.options.values import HOST_NAME, HOST_NAME_BYTES_MAX
from control.plan.classes import ADDRESS_SERVER_S, BMC, CLASSES, SEPARATOR, ClientClasses, is_pxe
from control.plan.conflicts import without_conflicts
from control.plan.contexts import (
    Context,
    Contexts,
    Faults,
    Merged,
    Payloads,
    Reader,
    Values,
    boot_ports,
    ends_of,
    is_enabled,
    is_proxied,
)
from control.plan.networks import (
    NOT_OF_A_NETWORK,
    ROUTER,
    SHARED,
    SUBNET_MASK,
    BadRecord,
    Manager,
    check_usable,
    claimed,
    is_of_ipv6,
    manager_of,
    parse_address,
    quick_address,
    quote,
    read_manager,
    shared_networks,
    with_options,
)
from control.plan.ports import FIRST, PORT_MAX, Port, Ports, configured, port_names, read_cards
from control.plan.rows import Claim, Plan, Row
from control.plan.templates import (
    OwnAttributes,
    Template,
    check_size,
    classes_said,
    decides_about_template,
    make_template,
)
from control.sources.model import CLUSTO_INT_OFFSET, Address, Inventory, Thing, is_ipv6, name_of

LEASES_MAX = 255
_USUAL_MAC = re.compile(":".join([r"[0-9a-f]{2}"] * 6))
REASON_CHARS_MAX = 300
_HOST_NAME = 12
_VENDOR_SPECIFIC = "43"
_OF_NETWORK = (str(SUBNET_MASK), str(ROUTER))


def plan_hosts(inventory: Inventory, config: Dhcp) -> Plan:
    """Rows for every host of an inventory that is there as a whole; compile.py does the same for parts."""
    rules = Rules(inventory, config)
    plan = Plan(networks=rules.networks, shared=rules.shared)
    for path, why in inventory.lost.items():
        plan.unsure.append(path)
        plan.faults.blame(name_of(path), why, "unread")
    for thing in inventory.things.values():
        if thing.path in inventory.lost:  # a container: what it had is nobody else's as long as it cannot be read
            plan.claims += [(address, thing.name, thing.path) for address in claimed(thing.addresses())]
            continue
        unread = inventory.doubt(thing)
        if unread is not None:
            plan.unsure.append(thing.path)
        rows, claims = rules.plan(thing) if unread is None else rules.undecided(thing, unread)
        plan.rows += rows
        plan.claims += claims
    for path, addresses in inventory.unheard():  # nobody may be given what the inventory says somebody else has
        plan.claims += [(address, name_of(path), path) for address in sorted(addresses)]
    plan.faults.include(rules.all_faults())
    plan.rows = sorted(without_conflicts(plan))
    return plan


class Rules:
    """The rules, ready for the hosts of one inventory.  known: contexts of the last one, see Contexts.

    faults: of the hosts asked for so far; whoever plans in parts takes them away in between."""

    def __init__(self, frame: Inventory, config: Dhcp, known: Mapping[bytes, Context] | None = None) -> None:
        self.frame = frame
        self.config = config
        self.classes = ClientClasses(config.classes, config.update_ipmi)
        self.reader = Reader(Vocabulary(config.extra_options), self.classes)
        self.contexts = Contexts(frame, self.reader, known or {})
        self.faults = Faults()
        self.ends = ""  # where the boots of the host that was planned last end
        self.managers: dict[str, Manager] = {}
        self.manager_faults = Faults()
        for path in frame.managers:
            thing = frame.things[path]
            try:
                if not is_of_ipv6(thing):
                    self.managers[path] = self.manager(thing)
            except BadRecord as bad:
                self.manager_faults.blame(thing.name, bad.reason)
        self.shared = shared_networks(self.managers, self.manager_faults.blame, not frame.unread)
        said = [key for manager in self.managers.values() for key in manager.said]
        self.classed_by_networks = {key.partition(SEPARATOR)[0] for key in said if SEPARATOR in key}
        self.bmc_port = config.ipmi_port_name if config.update_ipmi else None
        self.ports = configured(config.boot_ports)

    def manager(self, thing: Thing) -> Manager:
        """With its options: they are of all hosts that have an address in its network.  Raises BadRecord."""
        manager, blame = read_manager(thing), self.manager_faults.blame
        said = self.reader.own(thing)
        values = said.pop(SHARED).values if SHARED in said else ("",)
        groups = [str(value).strip() if value is not None else "" for value in values]
        if len(groups) > 1:
            blame(thing.name, f"dhcp {SHARED} has {len(groups)} values: {quote(groups)}; wanted one group")
        elif not groups[0].isprintable():
            blame(thing.name, f"dhcp {SHARED} = {quote(groups[0])}: wanted the name of a group")
        else:
            manager = manager._replace(group=groups[0])
        for key in [key for key in said if key.partition(SEPARATOR)[0] in NOT_OF_A_NETWORK]:
            blame(thing.name, f"dhcp {said.pop(key).subkey} of an IP manager is not used: a network cannot say it")
        attributes = [each for each in thing.of_key("dhcp") if each.subkey != SHARED]
        return with_options(manager, said, self.reader.payloads(said, blame), attributes)

    @property
    def networks(self) -> list[tuple[int, int]]:
        return [(manager.first, manager.last) for manager in self.managers.values()]

    @property
    def digest(self) -> bytes:
        """Of all that decides besides a host and its containers."""
        config = (sorted(self.config.extra_options.items()), self.bmc_port, str(self.ports), self.config.classes)
        managers = [(path, manager.key) for path, manager in sorted(self.managers.items())]
        return hashlib.blake2b(repr((config, managers)).encode("utf-8", "backslashreplace"), digest_size=16).digest()

    def all_faults(self) -> Faults:
        found = Faults()
        for context in self.contexts.in_use().values():
            found.include(context.faults)
        found.include(self.manager_faults)
        found.include(self.faults)
        return found

    def context(self, path: str) -> Context:
        return self.contexts.of(tuple(self.frame.parents.get(path, ())))

    # --- one host ------------------------------------------------------------------------------------------------

    def plan(self, thing: Thing) -> tuple[list[Row], list[Claim]]:
        """The rows of a host, one a card (of a port that claims several MACs none is answered; none without a MAC), and
        what it has without being answered with it, whatever it is and in whatever state."""
        context = self.context(thing.path)
        self.ends = context.ends
        usual = self.usual_rows(thing, context)
        if usual is not None:
            return usual, []
        rows = self.unusual_rows(thing, context)
        served = {address for row in rows for address, _prefix, _template in row.leases}
        return rows, [
            (address, thing.name, thing.path) for address in claimed(thing.addresses()) if address not in served
        ]

    def undecided(self, thing: Thing, unread: str) -> tuple[list[Row], list[Claim]]:
        """As plan(), for a host that depends on what cannot be read, Inventory.doubt(): not answered, unless an older
        row says how.  Its MACs are nobody else's meanwhile, its BMC's neither."""
        reason = f"depends on {unread}, which cannot be read: {self.frame.unread[unread]}"[:REASON_CHARS_MAX]
        self.faults.blame(thing.name, reason, "unread")
        macs = {mac for _number, text in thing.macs() if (mac := parse_mac(text)) is not None}
        recorded = thing.ipmi_mac() if self.bmc_port is not None else []
        bmcs = {mac | ROLE_BIT for text in recorded if (mac := parse_mac(text)) is not None}
        rows = [Row(key, State.QUARANTINED, thing.name, b"", (), reason, thing.path) for key in sorted(macs | bmcs)]
        return rows, [(address, thing.name, thing.path) for address in claimed(thing.addresses())]

    def usual_rows(self, thing: Thing, context: Context) -> list[Row] | None:
        """The rows of a host like nearly all: one card that is served, one address, nothing of its own.  None: it is
        another.

        Says what unusual_rows would say, in a tenth of the time; a test compares the two."""
        if not context.usual:
            return None
        mac = text = manager_path = slot = number = None
        others: list[tuple[int, str]] = []  # port, MAC
        for key, subkey, at, value, _datatype in thing.attributes:
            if key == "ip":
                if slot is None:
                    slot = at
                if at != slot or at.__class__ is not int:
                    return None
                if subkey == "ipstring" and text is None and value.__class__ is str:
                    text = value
                elif subkey == "manager" and manager_path is None:
                    manager_path = value
                elif subkey is None and number is None and value.__class__ is int:
                    number = value
                elif subkey == "osportname" and value != self.bmc_port:
                    continue
                elif subkey != "cidr":
                    return None
            elif key == "port-nic-eth":
                if subkey == "mac" and at == 1:
                    if mac is not None or value.__class__ is not str or not _USUAL_MAC.fullmatch(value):
                        return None
                    mac = int(value.replace(":", ""), 16)
                elif subkey == "mac" and at is not None:
                    others.append((at, value))
                elif subkey == "ipmi-mac" and self.bmc_port is not None:
                    return None
            elif key == "dhcp" or key == "hostname":
                return None
        if not mac or mac >> 40 & 1 or text is None or manager_path is None:
            return None
        manager = self.managers.get(manager_path)
        address = quick_address(text)
        if manager is None or address is None or not manager.takes(address):
            return None
        if number is not None and number + CLUSTO_INT_OFFSET != address:
            return None
        template = context.templates.get(manager.key)
        name = thing.path.split("/", 2)[2]
        if template is None or len(name) > HOST_NAME_BYTES_MAX or not HOST_NAME.fullmatch(name):
            return None
        own = bytes((_HOST_NAME, len(name))) + name.encode()
        row = Row(mac, State.SERVED, name, own, ((address, manager.network.prefixlen, template),), "", thing.path)
        ports = context.ports or self.ports
        if not others and ports.serves(FIRST):
            return [row]
        return self.usual_others(row, others, ports)

    @staticmethod
    def usual_others(row: Row, others: list[tuple[int, str]], ports: Ports) -> list[Row] | None:
        """With the cards of ports that are not served behind the one that is; None: not one served card and such."""
        rows, macs = [row], {row.key}
        for number, text in others:
            if number.__class__ is not int or not FIRST < number <= PORT_MAX or text.__class__ is not str:
                return None
            if ports.serves(number):
                return None
            mac = int(text.replace(":", ""), 16) if _USUAL_MAC.fullmatch(text) else 0
            if not mac or mac >> 40 & 1 or mac in macs:
                return None
            macs.add(mac)
            rows.append(Row(mac, State.OTHER_PORT, row.name, b"", (), "", row.thing, number))
        return rows if ports.serves(FIRST) else None

    def unusual_rows(self, thing: Thing, context: Context) -> list[Row]:
        """By all rules.  Also makes what usual_rows takes: the template of hosts that have nothing of their own."""
        self.ends = ends_of(self.reader.own(thing)) or context.ends
        cards = read_cards(thing)
        for fault in cards.faults:
            self.faults.blame(thing.name, fault, "bad-mac")
        firsts = cards.by_number.get(FIRST, {})
        bmcs = self.bmc_rows_or_why(list(firsts), thing, context) if self.bmc_port is not None else []
        try:
            if len(firsts) > 1:
                raise BadRecord(
                    f"port-nic-eth 1 has {len(firsts)} MACs: {', '.join(sorted(firsts.values()))}; wanted one",
                    "bad-mac",
                )
            ports = boot_ports(self.reader.own(thing)) or boot_ports(context.merged) or self.ports
            rows = self.card_rows(thing, context, cards.by_number, ports)
        except BadRecord as bad:
            self.faults.blame(thing.name, bad.reason)
            macs = dict.fromkeys(mac for each in cards.by_number.values() for mac in each)
            rows = [Row(mac, State.QUARANTINED, thing.name, b"", (), str(bad)) for mac in macs]
        return [row._replace(thing=thing.path) for row in (*rows, *bmcs)]

    def card_rows(
        self, thing: Thing, context: Context, by_number: Mapping[int, Mapping[int, str]], ports: Ports
    ) -> list[Row]:
        """One a card.  by_number: as of ports.Cards."""
        found: dict[int, Row] = {}
        taken: set[int] = set()
        unused: dict[int, str] = {}
        names = port_names(thing, by_number.keys())
        own_bmc = {parse_mac(text) for text in thing.ipmi_mac()} if self.bmc_port is not None else set()
        if by_number and ports.origin and not any(map(ports.serves, by_number)):
            there = ", ".join(map(str, by_number))
            self.faults.blame(
                thing.name, f"boot_ports {ports} ({ports.origin}) names no port with a MAC; there is {there}"
            )
        for number in sorted(by_number, key=lambda number: (not ports.serves(number), number)):
            macs = by_number[number]
            for mac, text in macs.items():
                if mac in found:
                    self.faults.blame(thing.name, f"port-nic-eth {number} mac {text} is another port's of it, too")
                elif not ports.serves(number):
                    if mac not in own_bmc:  # which is the BMC's, as it is told
                        found[mac] = Row(mac, State.OTHER_PORT, thing.name, b"", (), port=number)
                elif len(macs) > 1:
                    reason = (
                        f"port-nic-eth {number} has {len(macs)} MACs: {', '.join(sorted(macs.values()))}; wanted one"
                    )
                    self.faults.blame(thing.name, reason)
                    found[mac] = Row(mac, State.QUARANTINED, thing.name, b"", (), reason)
                else:
                    card = Port(
                        number, names, self.config.ipmi_port_name, taken, unused if len(by_number) > 1 else None
                    )
                    found[mac] = self.judge(mac, thing, context, card)
                    taken.update(address for address, _prefix, _template in found[mac].leases)
        for address, reason in unused.items():
            if address not in taken:
                self.faults.blame(thing.name, reason)
        return list(found.values())

    def judge(self, mac: int, thing: Thing, context: Context, port: Port) -> Row:
        own = self.reader.own(thing)
        enabled = own.get("enabled", context.enabled)
        if not is_enabled(enabled):
            reason = f"dhcp enabled is off ({enabled.origin})" if enabled else "dhcp enabled is set nowhere"
            return Row(mac, State.DISABLED, thing.name, b"", (), reason)
        proxy = is_proxied(own, context)
        attributes = self.split(own, context, thing)
        if proxy is not None:
            reason = f"dhcp proxy is on ({proxy.origin}): another server gives its address, we say what it boots"
            self.blame_foreign(own, attributes.payloads)
            self.blame_foreign(context.merged, context.payloads)
            options = self.own_options(thing, attributes, proxied=True)
            check_size(options)
            lease = (0, 32, self.template(attributes, context, None))
            return Row(mac, State.PROXIED, thing.name, options, (lease,), reason)
        leases, refused = self.leases(thing, attributes, context, port)
        if not leases:
            only_ipv6 = any(is_ipv6(address.text) for address in thing.addresses())
            reason = "; ".join(refused) or ("no IPv4 address bound" if only_ipv6 else port.no_address())
            return Row(mac, State.QUARANTINED if refused else State.NO_ADDRESS, thing.name, b"", (), reason)
        if len(leases) > LEASES_MAX:
            raise BadRecord(f"addresses in {len(leases)} networks; a host has at most {LEASES_MAX}", "too-large")
        options = self.own_options(thing, attributes)
        check_size(options)
        return Row(mac, State.SERVED, thing.name, options, leases)

    def blame_foreign(self, merged: Merged, payloads: Payloads) -> None:
        """A proxied host's offer says "PXEClient", and so that 43 is PXE's: another 43 is left out for ROMs."""
        for key, values in merged.items():
            identity, _, said_to = key.partition(SEPARATOR)
            payload = payloads.get(key)
            if identity != _VENDOR_SPECIFIC or payload is None or is_pxe(payload) or said_to == BMC:
                continue
            firmware = self.classes.firmware(CLASSES.get(said_to, said_to)) if said_to else ClientClass.PXE
            if firmware in (ClientClass.OS, ClientClass.HTTP_BOOT):
                continue
            self.faults.blame(
                values.origin,
                f"dhcp {values.subkey} = {quote(values.values[0])} has none of PXE's sub-options 6, 8, 9, 10: with "
                "proxy it is not sent to ROMs, which would take it for a boot server's; say it to os or bmc alone "
                f"({values.subkey.partition(SEPARATOR)[0]}--os)",
            )

    def bmc_rows_or_why(self, firsts: list[int], thing: Thing, context: Context) -> list[Row]:
        """The BMC's, whatever is wrong with the host's cards; in quarantine for what is wrong with itself."""
        try:
            return self.bmc_rows(firsts if len(firsts) == 1 else [], thing, context)
        except BadRecord as bad:
            self.faults.blame(thing.name, bad.reason)
            recorded = dict.fromkeys(mac for text in thing.ipmi_mac() if (mac := parse_mac(text)) is not None)
            return [Row(mac | ROLE_BIT, State.QUARANTINED, thing.name, b"", (), str(bad)) for mac in recorded]

    def bmc_rows(self, shared: list[int], thing: Thing, context: Context) -> list[Row]:
        """The BMC's, under each MAC that it may ask with: the server's own, where they share the card, and the one that
        was recorded.  A shared MAC without an address for the BMC has no row: the worker knows why it is silent."""
        recorded = [mac for text in thing.ipmi_mac() if (mac := parse_mac(text)) is not None]
        own = self.reader.own(thing)
        attributes = self.split(own, context)
        leases, refused = self.leases(thing, attributes, context, None)
        enabled = is_enabled(own.get("enabled", context.enabled))
        if enabled and leases:
            options = render(attributes.alone())
            check_size(options)
            return [
                Row(mac | ROLE_BIT, State.SERVED, thing.name, options, leases)
                for mac in dict.fromkeys((*shared, *recorded))
            ]
        state = State.DISABLED if not enabled else State.QUARANTINED if refused else State.NO_ADDRESS
        reason = f"no address is bound to port {self.bmc_port}" if state is State.NO_ADDRESS else "; ".join(refused)
        reason = reason or "dhcp enabled is off"
        return [Row(mac | ROLE_BIT, state, thing.name, b"", (), reason) for mac in dict.fromkeys(recorded)]

    def leases(
        self, thing: Thing, attributes: OwnAttributes, context: Context, port: Port | None
    ) -> tuple[tuple[tuple[int, int, Template], ...], list[str]]:
        """One address a network, and why others are not used: of the first port the one bound first (lowest number).

        port: that asks; None: the BMC's, which has the addresses bound to it, and nobody else has."""
        chosen: dict[tuple[int, int], tuple[int, int, Template]] = {}
        refused = []
        usable = []
        for address in thing.addresses():
            if self.bmc_port is not None and (address.port_name == self.bmc_port) != (port is None):
                continue
            if address.other is None and is_ipv6(address.text):
                continue
            try:
                value, manager = self.usable(address)
            except BadRecord as bad:
                refused.append(str(bad))
                self.faults.blame(thing.name, bad.reason)
                continue
            usable.append((address, value, manager))
        ordered = port.order(usable) if port is not None else ((value, manager) for _, value, manager in usable)
        for value, manager in ordered:
            network = (manager.first, manager.last)
            if network in chosen:
                first = IPv4Address(chosen[network][0])
                reason = f"address {IPv4Address(value)} is not used: {first} in the same network was bound first"
                if port is None or port.unused is None:
                    self.faults.blame(thing.name, reason, "second-address")
                else:
                    port.unused.setdefault(value, reason)
                continue
            chosen[network] = (
                value,
                manager.network.prefixlen,
                self.template(attributes, context, manager, port is None),
            )
        return tuple(chosen.values()), refused

    def usable(self, address: Address) -> tuple[int, Manager]:
        """The address and its manager.  Raises BadRecord."""
        value = parse_address(address)
        manager = manager_of(address, value, self.managers)
        check_usable(value, manager)
        return int(value), manager

    # --- options -------------------------------------------------------------------------------------------------

    def split(self, own: Merged, context: Context, thing: Thing | None = None) -> OwnAttributes:
        """thing: a host that has its own name where nobody says another; a BMC has none."""
        keys = (*own, *context.merged)
        classed = {key.partition(SEPARATOR)[0] for key in keys if SEPARATOR in key} | self.classed_by_networks
        names_host = str(_HOST_NAME) in own or str(_HOST_NAME) in context.merged
        if thing is not None and not names_host and str(_HOST_NAME) in classed:  # said to some classes: others keep it
            own = {**own, str(_HOST_NAME): Values("hostname", (thing.host_name(),), thing.name)}
            names_host = True
        shared = frozenset(key for key in own if decides_about_template(key.partition(SEPARATOR)[0], classed))
        return OwnAttributes(own, shared, names_host, lambda: self.reader.payloads(own, self.faults.blame))

    def own_options(self, thing: Thing, attributes: OwnAttributes, proxied: bool = False) -> bytes:
        """What goes to this host alone, whatever class asks: its name, unless somebody set another, and its own
        attributes that nobody says to a class.

        proxied: who gives the address names the host, and says all about its network."""
        payloads = attributes.alone()
        if proxied:
            return render({code: data for code, data in payloads.items() if code not in ADDRESS_SERVER_S})
        if not attributes.names_host:
            try:
                payloads[_HOST_NAME] = host_name(thing)
            except OptionRejected as fault:
                self.faults.blame(thing.name, str(fault), "bad-value", "hostname")
        return render(payloads)

    def template(
        self, attributes: OwnAttributes, context: Context, manager: Manager | None, of_bmc: bool = False
    ) -> Template:
        """What this host shares with others of its containers and its network, less what it overrides.

        manager None: another server gives the address."""
        own, shared = attributes.said, attributes.shared
        if manager is not None and not own and not attributes.names_host:
            key: Any = manager.key
        else:
            apart = tuple((key, own[key].values) for key in sorted(shared))
            hidden = tuple(sorted(own.keys() - shared))
            magic = pxelinux_magic(values.subkey for values in own.values())
            # Of a mask or a router that cannot be sent, the template has the network's.
            network = tuple(attributes.payloads.get(code) is None for code in _OF_NETWORK if code in hidden)
            key = (manager.key if manager is not None else None, apart, hidden, magic, network)
            if manager is not None and manager.is_unnumbered and str(ROUTER) in own:  # the routes say it, too
                key = (*key, own[str(ROUTER)].values)
        if of_bmc and BMC in classes_said(own, context.merged, manager.said if manager is not None else {}):
            key = (BMC, key)
        known: Template | None = context.templates.get(key)
        if known is None:
            known = make_template(attributes, context, manager, self.classes, of_bmc)
            context.templates[key] = known
        return known


def host_name(thing: Thing) -> bytes:
    """Raises OptionRejected for a name that cannot be sent."""
    return encode(option_by_code(_HOST_NAME), (thing.host_name(),))
