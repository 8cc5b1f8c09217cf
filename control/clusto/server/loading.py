"""Brings a file of networks, containers and hosts into the store; clusto/hostfile.py has the format, dumping.py the way
back.

All or nothing: one transaction, undone when a row is bad.  Loading the same file again changes nothing.  What the file
does not speak of stays: other hosts, other options.  A host's addresses, an option's values, a host's rack and the
place it is in become exactly those of its row; an address that no row could say stays.  Rows pass through in batches: a
million hosts fit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from sqlalchemy import Connection, delete, insert, select, text, update

from control.clusto.drivers import DRIVERS, POOL_DRIVERS, driver_of
from control.clusto.hostfile import (
    Fault,
    HostFile,
    HostRow,
    NetworkRow,
    OptionValue,
    PoolRow,
    Row,
    Unreadable,
    normal_mac,
    numbered,
    opened,
    read_rows,
)
from control.clusto.rawrows import check_file
from control.clusto.server import dumping
from control.clusto.server.attrs import (
    CONTAINS,
    DATATYPE,
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
from control.clusto.server.reading import (
    ADDRESS_BIAS,
    NIC_KEY,
    Entity,
    Manager,
    Membership,
    entities_where,
    ip_managers,
    memberships,
)
from control.clusto.server.store import Store, among, attributes, counters, entities
from control.clusto.server.taken import LOADED, taken
from control.clusto.server.writing import insert_rows

Progress = Callable[[str, int, int], None]
"""Called with (step, done, of)."""

ROWS_PER_BATCH: Final = 5_000

_COLUMN_OF: Final = {"int": INT, "string": STRING, "relation": TARGET_NAME}

_OF_AN_ADDRESS: Final = (None, "manager", "ipstring", "cidr")

dump_file = dumping.dump_file

_ATTRIBUTE_COLUMNS: Final = (
    "entity_id",
    "key",
    "subkey",
    "number",
    "datatype",
    "int_value",
    "string_value",
    "relation_id",
)


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
    with opened(path) as stream, store.write(bulk=True) as db:
        loading = _Loading(db, on_progress or (lambda _step, _done, _of: None))
        try:
            check_file(stream, path.name)
            loading.load(stream, path)
        except Unreadable as error:
            loading.report.errors.append(str(error))
        report = loading.report
        if dry_run or report.errors:
            db.rollback()
        else:
            report.written = True
    return report


class _Wanted(NamedTuple):
    """An attribute that has to be there.  shown: its value as the file says it, a name for a relation."""

    key: str
    subkey: str | None
    number: int | None
    datatype: str
    shown: str | int
    stored: str | int

    @classmethod
    def of(cls, key: str, subkey: str | None, number: int | None, value: str | int) -> "_Wanted":
        return cls(key, subkey, number, "int" if isinstance(value, int) else "string", value, value)

    def is_row(self, row: AttrRow) -> bool:
        same = (row[KEY], row[SUBKEY], row[NUMBER], row[DATATYPE]) == self[:4]
        return same and self.shown == row[_COLUMN_OF[self.datatype]]


@dataclass(slots=True)
class _Target:
    """One row of the file with its entity: what is there, and what has to come and to go."""

    row: Row
    entity: Entity
    is_new: bool
    rows: list[AttrRow] = field(default_factory=list)
    memberships: list[Membership] = field(default_factory=list)
    added: list[_Wanted] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    joined: list[tuple[Entity, int | None]] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        return bool(self.added or self.dropped or self.joined)

    def where(self, key: str, subkey: str | None, number: int | None) -> list[AttrRow]:
        return [row for row in self.rows if (row[KEY], row[SUBKEY], row[NUMBER]) == (key, subkey, number)]

    def replace(self, there: Iterable[AttrRow], wanted: Iterable[_Wanted]) -> None:
        """Of what is there stays what is wanted; the rest goes, and what is missing comes."""
        left = list(there)
        for want in wanted:
            same = next((position for position, row in enumerate(left) if want.is_row(row)), None)
            if same is None:
                self.added.append(want)
            else:
                del left[same]
        self.dropped += [row[ID] for row in left]


class _Networks:
    """The managers, found by address."""

    def __init__(self, managers: Iterable[Manager]) -> None:
        self._everywhere: list[Manager] = []
        self._by_base: dict[int, dict[int, list[Manager]]] = {}
        for manager in managers:
            if manager.network is None:
                self._everywhere.append(manager)
            else:
                of_mask = self._by_base.setdefault(int(manager.network.netmask), {})
                of_mask.setdefault(int(manager.network.network_address), []).append(manager)

    def of(self, address: IPv4Address) -> list[Manager]:
        found = list(self._everywhere)
        for mask, by_base in self._by_base.items():
            found += by_base.get(int(address) & mask, ())
        return found


class _Loading:
    """Looks up a batch of rows, compares it in memory and writes it, all in bulk."""

    def __init__(self, db: Connection, progress: Progress) -> None:
        self.db = db
        self.progress = progress
        self.report = LoadReport()
        self.containers: dict[str, Entity] = {}
        self.networks = _Networks(())
        self.units_of: dict[int, tuple[int, int]] = {}
        self.sequence = 0

    def load(self, stream: TextIO, path: Path) -> None:
        """Twice through the file: hosts may stand before what they are in."""
        LOADED.create(self.db)
        frame = HostFile()
        for row in read_rows(stream, path.name, ("networks", "pools", "containers")):
            frame.add(row)
        self.report.errors += frame.errors
        named = set(frame.errors)
        self._batch(self._named_networks(frame.networks))
        self.networks = _Networks(ip_managers(self.db))
        self._batch([*frame.pools, *frame.containers])
        stream.seek(0)
        size = path.stat().st_size
        rows = read_rows(stream, path.name, ("hosts",))
        while batch := list(islice(rows, ROWS_PER_BATCH)):
            self.progress("hosts", min(stream.buffer.tell(), size), size)
            faults = [row.text for row in batch if isinstance(row, Fault)]
            self.report.errors += [fault for fault in faults if fault not in named]
            self._batch([row for row in batch if not isinstance(row, Fault)])
        self.progress("check", size, size)
        if self.db.dialect.name == "postgresql":
            # Its planner knows nothing yet of what has just come in, and would compare every row with every other.
            self.db.execute(text("ANALYZE entities, attributes, loaded"))
        self.report.errors += taken(self.db)
        self._refuse_shared_units()
        LOADED.drop(self.db)

    def _error(self, row: Row, text: str) -> None:
        self.report.errors.append(f"{row.where}: {text}")

    def _named_networks(self, rows: Iterable[NetworkRow]) -> list[NetworkRow]:
        """A network that a manager of any name has is that one: a second one would make its addresses unmanaged."""
        name_of = {manager.network: manager.entity.name for manager in ip_managers(self.db)}
        return [replace(row, name=name_of.get(row.network, row.name)) for row in rows]

    def _batch(self, rows: Sequence[Row]) -> None:
        self.report.rows += len(rows)
        targets = self._targets(rows)
        self._find_containers([target.row for target in targets])
        for target in targets:
            if isinstance(target.row, NetworkRow):
                self._network(target, target.row)
                self._options(target, target.row.dhcp)
                continue
            self._options(target, target.row.dhcp)
            if isinstance(target.row, HostRow):
                self._host(target, target.row)
            self._memberships(target, target.row)
        self._write(targets)
        self.report.added += sum(target.is_new for target in targets)
        self.report.changed += sum(target.changes and not target.is_new for target in targets)
        self.report.unchanged += sum(not target.changes and not target.is_new for target in targets)

    # Looking up -------------------------------------------------------------------------------------------------------

    def _targets(self, rows: Iterable[Row]) -> list[_Target]:
        """Rows with their entities, made when they are missing; a second row of one name is an error."""
        row_of: dict[str, Row] = {}
        for row in rows:
            if row.name in row_of:
                self._name_taken(row, row_of[row.name].where)
            else:
                row_of[row.name] = row
        there = {e.name: e for e in entities_where(self.db, among(self.db, entities.c.name, list(row_of)))}
        places = self._places([entity.id for entity in there.values()])
        missing = [row for row in row_of.values() if row.name not in there]
        drivers = [DRIVERS[_driver(row)] for row in missing]
        made = [(row.name, driver.type, driver.name) for row, driver in zip(missing, drivers, strict=True)]
        insert_rows(self.db, entities, ("name", "type", "driver"), made)
        new = {
            e.name: e for e in entities_where(self.db, among(self.db, entities.c.name, [row.name for row in missing]))
        }
        targets = []
        for row in row_of.values():
            entity = new.get(row.name) or there[row.name]
            wanted = DRIVERS[_driver(row)].type
            if entity.id in places:
                self._name_taken(row, places[entity.id])
            elif entity.type != wanted:
                self._error(row, f"{entity.path} exists; wanted a {wanted}")
            else:
                targets.append(_Target(row, entity, row.name in new))
        self._look_up([target for target in targets if not target.is_new])
        return targets

    def _name_taken(self, row: Row, place: str) -> None:
        self._error(row, f"name {row.name} is also at {place}; wanted one row a name")

    def _places(self, ids: list[int]) -> dict[int, str]:
        statement = select(LOADED.c.entity_id, LOADED.c.place).where(among(self.db, LOADED.c.entity_id, ids))
        return {row.entity_id: row.place for row in self.db.execute(statement)}

    def _look_up(self, targets: list[_Target]) -> None:
        by_id = {target.entity.id: target for target in targets}
        for entity_id, rows in load_rows(self.db, list(by_id), AttrFilter()).items():
            by_id[entity_id].rows = rows
        for membership in memberships(self.db, list(by_id)):
            by_id[membership.member_id].memberships.append(membership)

    def _find_containers(self, rows: Sequence[Row]) -> None:
        """Everything that these rows are in; a pool that rows only name is made like one that has a row."""
        self.containers.update(
            (target.name, target)
            for target in entities_where(
                self.db, among(self.db, entities.c.name, [row.name for row in rows if isinstance(row, PoolRow)])
            )
        )
        pools: dict[str, str] = {}
        others: set[str] = set()
        for row in rows:
            if not isinstance(row, NetworkRow):
                pools.update((name, row.where) for name in row.pools if name not in self.containers)
                others.update(row.containers)
            if isinstance(row, HostRow) and row.rack is not None:
                others.add(row.rack)
        unknown = list(others - self.containers.keys())
        if unknown:
            there = entities_where(self.db, among(self.db, entities.c.name, unknown))
            self.containers.update((entity.name, entity) for entity in there)
        implied = [PoolRow(where=where, name=name) for name, where in pools.items()]
        if implied:
            self._batch(implied)
            self.report.rows -= len(implied)

    # Comparing --------------------------------------------------------------------------------------------------------

    def _network(self, target: _Target, row: NetworkRow) -> None:
        said = {"baseip": row.network.network_address, "netmask": row.network.netmask, "gateway": row.gateway}
        for key, value in said.items():
            if value is not None:
                wanted = _Wanted.of(key, "property", None, str(value))
                target.replace(target.where(key, "property", None), [wanted])

    def _options(self, target: _Target, dhcp: Mapping[str, OptionValue]) -> None:
        for option, value in dhcp.items():
            there = [row for row in target.rows if row[KEY] == "dhcp" and row[SUBKEY] == option]
            target.replace(there, [_Wanted.of("dhcp", option, number, item) for number, item in numbered(value)])

    def _host(self, target: _Target, row: HostRow) -> None:
        if row.hostname is not None:
            wanted = _Wanted.of("hostname", None, None, row.hostname)
            target.replace(target.where("hostname", None, None), [wanted])
        for number, mac in row.cards.items():
            there = target.where(NIC_KEY, "mac", number)
            # Another spelling of the same MAC is no change.
            same = (attr[STRING] for attr in there if attr[STRING] and normal_mac(attr[STRING]) == mac)
            target.replace(there, [_Wanted.of(NIC_KEY, "mac", number, next(same, mac))])
        for number, name in row.portnames.items():
            there = target.where(NIC_KEY, "osportname", number)
            target.replace(there, [_Wanted.of(NIC_KEY, "osportname", number, name)])
        if row.addresses is not None:
            self._addresses(target, row, row.addresses)

    def _addresses(self, target: _Target, row: HostRow, bound: tuple[IPv4Address, ...]) -> None:
        there = [attr for attr in target.rows if attr[KEY] == "ip"]
        number_of = {attr[INT]: attr[NUMBER] for attr in there if attr[SUBKEY] is None}
        free = 1 + max((attr[NUMBER] for attr in there if attr[NUMBER] is not None), default=-1)
        wanted: list[_Wanted] = []
        kept: dict[int | None, str | None] = {}
        last = -1
        for address in dict.fromkeys(bound):
            managers = self.networks.of(address)
            if len(managers) != 1 or managers[0].network is None:
                names = ", ".join(manager.entity.name for manager in managers) or "none"
                self._error(row, f"address {address} is in networks: {names}; wanted exactly one with a base")
                continue
            manager, network = managers[0].entity, managers[0].network
            value = int(address) - ADDRESS_BIAS
            before = number = number_of.get(value)
            if number is None or number < last:  # the lowest one counts: what stands later has a higher one
                number, free = free, free + 1
            last = number
            kept[number] = row.osportnames.get(address)
            wanted += [
                _Wanted.of("ip", None, number, value),
                _Wanted("ip", "manager", number, "relation", manager.name, manager.id),
                _Wanted.of("ip", "ipstring", number, str(address)),
                _Wanted.of("ip", "cidr", number, f"{address}/{network.prefixlen}"),
            ]
            if kept[number] is not None:
                wanted.append(_Wanted.of("ip", "osportname", number, kept[number] or ""))
            if before is not None and number != before:
                wanted += _moved(there, before, number, kept[number] is not None)
        # What else is said of an address that stays is none of the row's business.
        unsaid = self._unsaid(there, bound) - kept.keys()
        target.replace(
            (
                attr
                for attr in there
                if (attr[NUMBER] not in kept and attr[NUMBER] not in unsaid)
                or (attr[NUMBER] in kept and attr[SUBKEY] in _OF_AN_ADDRESS)
                or (attr[SUBKEY] == "osportname" and kept.get(attr[NUMBER]) is not None)
            ),
            wanted,
        )

    def _unsaid(self, there: Iterable[AttrRow], bound: tuple[IPv4Address, ...]) -> set[int | None]:
        """Numbers of what a host has and no row could say: a dump leaves it out, and a row without it says nothing."""
        groups: dict[int | None, dict[str | None, AttrRow]] = {}
        for attr in there:
            groups.setdefault(attr[NUMBER], {}).setdefault(attr[SUBKEY], attr)
        found = set()
        for number, group in groups.items():
            address = dumping.address_of(group)
            if address is None or (address not in bound and len(self.networks.of(address)) != 1):
                found.add(number)
        return found

    def _memberships(self, target: _Target, row: PoolRow | HostRow) -> None:
        inside = {membership.container.id for membership in target.memberships}
        pools = self._known(row, row.pools, "pool")
        target.joined += [(pool, None) for pool in pools if pool.id not in inside]
        self._check_pools(target, pools)
        places = self._known(row, row.containers, "place")
        for place in places:
            if sum(other.driver == place.driver for other in places) > 1:
                self._error(row, f"container {place.name} is one of several {place.driver}; wanted at most one")
            others = [m for m in target.memberships if m.container.driver == place.driver and m.container != place]
            target.dropped += [membership.attribute_id for membership in others]
            if place.id not in inside:
                target.joined.append((place, None))
        if isinstance(row, HostRow) and row.rack is not None:
            for rack in self._known(row, (row.rack,), "rack"):
                self._rack(target, row, rack)

    def _known(self, row: Row, names: Iterable[str], kind: str) -> list[Entity]:
        """The containers of these names, if they are of that kind ("pool", "place" or "rack")."""
        found = []
        for name in names:
            entity = self.containers.get(name)
            rule = None if entity is None else driver_of(entity.driver).container
            if entity is None:
                self._error(row, f"container {name}: there is none; wanted a row for it, or one in the inventory")
            elif entity.name == row.name:
                self._error(row, f"container {name}: it cannot be in itself")
            elif rule != kind and not (kind == "pool" and entity.driver in POOL_DRIVERS):
                self._error(row, f"{entity.path} exists; wanted a {kind}")
            else:
                found.append(entity)
        return found

    def _check_pools(self, target: _Target, pools: list[Entity]) -> None:
        """CLUSTO-HTTPD 1.3."""
        held = {m.container for m in target.memberships if m.container.driver in POOL_DRIVERS} | set(pools)
        exclusive = [pool.name for pool in held if pool.driver == "exclusive_pool"]
        unique = [pool.name for pool in held if pool.driver == "unique_pool"]
        if exclusive and len(held) > 1:
            names = ", ".join(sorted(pool.name for pool in held))
            self._error(target.row, f"in pools {names}; wanted {exclusive[0]}, an exclusive_pool, alone")
        if len(unique) > 1:
            self._error(target.row, f"in pools {', '.join(sorted(unique))}; wanted one unique_pool")

    def _rack(self, target: _Target, row: HostRow, rack: Entity) -> None:
        if rack.id not in self.units_of:
            said = {r[KEY]: r[INT] for r in load_rows(self.db, [rack.id], AttrFilter(subkey="property"))[rack.id]}
            self.units_of[rack.id] = said.get("minu") or 1, said.get("maxu") or 45
        lowest, highest = self.units_of[rack.id]
        for unit in row.ru:
            if not lowest <= unit <= highest:
                self._error(row, f"ru {unit} of rack {rack.name}; wanted {lowest} to {highest}")
        wanted = [(rack, unit) for unit in row.ru]
        for membership in target.memberships:
            if driver_of(membership.container.driver).container == "rack":
                there = (membership.container, membership.number)
                if there in wanted:
                    wanted.remove(there)
                else:
                    target.dropped.append(membership.attribute_id)
        target.joined += wanted

    # Writing ----------------------------------------------------------------------------------------------------------

    def _write(self, targets: Sequence[_Target]) -> None:
        for chunk in chunked([attribute_id for target in targets for attribute_id in target.dropped]):
            self.db.execute(delete(attributes).where(among(self.db, attributes.c.id, chunk)))
        rows = [_attribute_row(target.entity.id, want) for target in targets for want in target.added]
        rows += [row for target in targets if target.is_new for row in _driver_properties(target)]
        joins: dict[Entity, list[int]] = {}
        for target in targets:
            for container, unit in target.joined:
                if unit is None:
                    joins.setdefault(container, []).append(target.entity.id)
                else:
                    rows.append((container.id, CONTAINS, "ru", unit, "relation", None, None, target.entity.id))
        for container, member_ids in joins.items():
            first = self._take_numbers(container, len(member_ids))
            rows += [
                (container.id, CONTAINS, None, number, "relation", None, None, member_id)
                for number, member_id in enumerate(member_ids, first)
            ]
        insert_rows(self.db, attributes, _ATTRIBUTE_COLUMNS, rows)
        loaded = []
        for target in targets:
            self.sequence += 1
            mac, bound = getattr(target.row, "cards", None), getattr(target.row, "addresses", None)
            loaded.append((target.entity.id, self.sequence, target.row.where, int(bool(mac)), int(bool(bound))))
        insert_rows(self.db, LOADED, tuple(column.name for column in LOADED.c), loaded)

    def _take_numbers(self, container: Entity, count: int) -> int:
        """The first of so many numbers of a container's counter (CLUSTO-HTTPD 1.5)."""
        this = (counters.c.entity_id == container.id) & (counters.c.key == CONTAINS)
        last = self.db.execute(select(counters.c.value).where(this)).scalar()
        if last is None:
            self.db.execute(insert(counters).values(entity_id=container.id, key=CONTAINS, value=count - 1))
            return 0
        self.db.execute(update(counters).where(this).values(value=last + count))
        return int(last) + 1

    # What only the whole file tells -----------------------------------------------------------------------------------

    def _refuse_shared_units(self) -> None:
        mine, other, owner, rack = attributes.alias(), attributes.alias(), entities.alias(), entities.alias()
        statement = (
            select(mine.c.number, LOADED.c.place, owner.c.name, rack.c.name)
            .join_from(mine, LOADED, mine.c.relation_id == LOADED.c.entity_id)
            .join(
                other,
                (other.c.entity_id == mine.c.entity_id)
                & (other.c.key == CONTAINS)
                & (other.c.subkey == "ru")
                & (other.c.number == mine.c.number)
                & (other.c.relation_id < mine.c.relation_id),
            )
            .join(owner, owner.c.id == other.c.relation_id)
            .join(rack, rack.c.id == mine.c.entity_id)
            .where(mine.c.key == CONTAINS, mine.c.subkey == "ru")
            .where(among(self.db, mine.c.entity_id, list(self.units_of)))
        )
        for unit, place, name, rack_name in self.db.execute(statement):
            self.report.errors.append(f"{place}: ru {unit} of rack {rack_name} is also of {name}; wanted a free one")


def _moved(there: Iterable[AttrRow], before: int, number: int, named: bool) -> list[_Wanted]:
    """What else is said of an address goes with it to its new number.  named: the row itself says its osportname."""
    said = [attr for attr in there if attr[NUMBER] == before and attr[SUBKEY] not in _OF_AN_ADDRESS]
    return [
        _Wanted.of("ip", attr[SUBKEY], number, attr[_COLUMN_OF[attr[DATATYPE]]])
        for attr in said
        if attr[DATATYPE] in ("int", "string") and not (named and attr[SUBKEY] == "osportname")
    ]


def _driver(row: Row) -> str:
    return "ipmanager" if isinstance(row, NetworkRow) else row.driver


def _attribute_row(entity_id: int, want: _Wanted) -> tuple[Any, ...]:
    values = tuple(want.stored if want.datatype == kind else None for kind in ("int", "string", "relation"))
    return (entity_id, want.key, want.subkey, want.number, want.datatype, *values)


def _driver_properties(target: _Target) -> Iterator[tuple[Any, ...]]:
    """What an entity has from its making (CLUSTO-HTTPD 1.4), unless the row says it."""
    said = {want.key for want in target.added if want.subkey == "property"}
    for key, value in DRIVERS[target.entity.driver].properties.items():
        if key not in said:
            yield _attribute_row(target.entity.id, _Wanted.of(key, "property", None, value))
