"""Which object of the inventory gave an option of a reply: the machine itself, a container, the network, or nobody.

By the merging code that plans the hosts (control/plan/contexts.py, control/plan/classes.py), fed with names in place of
values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ext.classify import ClientClass

from control.config.config import Dhcp
from control.mac import parse_mac, show_mac
from control.options.rendering import pxelinux_magic
from control.plan.classes import (
    ADDRESS_SERVER_S,
    BMC,
    URL_KEY,
    Client,
    boot_service_manners,
    manners,
    resolve,
)
from control.plan.contexts import Context, Merged, Payloads, is_proxied
from control.plan.networks import ROUTER, ROUTES, BadRecord, Manager, quick_address
from control.plan.plan import Rules
from control.plan.templates import classes_said
from control.sources.model import Inventory, Thing, name_of

DEFAULT, BY_SERVER, ECHO = "default", "this server", "as it asked"
_BY_PACKET = {51: DEFAULT, 58: DEFAULT, 59: DEFAULT, 53: BY_SERVER, 54: BY_SERVER, 52: BY_SERVER}
_BY_PACKET |= dict.fromkeys((61, 82, 97, 118), ECHO)
_HOST_NAME, _MAGIC, _TFTP_SERVER, _TFTP_FILENAME = 12, 208, 66, 67
NEXT_SERVER, BOOT_FILE = -66, -67  # the header fields

ReadHosts = Callable[[list[str]], Inventory]
"""MACs -> their hosts and all containers and managers."""


class Origins:
    """Of the machines that read() was told; nothing is known of others."""

    def __init__(self, read_hosts: ReadHosts, config: Dhcp) -> None:
        self.read_hosts = read_hosts
        self.config = config
        self.known: dict[int, tuple[Rules, Thing]] = {}
        self.objects: dict[str, None] = {}  # names of these machines, their containers and their networks

    def read(self, macs: Iterable[int]) -> None:
        """All at once: a host file is read as a whole, however few are asked for.  Raises InventoryDown."""
        macs = set(macs)
        inventory = self.read_hosts([show_mac(mac) for mac in macs])
        rules = Rules(inventory, self.config)
        for path in inventory.hosts:
            thing = inventory.things[path]
            if not macs.isdisjoint(map(parse_mac, (*thing.mac(), *thing.ipmi_mac()))):
                above = (parent for level in inventory.levels(path) for parent in level)
                managers = (address.manager for address in thing.addresses() if address.manager is not None)
                self.objects |= dict.fromkeys(map(name_of, (path, *above, *managers)))
            if inventory.doubt(inventory.things[path]) is not None:
                continue
            for _port, text in inventory.things[path].macs():
                mac = parse_mac(text)
                if mac is not None:
                    self.known.setdefault(mac, (rules, inventory.things[path]))

    def classes_of(self, mac: int) -> list[Client]:
        if mac not in self.known:
            return [ClientClass.OS]  # of whom nothing is known
        rules, thing = self.known[mac]
        return rules.classes.planned(classes_said(rules.reader.own(thing), rules.context(thing.path).merged))

    def of(self, mac: int, client: Client, address: int) -> dict[int, str]:
        """Option code (NEXT_SERVER, BOOT_FILE for the header fields) -> who said it.  Empty: nothing is known."""
        if mac not in self.known:
            return {}
        rules, thing = self.known[mac]
        context, own = rules.context(thing.path), rules.reader.own(thing)
        manager = manager_at(rules, thing, address)
        of_bmc = rules.bmc_port is not None and any(
            each.port_name == rules.bmc_port and quick_address(each.text) == address for each in thing.addresses()
        )
        origins = dict(_BY_PACKET)
        origins |= of_manager(rules, manager)
        origins |= of_attributes(rules, client, own, context, manager, of_bmc)
        if manager is not None and manager.is_unnumbered and ROUTER in origins:
            origins.setdefault(ROUTES, f"a network of one address, {origins[ROUTER]}")
        origins.setdefault(_HOST_NAME, f"name of {described(rules, thing.name)}")
        origins[NEXT_SERVER] = origins.get(_TFTP_SERVER, DEFAULT)
        origins[BOOT_FILE] = origins.get(_TFTP_FILENAME, DEFAULT)
        return origins


def found_origins(
    read_hosts: ReadHosts, config: Dhcp, leases: Iterable[tuple[int, int]]
) -> list[tuple[int, int, int | str, dict[int, str]]]:
    """(MAC, address, client class, Origins.of them) for each lease, and class that may get something of its own.

    Raises InventoryDown."""
    wanted = list(leases)
    origins = Origins(read_hosts, config)
    origins.read(dict.fromkeys(mac for mac, _address in wanted))
    return [
        (mac, address, client if isinstance(client, str) else int(client), origins.of(mac, client, address))
        for mac, address in wanted
        for client in origins.classes_of(mac)
    ]


def described(rules: Rules, name: str) -> str:
    """pool racks, for an object of that name."""
    paths = [path for path in rules.frame.things if path.split("/", 2)[2] == name]
    return " ".join(paths[0].split("/", 2)[1:]) if paths else name


def manager_at(rules: Rules, thing: Thing, address: int) -> Manager | None:
    """In whose network a machine has an address."""
    for bound in thing.addresses():
        try:
            value, manager = rules.usable(bound)
        except BadRecord:
            continue
        if value == address:
            return manager
    return next((each for each in rules.managers.values() if each.first <= address <= each.last), None)


def network_name(rules: Rules, manager: Manager) -> str:
    path = next(path for path, each in rules.managers.items() if each is manager)
    return f"network {rules.frame.things[path].name}"


def of_manager(rules: Rules, manager: Manager | None) -> dict[int, str]:
    return {} if manager is None else dict.fromkeys(manager.options(), network_name(rules, manager))


def of_attributes(
    rules: Rules, client: Client, own: Merged, context: Context, manager: Manager | None, of_bmc: bool
) -> dict[int, str]:
    """What the attributes of the machine, its containers and its network give, and what the class gets besides."""
    proxied = is_proxied(own, context) is not None
    of_network = manager.said if manager is not None and not proxied else {}
    encoded = manager.payloads if manager is not None and not proxied else {}
    payloads = (rules.reader.payloads(own, lambda *_: None), context.payloads, encoded)
    chain = (BMC, *rules.classes.chain(client)) if of_bmc else tuple(rules.classes.chain(client))
    said = resolve(chain, payloads)
    by_network = {
        key: f"{network_name(rules, manager)}, {values.subkey}".encode("utf-8", "backslashreplace")
        if encoded.get(key) is not None
        else None
        for key, values in of_network.items()
        if manager is not None
    }
    of_things = named(rules, own, payloads[0]), named(rules, context.merged, payloads[1])
    names = resolve(chain, (*of_things, by_network))
    origins = {int(key): names[key].decode() for key in said if key.isdigit()}
    before = {int(key): payload for key, payload in said.items() if key.isdigit()}
    after = dict(before)
    url = said.get(URL_KEY)
    firmware = rules.classes.firmware(client)
    if not proxied:
        manners(firmware, after, url)
    else:
        boot_service_manners(firmware, after, url)
        origins = {code: origin for code, origin in origins.items() if code not in ADDRESS_SERVER_S}
    for code, payload in after.items():
        if before.get(code) != payload:
            by_url = code == _TFTP_FILENAME and url is not None
            origins[code] = names[URL_KEY].decode() if by_url else f"every {chain[of_bmc]}"
    subkeys = [values.subkey for values in (*own.values(), *context.merged.values(), *of_network.values())]
    if pxelinux_magic(subkeys):
        origins.setdefault(_MAGIC, "with pxelinux attributes")
    return origins


def named(rules: Rules, merged: Merged, payloads: Mapping[str, bytes | None]) -> Payloads:
    """The same keys with who said it and how, in place of what was said."""
    return {
        key: f"{described(rules, values.origin)}, {values.subkey}".encode("utf-8", "backslashreplace")
        if payloads.get(key) is not None
        else None
        for key, values in merged.items()
    }
