"""Entities, their documents, ports and address managers, read from the store for queries.py and actions.py."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, false, select

from control.clusto.drivers import PORT_ACTION_TYPES, driver_of
from control.clusto.errors import NoSuchEntity, Refused
from control.clusto.server.attrs import (
    CONTAINS,
    DATATYPE,
    KEY,
    NUMBER,
    ONE_BULK_READ,
    STRING,
    SUBKEY,
    TARGET_NAME,
    AttrFilter,
    AttrTexts,
    attrs_of,
    chunked,
    driver_rows,
    json_value,
    load_rows,
)
from control.clusto.server.encoding import JsonItems, json_text
from control.clusto.server.store import among, attributes, entities, string_is

ACTIONS: Final = ("addattr", "attrs", "delattr", "insert", "remove", "setattr", "show")
PORT_ACTIONS: Final = ("get_port_attr", "ports", "set_port_attr")

ADDRESS_BIAS: Final = 2**31
"""An address is stored as unsigned 32-bit integer minus this (CLUSTO-HTTPD 1.7)."""

ENTITIES_PER_PIECE: Final = 1_000
PATHS_PER_PIECE: Final = 10_000
NIC_KEY: Final = "port-nic-eth"

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1

_IPV4_TEXT: Final = re.compile(r"\d{1,3}(\.\d{1,3}){3}", re.ASCII)

Document = dict[str, Any]


class Entity(NamedTuple):
    id: int
    name: str
    type: str
    driver: str

    @property
    def path(self) -> str:
        return f"/{self.type}/{self.name}"

    def __str__(self) -> str:
        """As the original prints it in its errors."""
        return f"{driver_of(self.driver).class_name}(name={self.name}, type={self.type}, driver={self.driver})"


ENTITY_COLUMNS: Final = (entities.c.id, entities.c.name, entities.c.type, entities.c.driver)


# Made once: building a statement costs more than SQLite takes to answer it.
_BY_NAME: Final = select(*ENTITY_COLUMNS).where(entities.c.name == bindparam("wanted"))
_CONTENTS: Final = (
    select(*ENTITY_COLUMNS)
    .select_from(attributes.join(entities, attributes.c.relation_id == entities.c.id))
    .where(attributes.c.entity_id == bindparam("container"), attributes.c.key == CONTAINS)
)
_PARENTS: Final = (
    select(*ENTITY_COLUMNS)
    .select_from(attributes.join(entities, attributes.c.entity_id == entities.c.id))
    .where(attributes.c.relation_id == bindparam("member"), attributes.c.key == CONTAINS)
)


def find_by_name(db: Connection, name: str) -> Entity | None:
    found = driver_rows(db, _BY_NAME, {"wanted": name})
    return Entity(*found[0]) if found else None


def get_by_name(db: Connection, name: str) -> Entity:
    """Raises NoSuchEntity."""
    entity = find_by_name(db, name)
    if entity is None:
        raise NoSuchEntity(name)
    return entity


def entities_where(db: Connection, *conditions: ColumnElement[bool], by_name: bool = False) -> list[Entity]:
    order = entities.c.name if by_name else entities.c.id
    statement = select(*ENTITY_COLUMNS).where(*conditions).order_by(order)
    return [Entity(*row) for row in db.execute(statement)]


def entities_of_ids(db: Connection, ids: Iterable[int]) -> list[Entity]:
    """In the order of their making."""
    found: list[Entity] = []
    for chunk in chunked(sorted(ids)):
        found += entities_where(db, among(db, entities.c.id, chunk))
    return found


def paths_where(db: Connection, *conditions: ColumnElement[bool], by_name: bool = False) -> JsonItems:
    """The list of paths, by id or by name; a million of them never are objects at the same time."""
    statement = select(entities.c.type, entities.c.name).where(*conditions)
    statement = statement.order_by(entities.c.name if by_name else entities.c.id)
    items = JsonItems()
    found = db.execute(statement, execution_options={"stream_results": True, "max_row_buffer": PATHS_PER_PIECE})
    for piece in found.partitions(PATHS_PER_PIECE):
        items.extend(",".join([json_text(f"/{type_}/{name}") for type_, name in piece]))
    return items


def contents(db: Connection, entity: Entity) -> list[Entity]:
    """Members, one level, in the order of their making (CLUSTO-HTTPD 5)."""
    return _distinct(driver_rows(db, _CONTENTS, {"container": entity.id}, bulk=True))


def parents(db: Connection, entity: Entity) -> list[Entity]:
    return _distinct(driver_rows(db, _PARENTS, {"member": entity.id}))


class Membership(NamedTuple):
    """A `_contains` attribute; number: in a rack the unit."""

    attribute_id: int
    member_id: int
    subkey: str | None
    number: int | None
    container: Entity


def memberships(db: Connection, member_ids: Sequence[int]) -> Iterator[Membership]:
    """Those of many entities, in the order in which they were put there."""
    for chunk in chunked(member_ids):
        statement = (
            select(attributes.c.id, attributes.c.relation_id, attributes.c.subkey, attributes.c.number, *ENTITY_COLUMNS)
            .join_from(attributes, entities, attributes.c.entity_id == entities.c.id)
            .where(among(db, attributes.c.relation_id, chunk), attributes.c.key == CONTAINS)
            .order_by(attributes.c.id)
        )
        for attribute_id, member_id, subkey, number, *entity in db.execute(statement):
            yield Membership(attribute_id, member_id, subkey, number, Entity(*entity))


def _distinct(rows: Iterable[Any]) -> list[Entity]:
    by_id = {entity_id: Entity(entity_id, name, type_, driver) for entity_id, name, type_, driver in rows}
    return [by_id[entity_id] for entity_id in sorted(by_id)]


def matching_entities(
    db: Connection, key: str | None = None, *, value: Any, subkey: str | None = None, number: Any = None
) -> list[Entity]:
    """Entities with an own attribute like this; None means any key, subkey or number, never a null one."""
    conditions = [value_is(value)]
    if key is not None:
        conditions.append(attributes.c.key == key)
    if subkey is not None:
        conditions.append(attributes.c.subkey == subkey)
    if number is not None:
        conditions.append(attributes.c.number == number)
    return entities_with(db, conditions)


def entities_with(
    db: Connection, of_attribute: Sequence[ColumnElement[bool]], of_entity: Sequence[ColumnElement[bool]] = ()
) -> list[Entity]:
    """Entities that have an own attribute like this, each once."""
    return entities_where(db, has_attribute(*of_attribute), *of_entity)


def has_attribute(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition on an entity that one of its own attributes is like this."""
    return entities.c.id.in_(select(attributes.c.entity_id).where(*conditions))


def value_is(value: Any) -> ColumnElement[bool]:
    """Values compare with their JSON type; true counts as 1, a float is a string of its text (CLUSTO-HTTPD 1.2, 6)."""
    if isinstance(value, int):
        return attributes.c.int_value == int(value) if INT_MIN <= value <= INT_MAX else false()
    if value is None:
        return (attributes.c.datatype == "string") & attributes.c.string_value.is_(None)
    return string_is(str(value))


# Documents ------------------------------------------------------------------------------------------------------------


def show(db: Connection, entity: Entity, *, ports: bool) -> Document:
    """The show document; ports: whether port actions are listed (never in answers of queries and of POST)."""
    return _document(
        db,
        entity,
        [member.path for member in contents(db, entity)],
        [container.path for container in parents(db, entity)],
        ports=ports and entity.type in PORT_ACTION_TYPES,
    )


def show_prefetched(db: Connection, entity: Entity, filters: Sequence[AttrFilter]) -> Document:
    """The show document of get_by_name with prefetch_attrs: members and containers with their attributes."""
    members, containers = contents(db, entity), parents(db, entity)
    return _document(db, entity, prefetched(db, members, filters), prefetched(db, containers, filters), ports=False)


def _document(
    db: Connection, entity: Entity, members: list[str] | JsonItems, containers: list[str] | JsonItems, *, ports: bool
) -> Document:
    return {
        "actions": sorted((*ACTIONS, *PORT_ACTIONS)) if ports else list(ACTIONS),
        "attrs": attrs_document(db, entity, AttrFilter()),
        "contents": members,
        "driver": entity.driver,
        "object": entity.path,
        "parents": containers,
    }


def attrs_document(db: Connection, entity: Entity, wanted: AttrFilter) -> JsonItems:
    items = JsonItems()
    items.extend(attrs_of(db, [entity.id], wanted)[entity.id])
    return items


def prefetched(db: Connection, found: Sequence[Entity], filters: Sequence[AttrFilter]) -> JsonItems:
    """[{path: {"attrs": [...]}}]; the answers of the filters one after the other, overlaps repeat (CLUSTO-HTTPD 6)."""
    items, texts = JsonItems(), AttrTexts()
    for start in range(0, len(found), ENTITIES_PER_PIECE):
        piece = found[start : start + ENTITIES_PER_PIECE]
        with ONE_BULK_READ:
            answers = [attrs_of(db, [entity.id for entity in piece], wanted, texts) for wanted in filters]
            members = []
            for entity in piece:
                attrs = ",".join(filter(None, (answer[entity.id] for answer in answers)))
                members.append(f'{{{json_text(entity.path)}:{{"attrs":[{attrs}]}}}}')
            items.extend(",".join(members))
    return items


# Ports ----------------------------------------------------------------------------------------------------------------


def has_port(entity: Entity, porttype: str, portnum: int) -> bool:
    """Ports come from the driver, not from the database (CLUSTO-HTTPD 1.6)."""
    return 1 <= portnum <= driver_of(entity.driver).ports.get(porttype, 0)


def ports_document(db: Connection, entity: Entity) -> Document:
    rows: list[Document] = []
    for porttype, count in driver_of(entity.driver).ports.items():
        said: dict[tuple[int | None, str | None], Any] = {}
        for row in load_rows(db, [entity.id], AttrFilter(key=f"port-{porttype}"))[entity.id]:
            said.setdefault((row[NUMBER], row[SUBKEY]), json_value(row))
        rows += [
            {
                "num": num,
                "other": said.get((num, "connection")),
                "othernum": said.get((num, "otherportnum")),
                "type": porttype,
            }
            for num in range(1, count + 1)
        ]
    return {"object": entity.path, "ports": rows}


def port_attr(db: Connection, entity: Entity, porttype: str, portnum: int, key: str) -> Any:
    """The bare value or None.  Raises Refused: no such port, or a relation, which the original cannot write as JSON."""
    if not has_port(entity, porttype, portnum):
        raise Refused("ConnectionException", f"No port {porttype}:{portnum} exists on {entity.name}.")
    wanted = AttrFilter(key=f"port-{porttype}", subkey=key, number=portnum)
    rows = load_rows(db, [entity.id], wanted)[entity.id]
    if not rows:
        return None
    if rows[0][DATATYPE] == "relation":
        raise Refused("TypeError", f"{get_by_name(db, rows[0][TARGET_NAME])} is not JSON serializable")
    return json_value(rows[0])


# Addresses ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manager:
    """An ipmanager with its properties; one without baseip takes every address (CLUSTO-HTTPD 1.7)."""

    entity: Entity
    network: IPv4Network | None
    gateway: str | None

    def takes(self, address: IPv4Address) -> bool:
        return self.network is None or address in self.network


def parse_ipv4(text: str) -> IPv4Address | None:
    if not _IPV4_TEXT.fullmatch(text):
        return None
    try:
        return IPv4Address(text)
    except AddressValueError:
        return None


def ip_managers(db: Connection) -> Iterator[Manager]:
    """Every ipmanager; one whose baseip or netmask is no address manages nothing."""
    managers = entities_where(db, entities.c.driver == "ipmanager")
    rows_of = load_rows(db, [manager.id for manager in managers], AttrFilter(subkey="property"))
    for manager in managers:
        properties = {row[KEY]: row[STRING] for row in rows_of[manager.id]}
        base, mask = properties.get("baseip"), properties.get("netmask") or "255.255.255.255"
        network = None
        if base is not None:
            try:
                network = IPv4Network(f"{base}/{mask}", strict=False)
            except (AddressValueError, NetmaskValueError):
                continue
        yield Manager(manager, network, properties.get("gateway"))


def manager_of(db: Connection, address: IPv4Address) -> Manager | None:
    """The one that takes it; none when there are several, as in the original (CLUSTO-HTTPD 8.12)."""
    found = [manager for manager in ip_managers(db) if manager.takes(address)]
    return found[0] if len(found) == 1 else None


def owners_of(db: Connection, address: IPv4Address) -> list[Entity]:
    value = int(address) - ADDRESS_BIAS
    return entities_with(db, [attributes.c.key == "ip", attributes.c.subkey.is_(None), value_is(value)])
