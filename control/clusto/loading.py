"""Brings a file of networks, pools and hosts into the store, and a store into a file; hostfile.py reads and writes it.

All or nothing: one transaction, and none when a row is bad.  Loading the same file again changes nothing.  What the
file does not speak of stays: other hosts, other options; a host's addresses become exactly those of its row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from control.clusto.attrs import (
    CONTAINS,
    ID,
    INT,
    KEY,
    NUMBER,
    STRING,
    SUBKEY,
    TARGET_NAME,
    AttrFilter,
    AttrRow,
    chunked,
    load_rows,
)
from control.clusto.drivers import DRIVERS
from control.clusto.hostfile import HostFile, HostRow, NetworkRow, OptionValue, PoolRow, parse, render
from control.clusto.reading import ADDRESS_BIAS, Entity, entities_where, ip_managers
from control.clusto.store import Store, attributes, counters, entities
from control.clusto.writing import Value

Progress = Callable[[str, int, int], None]
"""Called with (step, done, of)."""

_NIC: Final = "port-nic-eth"
_NAMES_PER_QUERY: Final = 1_000


@dataclass(slots=True)
class LoadReport:
    """rows: good ones in the file; entities that were added, changed or already so; errors: one line a bad row."""

    rows: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    errors: list[str] = field(default_factory=list)
    written: bool = False


def load_file(store: Store, path: Path, *, dry_run: bool = False, on_progress: Progress | None = None) -> LoadReport:
    """Raises OSError when the file cannot be read; what is wrong inside it is in LoadReport.errors."""
    found = parse(path.read_text(encoding="utf-8"), path.name)
    report = LoadReport(rows=len(found), errors=found.errors)
    if report.errors:
        return report
    with store.read() if dry_run else store.write() as db:
        plan = _Plan(db, found, on_progress or (lambda _step, _done, _of: None))
        plan.make()
        report.added, report.changed, report.unchanged = plan.counts()
        report.errors += plan.errors
        if not dry_run and not report.errors:
            plan.write()
            report.written = True
    return report


def dump_file(store: Store, path: Path) -> int:
    """Writes every network, pool and host as YAML; how many there were."""
    with store.read() as db:
        found = _read_all(db)
    path.write_text(render(found), encoding="utf-8")
    return len(found)


# Loading --------------------------------------------------------------------------------------------------------------

_Slot = tuple[str, str | None, int | None]


@dataclass(slots=True)
class _Target:
    """One entity of the file: what is there and what has to be."""

    where: str
    name: str
    driver: str
    entity: Entity | None = None
    rows: list[AttrRow] = field(default_factory=list)
    wanted: dict[_Slot, Value] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    pools: tuple[str, ...] = ()
    joins: list[str] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        return bool(self.wanted or self.dropped or self.joins)

    def want(self, key: str, subkey: str | None, number: int | None, value: Value) -> None:
        """As `set`: an equal one stays, every other one in its place goes (CLUSTO-HTTPD 1.2)."""
        there = [row for row in self.rows if (row[KEY], row[SUBKEY], row[NUMBER]) == (key, subkey, number)]
        column = INT if value.column == "int_value" else STRING
        equal = [row for row in there if value.column != "relation_id" and row[column] == value.value]
        if not equal:
            self.wanted[key, subkey, number] = value
        self.dropped += [row[ID] for row in there if row not in equal[:1]]


class _Plan:
    """Everything is looked up in bulk, compared in memory, and written in bulk."""

    def __init__(self, db: Connection, found: HostFile, progress: Progress) -> None:
        self.db = db
        self.found = found
        self.progress = progress
        self.errors: list[str] = []
        self.targets: dict[str, _Target] = {}
        self.managers: list[tuple[str, IPv4Network]] = []

    def make(self) -> None:
        self._names_of_networks()
        for network in self.found.networks:
            self._target(network.where, network.name, "ipmanager")
        for pool in self.found.pools:
            self._target(pool.where, pool.name, "pool", pool.pools)
        for host in self.found.hosts:
            self._target(host.where, host.name, host.driver, host.pools)
        self._pools_by_name()
        self._look_up()
        for network in self.found.networks:
            self._network(network)
        self._all_managers()
        for pool in self.found.pools:
            self._options(self.targets[pool.name], pool.dhcp)
        self._refuse_taken()
        for done, host in enumerate(self.found.hosts):
            if done % 1000 == 0:
                self.progress("compare", done, len(self.found.hosts))
            self._host(host)

    def _names_of_networks(self) -> None:
        """A network that a manager of any name has is that one: a second one would make its addresses unmanaged."""
        name_of = {manager.network: manager.entity.name for manager in ip_managers(self.db)}
        rows = self.found.networks
        self.found.networks = [replace(row, name=name_of.get(row.network, row.name)) for row in rows]

    def _target(self, where: str, name: str, driver: str, pools: tuple[str, ...] = ()) -> None:
        if name in self.targets:
            self.errors.append(f"{where}: name {name} is also at {self.targets[name].where}; wanted one row a name")
        else:
            self.targets[name] = _Target(where, name, driver, pools=pools)

    def _pools_by_name(self) -> None:
        """A pool that rows only name is made like one that has a row."""
        for target in list(self.targets.values()):
            for pool in target.pools:
                self.targets.setdefault(pool, _Target(target.where, pool, "pool"))

    def _look_up(self) -> None:
        names = list(self.targets)
        by_id: dict[int, _Target] = {}
        for start in range(0, len(names), _NAMES_PER_QUERY):
            self.progress("look up", start, len(names))
            for entity in entities_where(self.db, entities.c.name.in_(names[start : start + _NAMES_PER_QUERY])):
                target = self.targets[entity.name]
                target.entity = entity
                by_id[entity.id] = target
                if DRIVERS[target.driver].type != entity.type:
                    self.errors.append(f"{target.where}: {entity.path} exists; wanted a {DRIVERS[target.driver].type}")
        for entity_id, rows in load_rows(self.db, list(by_id), AttrFilter()).items():
            by_id[entity_id].rows = rows
        containers = self._containers_of(list(by_id))
        for target in self.targets.values():
            inside = containers.get(target.entity.id, set()) if target.entity else set()
            for pool in target.pools:
                there = self.targets[pool].entity
                if there is None or there.id not in inside:
                    target.joins.append(pool)

    def _containers_of(self, ids: list[int]) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for chunk in chunked(ids):
            statement = select(attributes.c.relation_id, attributes.c.entity_id)
            statement = statement.where(attributes.c.relation_id.in_(chunk), attributes.c.key == CONTAINS)
            for member, container in self.db.execute(statement):
                found.setdefault(member, set()).add(container)
        return found

    def _network(self, row: NetworkRow) -> None:
        target = self.targets[row.name]
        target.want("baseip", "property", None, Value.of(str(row.network.network_address)))
        target.want("netmask", "property", None, Value.of(str(row.network.netmask)))
        if row.gateway is not None:
            target.want("gateway", "property", None, Value.of(str(row.gateway)))

    def _all_managers(self) -> None:
        ours = {row.name for row in self.found.networks}
        self.managers = [(row.name, row.network) for row in self.found.networks]
        everywhere = IPv4Network("0.0.0.0/0")
        self.managers += [
            (m.entity.name, m.network or everywhere) for m in ip_managers(self.db) if m.entity.name not in ours
        ]

    def _options(self, target: _Target, dhcp: Mapping[str, OptionValue]) -> None:
        for option, value in dhcp.items():
            target.want("dhcp", option, None, Value.of(value))

    def _refuse_taken(self) -> None:
        """One MAC and one address belong to one host, in the file and in the store."""
        for what, of_host, column, key, subkey in (
            ("mac", _macs_of, "string_value", _NIC, "mac"),
            ("address", _addresses_of, "int_value", "ip", None),
        ):
            owner_of: dict[str | int, str] = {}
            giving_up = {h.name: (h.mac if what == "mac" else h.addresses) is not None for h in self.found.hosts}
            for host in self.found.hosts:
                for shown, value in of_host(host):
                    if owner_of.setdefault(value, host.name) != host.name:
                        self.errors.append(
                            f"{host.where}: {what} {shown} is also of {owner_of[value]}; wanted one host"
                        )
            for value, name in self._owners(list(owner_of), column, key, subkey):
                # A host that the file speaks of keeps only what its row says.
                if name != owner_of[value] and not giving_up.get(name, False):
                    where = self.targets[owner_of[value]].where
                    self.errors.append(f"{where}: {what} {_shown(value)} belongs to {name}; wanted a free one")

    def _owners(
        self, values: list[str | int], column: str, key: str, subkey: str | None
    ) -> Iterator[tuple[str | int, str]]:
        of_subkey = attributes.c.subkey.is_(None) if subkey is None else attributes.c.subkey == subkey
        for start in range(0, len(values), _NAMES_PER_QUERY):
            statement = (
                select(attributes.c[column], entities.c.name)
                .join_from(attributes, entities, attributes.c.entity_id == entities.c.id)
                .where(attributes.c[column].in_(values[start : start + _NAMES_PER_QUERY]))
                .where(attributes.c.key == key, of_subkey)
            )
            yield from ((value, name) for value, name in self.db.execute(statement))

    def _host(self, host: HostRow) -> None:
        target = self.targets[host.name]
        if host.mac is not None:
            target.want(_NIC, "mac", 1, Value.of(host.mac))
        self._options(target, host.dhcp)
        if host.addresses is None:
            return
        number_of = {row[INT]: row[NUMBER] for row in target.rows if row[KEY] == "ip" and row[SUBKEY] is None}
        kept = {number_of[value] for _, value in _addresses_of(host) if value in number_of}
        target.dropped += [row[ID] for row in target.rows if row[KEY] == "ip" and row[NUMBER] not in kept]
        free = 1 + max((number for number in number_of.values() if number is not None), default=-1)
        for address in host.addresses:
            managers = [(name, network) for name, network in self.managers if address in network]
            if len(managers) != 1:
                names = ", ".join(name for name, _ in managers) or "none"
                self.errors.append(f"{host.where}: address {address} is in networks: {names}; wanted exactly one")
                continue
            value = int(address) - ADDRESS_BIAS
            number = number_of.get(value)
            if number is None:
                number, free = free, free + 1
            manager, network = managers[0]
            target.want("ip", None, number, Value.of(value))
            said = [row for row in target.rows if (row[KEY], row[SUBKEY], row[NUMBER]) == ("ip", "manager", number)]
            if [row[TARGET_NAME] for row in said] != [manager]:
                target.dropped += [row[ID] for row in said]
                target.wanted["ip", "manager", number] = Value("relation", "relation_id", manager)
            target.want("ip", "ipstring", number, Value.of(str(address)))
            target.want("ip", "cidr", number, Value.of(f"{address}/{network.prefixlen}"))

    def counts(self) -> tuple[int, int, int]:
        added = sum(target.entity is None for target in self.targets.values())
        changed = sum(target.entity is not None and target.changes for target in self.targets.values())
        return added, changed, len(self.targets) - added - changed

    # Writing ----------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        new = [target for target in self.targets.values() if target.entity is None]
        if new:
            rows = [{"name": t.name, "type": DRIVERS[t.driver].type, "driver": t.driver} for t in new]
            self.db.execute(insert(entities), rows)
        id_of = self._ids()
        dropped = [attribute_id for target in self.targets.values() for attribute_id in target.dropped]
        for chunk in chunked(dropped):
            self.db.execute(delete(attributes).where(attributes.c.id.in_(chunk)))
        rows = [row for target in self.targets.values() for row in self._rows(target, id_of)]
        for pool, members in self._members().items():
            rows += self._membership(id_of[pool], [id_of[member] for member in members])
        for start in range(0, len(rows), 10 * _NAMES_PER_QUERY):
            self.progress("write", start, len(rows))
            self.db.execute(insert(attributes), rows[start : start + 10 * _NAMES_PER_QUERY])

    def _ids(self) -> dict[str, int]:
        id_of: dict[str, int] = {}
        names = [*self.targets, *(name for name, _ in self.managers)]
        for start in range(0, len(names), _NAMES_PER_QUERY):
            statement = select(entities.c.name, entities.c.id)
            statement = statement.where(entities.c.name.in_(names[start : start + _NAMES_PER_QUERY]))
            id_of.update((name, entity_id) for name, entity_id in self.db.execute(statement))
        return id_of

    def _rows(self, target: _Target, id_of: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        for (key, subkey, number), value in target.wanted.items():
            held = id_of[value.value] if value.column == "relation_id" else value.value
            yield _row(id_of[target.name], key, subkey, number, value.datatype, value.column, held)

    def _members(self) -> dict[str, list[str]]:
        members: dict[str, list[str]] = {}
        for target in self.targets.values():
            for pool in target.joins:
                members.setdefault(pool, []).append(target.name)
        return members

    def _membership(self, pool_id: int, member_ids: list[int]) -> list[dict[str, Any]]:
        this = (counters.c.entity_id == pool_id) & (counters.c.key == CONTAINS)
        last = self.db.execute(select(counters.c.value).where(this)).scalar()
        first = 0 if last is None else int(last) + 1
        value = first + len(member_ids) - 1
        if last is None:
            self.db.execute(insert(counters).values(entity_id=pool_id, key=CONTAINS, value=value))
        else:
            self.db.execute(update(counters).where(this).values(value=value))
        return [
            _row(pool_id, CONTAINS, None, number, "relation", "relation_id", member_id)
            for number, member_id in enumerate(member_ids, first)
        ]


def _row(
    entity_id: int, key: str, subkey: str | None, number: int | None, datatype: str, column: str, value: Any
) -> dict[str, Any]:
    row = {"entity_id": entity_id, "key": key, "subkey": subkey, "number": number, "datatype": datatype}
    return {**row, "int_value": None, "string_value": None, "relation_id": None, column: value}


def _macs_of(host: HostRow) -> Iterable[tuple[str, str | int]]:
    return [] if host.mac is None else [(host.mac, host.mac)]


def _addresses_of(host: HostRow) -> Iterable[tuple[str, str | int]]:
    return [(str(address), int(address) - ADDRESS_BIAS) for address in host.addresses or ()]


def _shown(value: str | int) -> str:
    return str(IPv4Address(value + ADDRESS_BIAS)) if isinstance(value, int) else value


# Dumping --------------------------------------------------------------------------------------------------------------


def _read_all(db: Connection) -> HostFile:
    found = HostFile()
    for manager in ip_managers(db):
        if manager.network is not None:
            gateway = _address_or_none(manager.gateway)
            found.networks.append(
                NetworkRow(where="", name=manager.entity.name, network=manager.network, gateway=gateway)
            )
    pools = entities_where(db, entities.c.driver == "pool")
    hosts = [host for host in entities_where(db) if host.driver in DRIVERS and "nic-eth" in DRIVERS[host.driver].ports]
    ids = [entity.id for entity in (*pools, *hosts)]
    rows_of = load_rows(db, ids, AttrFilter())
    pools_of = _pools_of(db, {pool.id: pool.name for pool in pools})
    for pool in pools:
        found.pools.append(
            PoolRow(where="", name=pool.name, pools=pools_of.get(pool.id, ()), dhcp=_dhcp_of(rows_of[pool.id]))
        )
    for host in hosts:
        rows = rows_of[host.id]
        macs = [row[STRING] for row in rows if row[KEY] == _NIC and row[SUBKEY] == "mac" and row[NUMBER] == 1]
        addresses = [_address_or_none(row[STRING]) for row in rows if row[KEY] == "ip" and row[SUBKEY] == "ipstring"]
        found.hosts.append(
            HostRow(
                where="",
                name=host.name,
                driver=host.driver,
                mac=macs[0] if macs else None,
                addresses=tuple(address for address in addresses if address is not None),
                pools=pools_of.get(host.id, ()),
                dhcp=_dhcp_of(rows),
            )
        )
    return found


def _pools_of(db: Connection, pools: Mapping[int, str]) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for chunk in chunked(list(pools)):
        statement = select(attributes.c.relation_id, attributes.c.entity_id).order_by(attributes.c.id)
        statement = statement.where(attributes.c.entity_id.in_(chunk), attributes.c.key == CONTAINS)
        for member, pool in db.execute(statement):
            found[member] = (*found.get(member, ()), pools[pool])
    return found


def _dhcp_of(rows: Iterable[AttrRow]) -> dict[str, OptionValue]:
    options: dict[str, OptionValue] = {}
    for row in rows:
        value = row[INT] if row[INT] is not None else row[STRING]
        if row[KEY] == "dhcp" and row[SUBKEY] is not None and value is not None:
            options.setdefault(row[SUBKEY], value)
    return options


def _address_or_none(text: str | None) -> IPv4Address | None:
    try:
        return None if text is None else IPv4Address(text)
    except AddressValueError:
        return None
