"""Changes to the store: entities, attributes, membership, counters; actions.py calls them in a transaction.

Rules are those of CLUSTO-HTTPD 1.1 to 1.5 and 1.8; a broken one raises Refused before anything is changed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, insert, or_, select, update

from control.clusto.drivers import DRIVERS, Driver, driver_of
from control.clusto.errors import Refused, Taken
from control.clusto.server.attrs import CONTAINS, KEY, AttrFilter, driver_rows, json_value, load_rows
from control.clusto.server.reading import INT_MAX, INT_MIN, Entity, find_by_name, parents
from control.clusto.server.store import NAME_CHARS_MAX, attributes, counters, entities

_VALUE_COLUMNS: Final = ("int_value", "string_value", "relation_id")
_ATTRIBUTE_NAME: Final = re.compile(r"[A-Za-z_]+[0-9A-Za-z_-]*")


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its datatype; `column` is where the attributes table keeps it."""

    datatype: str
    column: str
    value: Any

    @classmethod
    def of_int(cls, value: int) -> "Value":
        if not INT_MIN <= value <= INT_MAX:
            raise Refused("OverflowError", f"int value {value}; wanted one of 64 bits")
        return cls("int", "int_value", value)

    @classmethod
    def of_string(cls, value: str | None) -> "Value":
        return cls("string", "string_value", value)

    @classmethod
    def of_relation(cls, target: Entity) -> "Value":
        return cls("relation", "relation_id", target.id)

    @classmethod
    def of(cls, value: str | int) -> "Value":
        return cls.of_int(int(value)) if isinstance(value, int) else cls.of_string(value)


def insert_rows(db: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Many at once, the way each database is quickest at; nothing is looked at."""
    if not rows:
        return
    names = ", ".join(columns)
    if db.dialect.name == "postgresql":
        psycopg_cursor: Any = db.connection.cursor()
        with psycopg_cursor as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    places = ", ".join("?" for _ in columns)
    db.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({places})", list(rows))


# Entities -------------------------------------------------------------------------------------------------------------


def create_entity(db: Connection, driver: Driver, name: str) -> Entity:
    """The caller has looked whether the name is free; properties of the driver are written at once (1.4)."""
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise Refused("NameException", f"entity name of {len(name)} characters; wanted 1 to {NAME_CHARS_MAX}")
    result = db.execute(insert(entities).values(name=name, type=driver.type, driver=driver.name))
    entity = Entity(_made_id(result.inserted_primary_key), name, driver.type, driver.name)
    for key, value in driver.properties.items():
        add_attr(db, entity, key, Value.of(value), subkey="property")
    return entity


def _made_id(primary_key: Sequence[Any] | None) -> int:
    if primary_key is None:
        raise RuntimeError("the database gave no id for a new row; wanted one from INSERT")
    made: int = primary_key[0]
    return made


def delete_entity(db: Connection, entity: Entity) -> None:
    """With its attributes and everything that points at it (1.3)."""
    db.execute(
        delete(attributes).where(or_(attributes.c.entity_id == entity.id, attributes.c.relation_id == entity.id))
    )
    db.execute(delete(counters).where(counters.c.entity_id == entity.id))
    db.execute(delete(entities).where(entities.c.id == entity.id))


# Attributes -----------------------------------------------------------------------------------------------------------


def check_attribute_name(name: str) -> None:
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise Refused(
            "NameException", f"Attribute name {name} is invalid. Attribute names may not contain periods or comas."
        )


_ADD: Final = insert(attributes).inline()
_SLOT: Final = (
    select(attributes.c.id, attributes.c.datatype, *(attributes.c[name] for name in _VALUE_COLUMNS))
    .where(
        attributes.c.entity_id == bindparam("of_entity"),
        attributes.c.key == bindparam("of_key"),
        attributes.c.subkey.is_not_distinct_from(bindparam("of_subkey")),
        attributes.c.number.is_not_distinct_from(bindparam("of_number")),
    )
    .limit(2)
)
_DROP: Final = delete(attributes).where(attributes.c.id == bindparam("of_id"))


def add_attr(
    db: Connection, entity: Entity, key: str, value: Value, *, subkey: str | None = None, number: int | None = None
) -> None:
    check_attribute_name(key)
    if subkey is not None:
        check_attribute_name(subkey)
    if number is not None and not INT_MIN <= number <= INT_MAX:
        raise Refused("OverflowError", f"number {number}; wanted one of 64 bits")
    row = {"entity_id": entity.id, "key": key, "subkey": subkey, "number": number, "datatype": value.datatype}
    db.execute(_ADD, row | {value.column: value.value})


def set_attr(
    db: Connection,
    entity: Entity,
    key: str,
    value: Value,
    *,
    subkey: str | None = None,
    number: int | None = None,
    replace: bool = True,
) -> None:
    """None found: add; one: leave it when equal with its type, else delete and add; several: refuse (1.2).

    replace False: one that is not equal raises Taken, unless it is an empty text, which is a port that was left."""
    where = {"of_entity": entity.id, "of_key": key, "of_subkey": subkey, "of_number": number}
    rows = driver_rows(db, _SLOT, where)
    if len(rows) > 1:
        raise Refused("DriverException", "cannot set an attribute when args match more than one value")
    if rows:
        attribute_id, datatype, *old = rows[0]
        if (datatype, old[_VALUE_COLUMNS.index(value.column)]) == (value.datatype, value.value):
            return
        if not replace and any(old):
            raise Taken(f"{entity.path}: {key} {subkey} {number} is something else already; nothing was changed")
        db.execute(_DROP, {"of_id": attribute_id})
    add_attr(db, entity, key, value, subkey=subkey, number=number)


def delete_attrs(
    db: Connection, entity: Entity, key: str, *, subkey: str | None = None, number: int | None = None
) -> None:
    """All of the key; of the subkey and of the number when given."""
    conditions: list[ColumnElement[bool]] = [attributes.c.entity_id == entity.id, attributes.c.key == key]
    if subkey is not None:
        conditions.append(attributes.c.subkey == subkey)
    if number is not None:
        conditions.append(attributes.c.number == number)
    db.execute(delete(attributes).where(*conditions))


def property_of(db: Connection, entity: Entity, key: str) -> Any:
    """A per-driver setting (1.4), or None."""
    rows = load_rows(db, [entity.id], AttrFilter(key=key, subkey="property"))[entity.id]
    return json_value(rows[0]) if rows else None


_THIS_COUNTER: Final = (counters.c.entity_id == bindparam("of_entity")) & (counters.c.key == bindparam("of_key"))
_COUNTER: Final = select(counters.c.value).where(_THIS_COUNTER)
_COUNT_FROM: Final = insert(counters).inline()
_COUNT_ON: Final = update(counters).where(_THIS_COUNTER).values(value=counters.c.value + 1)


def next_number(db: Connection, entity: Entity, key: str, *, first: int = 0) -> int:
    """The counter's next value; its row holds the last one that was handed out (1.5)."""
    this = {"of_entity": entity.id, "of_key": key}
    last = db.execute(_COUNTER, this).scalar()
    if last is None:
        db.execute(_COUNT_FROM, {"entity_id": entity.id, "key": key, "value": first})
        return first
    db.execute(_COUNT_ON, this)
    return int(last) + 1


# Membership -----------------------------------------------------------------------------------------------------------


def insert_member(db: Connection, container: Entity, member: Entity) -> None:
    """Everything but racks (1.3)."""
    rule = driver_of(container.driver).container
    above = parents(db, member)
    if rule.endswith("pool"):
        if container in above:
            raise Refused("PoolException", f"{member} is already in pool {container}.")
        others = [pool for pool in above if driver_of(pool.driver).container.endswith("pool")]
        if rule == "unique_pool":
            others = [pool for pool in others if pool.driver == container.driver]
        elif rule == "pool":
            others = []
        if others:
            raise Refused("PoolException", f"{member} is already in pool {others[0]}.")
    elif rule == "place":
        if any(place.driver == container.driver for place in above):
            where = ", ".join(str(place) for place in above if place.driver == container.driver)
            raise Refused("TypeError", f"{member} is already in location(s) [{where}].")
    elif above:
        raise Refused("TypeError", f"{member} is already in {', '.join(str(parent) for parent in above)}.")
    number = next_number(db, container, CONTAINS)
    add_attr(db, container, CONTAINS, Value.of_relation(member), number=number)


def insert_into_rack(db: Connection, rack: Entity, device: Entity, unit: int) -> None:
    """number = rack unit, subkey = ru (1.3); devices of one unit only."""
    driver = driver_of(device.driver)
    if not driver.device:
        raise Refused("TypeError", f"You can only add Devices to a rack.  {device.name} is a {driver.class_name}")
    for parent in parents(db, device):
        if parent.type == "rack" and parent != rack:
            raise Refused("Exception", f"{device.name} is already in rack {parent.name}")
    if driver.rack_units != 1:
        raise Refused("TypeError", f"{device.name} needs {driver.rack_units} units; insert takes one, addattr any")
    lowest, highest = property_of(db, rack, "minu"), property_of(db, rack, "maxu")
    if highest is not None and unit > int(highest):
        raise Refused("TypeError", f"the rackU must be less than {highest}.")
    if lowest is not None and unit < int(lowest):
        raise Refused("TypeError", f"the rackU may not be less than {lowest}.")
    taken = load_rows(db, [rack.id], AttrFilter(key=CONTAINS, subkey="ru", number=unit))[rack.id]
    if taken:
        raise Refused("TypeError", f"{json_value(taken[0]).rpartition('/')[2]} is already in RU {unit}")
    add_attr(db, rack, CONTAINS, Value.of_relation(device), subkey="ru", number=unit)


def remove_member(db: Connection, container: Entity, member: Entity) -> None:
    """All of the member's rows, also every unit of a rack; nothing when it is no member."""
    db.execute(
        delete(attributes).where(
            attributes.c.entity_id == container.id,
            attributes.c.key == CONTAINS,
            attributes.c.relation_id == member.id,
        )
    )


# Name managers --------------------------------------------------------------------------------------------------------


def allocate_entity(db: Connection, manager: Entity, driver: Driver) -> Entity:
    """A new entity named basename + counter (1.8); a taken name is an error and the counter stays."""
    properties = {
        row[KEY]: json_value(row) for row in load_rows(db, [manager.id], AttrFilter(subkey="property"))[manager.id]
    }
    number = next_number(db, manager, "next", first=int(properties.get("next", 1)))
    digits = int(properties.get("digits", 2)) if properties.get("leadingZeros", 1) else 0
    name = (
        f"{properties.get('basename', '')}{number:0{digits}d}"
        if digits
        else f"{properties.get('basename', '')}{number}"
    )
    if find_by_name(db, name) is not None:
        raise Refused("NameException", f"{manager.name} would allocate {name}, which exists; rename or delete that one")
    return create_entity(db, driver, name)


def driver_named(name: str) -> Driver:
    """Raises Refused with the original's KeyError: entities are created by driver, not by type (CLUSTO-HTTPD 4)."""
    if name not in DRIVERS:
        raise Refused("KeyError", f"u'{name}'")
    return DRIVERS[name]
