"""Small inventories for tests, written as one reads them, and a short look at what was planned for one host.

site = Site()                                   # one network, 10.1.0.0/24 with gateway 10.1.0.1
site.pool("boot", enabled=1)
site.host("a", "10.1.0.10", pools=["boot"])
assert look(site.plan(), "a").state is State.SERVED
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from ext.classify import ClientClass
from ext.leases import LeaseState as State
from ext.site_classes import PARENTS
from sqlalchemy import delete, insert

from control.clusto.server.store import Store, attributes, counters, entities
from control.config.config import Dhcp
from control.plan.classes import EVERYWHERE
from control.plan.plan import plan_hosts
from control.plan.rows import Plan, Row
from control.plan.templates import Template
from control.sources.model import Attribute, Inventory, Thing

DRIVERS = {
    "server": "basicserver",
    "appliance": "basicappliance",
    "networkswitch": "basicnetworkswitch",
    "powerstrip": "basicpowerstrip",
    "pool": "pool",
    "rack": "basicrack",
    "datacenter": "basicdatacenter",
    "resourcemanager": "ipmanager",
}
OFFSET = 1 << 31


class At(NamedTuple):
    """One bound address.  manager: name of the network; "" for none at all.  number: the site's next when None."""

    text: str | None
    manager: str = "net"
    number: int | None = None
    port: str | None = None


def attribute(key: str, subkey: str | None, value: Any, number: int | None = None) -> Attribute:
    relation = isinstance(value, str) and value.startswith("/") and subkey in ("manager", None)
    datatype = "relation" if relation else "int" if isinstance(value, int) else "string"
    return Attribute(key, subkey, number, value, datatype)


def dhcp_attributes(options: Mapping[str, Any]) -> list[Attribute]:
    """Subkey -> value; a list stands for several attributes, numbered in order."""
    made: list[Attribute] = []
    for subkey, value in options.items():
        if isinstance(value, list):
            made += [attribute("dhcp", subkey, item, number) for number, item in enumerate(value)]
        else:
            made.append(attribute("dhcp", subkey, value))
    return made


class Site:
    """Things, added one by one.  network: of the IP manager `net`, or None for a site without one."""

    def __init__(self, network: str | None = "10.1.0.0/24", gateway: str | None = "10.1.0.1") -> None:
        self.things: dict[str, list[Attribute]] = {}
        self.members: dict[str, list[str]] = {}
        self.number = 0
        self.macs = 0x001122334400
        if network is not None:
            self.network("net", network, gateway)

    def thing(self, name: str, type_: str, extra: Iterable[Attribute], pools: Iterable[str] = ()) -> None:
        self.things[f"/{type_}/{name}"] = list(extra)
        for pool in pools:
            self.put(name, pool)

    def path(self, name: str) -> str:
        (path,) = (path for path in self.things if path.split("/", 2)[2] == name)
        return path

    def put(self, name: str, container: str) -> None:
        self.members.setdefault(self.path(container), []).append(self.path(name))

    def network(
        self, name: str, network: str | None, gateway: str | None = None, netmask: str | None = None, **dhcp: Any
    ) -> None:
        base, _, prefix = (network or "").partition("/")
        mask = netmask or str(IPv4Address(0xFFFFFFFF << 32 - int(prefix or 32) & 0xFFFFFFFF))
        found = {"baseip": base if network else None, "netmask": mask, "gateway": gateway}
        properties = [attribute(key, "property", value) for key, value in found.items() if value is not None]
        self.thing(name, "resourcemanager", [*properties, *dhcp_attributes(dhcp)])

    def pool(self, name: str, *, pools: Iterable[str] = (), type_: str = "pool", **dhcp: Any) -> None:
        self.thing(name, type_, dhcp_attributes(dhcp), pools)

    def host(
        self,
        name: str,
        *addresses: str | At,
        mac: str | Sequence[str] | None = None,
        pools: Iterable[str] = (),
        type_: str = "server",
        extra: Iterable[Attribute] = (),
        dhcp: Mapping[str, Any] | None = None,
    ) -> None:
        """mac: the next of the site's when None, () for none.  dhcp: {"enabled": 1} when None."""
        if mac is None:
            self.macs += 1
            mac = self.macs.to_bytes(6, "big").hex(":")
        rows = [attribute("port-nic-eth", "mac", text, 1) for text in ([mac] if isinstance(mac, str) else mac)]
        rows += dhcp_attributes({"enabled": 1} if dhcp is None else dhcp)
        for address in addresses:
            rows += self.bound(At(address) if isinstance(address, str) else address)
        self.thing(name, type_, [*rows, *extra], pools)

    def bound(self, at: At) -> list[Attribute]:
        number = self.number if at.number is None else at.number
        self.number = max(self.number, number) + 1
        rows = [attribute("ip", "ipstring", at.text, number)]
        with contextlib.suppress(ValueError):
            rows.insert(0, attribute("ip", None, int(IPv4Address(at.text or "")) - OFFSET, number))
        if at.manager:
            rows.append(attribute("ip", "manager", f"/resourcemanager/{at.manager}", number))
        if at.port:
            rows.append(attribute("ip", "osportname", at.port, number))
        return rows

    def inventory(self) -> Inventory:
        """As the fetcher hands it over."""
        made = Inventory(things={path: Thing(path, tuple(rows)) for path, rows in self.things.items()})
        for container, members in self.members.items():
            for member in members:
                made.parents.setdefault(member, []).append(container)
        made.hosts = sorted(path for path, thing in made.things.items() if thing.mac())
        made.managers = sorted(path for path in made.things if path.startswith("/resourcemanager/"))
        return made

    def plan(self, **config: Any) -> Plan:
        return plan_hosts(self.inventory(), Dhcp(**config))

    def store_in(self, store: Store) -> None:
        """In place of everything that the store holds."""
        ids = {path: number for number, path in enumerate(self.things, 1)}
        rows = [(path, row) for path, found in self.things.items() for row in found]
        for container, members in self.members.items():
            rows += [
                (container, Attribute("_contains", None, number, member, "relation"))
                for number, member in enumerate(members)
            ]
        with store.write() as db:
            for table in (counters, attributes, entities):
                db.execute(delete(table))
            names = [path.split("/", 2)[1:] for path in ids]
            found = [{"name": name, "type": type_, "driver": DRIVERS[type_]} for type_, name in names]
            db.execute(insert(entities), [row | {"id": number} for number, row in enumerate(found, 1)])
            if rows:
                db.execute(insert(attributes), [_column(row, ids[path], ids) for path, row in rows])


def _column(row: Attribute, entity_id: int, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "entity_id": entity_id,
        "key": row.key,
        "subkey": row.subkey,
        "number": row.number,
        "datatype": row.datatype,
        "int_value": row.value if row.datatype == "int" else None,
        "string_value": row.value if row.datatype == "string" else None,
        "relation_id": ids[row.value] if row.datatype == "relation" else None,
    }


# --- what was planned ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """One host of a plan.  options: code -> payload, what its first lease's template and its own options say."""

    state: State
    reason: str
    addresses: list[str]
    options: dict[int, bytes]
    template: Template | None


CLIENTS = [client for client in ClientClass if client is not ClientClass.BMC]  # the classes that a request can be of


def variant(template: Template, client: ClientClass) -> Template:
    """What a class gets, as a table has it: its own, or what its wider class gets."""
    variants = dict(template.variants)
    number = int(client)
    while number not in variants and number not in EVERYWHERE:
        number = PARENTS[number]
    return variants.get(number, template)


def decode(blob: bytes) -> dict[int, bytes]:
    """Encoded options -> code -> payload; parts of one long option in a row are joined."""
    found: dict[int, bytes] = {}
    at, last = 0, None
    while at < len(blob):
        code, length = blob[at], blob[at + 1]
        assert code == last or code not in found, f"option {code} twice, not in a row"
        assert at + 2 + length <= len(blob)
        found[code] = found.get(code, b"") + blob[at + 2 : at + 2 + length]
        at, last = at + 2 + length, code
    return found


def row_of(plan: Plan, name: str) -> Row:
    """The server's; its BMC's is another one."""
    (row,) = (row for row in plan.rows if row.name == name and row.key == row.mac)
    return row


def look(plan: Plan, name: str = "a", lease: int = 0) -> Seen:
    row = row_of(plan, name)
    addresses = [str(IPv4Address(address)) for address, _prefix, _template in row.leases]
    template = row.leases[lease][2] if row.leases else None
    shared, own = decode(template.options if template else b""), decode(row.own)
    assert not shared.keys() & own.keys(), "an option in the template and in the host's own: it would be sent twice"
    return Seen(row.state, row.reason, addresses, shared | own, template)
