"""`/query/...` and `/search`: parameters in, JSON-ready answer out (CLUSTO-HTTPD 6); reading.py reads for it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from sqlalchemy import ColumnElement, Connection, func, select

from control.clusto.drivers import POOL_DRIVERS, driver_of, known_driver, known_type
from control.clusto.errors import Answered, Refused
from control.clusto.server.attrs import CONTAINS, AttrFilter, chunked, driver_rows
from control.clusto.server.encoding import JsonItems, from_json
from control.clusto.server.order import in_set_order
from control.clusto.server.reading import (
    INT_MAX,
    INT_MIN,
    Entity,
    entities_of_ids,
    find_by_name,
    get_by_name,
    has_attribute,
    manager_of,
    matching_entities,
    owners_of,
    parse_ipv4,
    paths_where,
    prefetched,
    show,
    show_prefetched,
    value_is,
)
from control.clusto.server.store import among, attributes, entities, string_among

Parameters = Mapping[str, str]
Query = Callable[[Connection, Parameters], Any]

_SERIAL: Final = re.compile(r"P\d{10}", re.ASCII)
_MAC: Final = re.compile(r"[0-9a-f]{2}([:-]?[0-9a-f]{2}){5}", re.IGNORECASE | re.ASCII)
_ENTITY_PARAMETERS: Final = ("names", "clusto_types", "clusto_drivers", "attrs")
_TEXTS_AT_ONCE: Final = 500
_ATTR_PARAMETERS: Final = frozenset({"key", "subkey", "number", "value"})


def _get_entities(db: Connection, parameters: Parameters) -> JsonItems:
    """Paths; parameters are ANDed, entries of attrs ORed, only own attributes count."""
    asked: dict[str, Any] = {}
    for name, text in parameters.items():
        if name == "callback":
            continue
        if name not in _ENTITY_PARAMETERS:
            raise Refused("TypeError", f"get_entities() got an unexpected keyword argument '{name}'")
        # The original undoes %xx and + once more in what was decoded already (recording 076).
        asked[name] = _json_list(unquote_plus(text))
    conditions: list[ColumnElement[bool]] = []
    if asked.get("clusto_types"):
        conditions.append(entities.c.type.in_([known_type(name) for name in asked["clusto_types"]]))
    if asked.get("clusto_drivers"):
        conditions.append(entities.c.driver.in_([known_driver(name) for name in asked["clusto_drivers"]]))
    names = _texts(asked.get("names") or (), "names")
    if names:
        conditions.append(among(db, entities.c.name, names))
    entries = list(_together(db, asked.get("attrs") or ()))
    if len(entries) == 1:
        conditions.append(has_attribute(*entries[0]))
    elif entries:
        # One statement each: SQLite has no index for an OR of them.
        ids = {entity_id for entry in entries for entity_id in _owners(db, entry, conditions)}
        if not ids:
            return JsonItems()
        conditions = [among(db, entities.c.id, sorted(ids))]
    # SQLite answers names in the order of its index on them (recording 070).
    return paths_where(db, *conditions, by_name=bool(names))


def _owners(
    db: Connection, of_attribute: list[ColumnElement[bool]], of_entity: list[ColumnElement[bool]]
) -> Iterator[int]:
    statement = select(attributes.c.entity_id).where(*of_attribute)
    if of_entity:
        statement = select(entities.c.id).where(has_attribute(*of_attribute), *of_entity)
    for (entity_id,) in driver_rows(db, statement):
        yield entity_id


def _together(db: Connection, entries: Iterable[Any]) -> Iterator[list[ColumnElement[bool]]]:
    """Conditions of the entries of attrs; those that differ in a text alone are one, in the order of the first."""
    alike: dict[Any, tuple[dict[str, Any], list[str]]] = {}
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), str):
            alike[at] = (entry, [])
            continue
        rest = {name: value for name, value in entry.items() if name != "value"}
        _rest, texts = alike.setdefault(repr(sorted(rest.items(), key=repr)), (rest, []))
        texts.append(entry["value"])
    for rest, texts in alike.values():
        conditions = _entry_conditions(rest)
        if not texts:
            yield conditions
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            yield [*conditions, string_among(db, texts[start : start + _TEXTS_AT_ONCE])]


def _texts(values: Iterable[Any], parameter: str) -> list[str]:
    """A number counts as its text, as on SQLite."""
    texts = []
    for value in values:
        if not isinstance(value, str | int | float | None):
            raise Refused("InterfaceError", f"{parameter} holds {type(value).__name__}; wanted texts")
        if value is not None:
            texts.append(str(value))
    return texts


def _entry_conditions(entry: Any) -> list[ColumnElement[bool]]:
    if not isinstance(entry, dict):
        raise Refused("TypeError", f"queryarg() argument after ** must be a mapping, not {type(entry).__name__}")
    for name in entry:
        if name not in _ATTR_PARAMETERS:
            raise Refused("TypeError", f"queryarg() got an unexpected keyword argument '{name}'")
    conditions: list[ColumnElement[bool]] = []
    if "key" in entry:
        conditions.append(attributes.c.key == str(entry["key"]))
    if "subkey" in entry:
        subkey = entry["subkey"]
        conditions.append(attributes.c.subkey.is_(None) if subkey is None else attributes.c.subkey == str(subkey))
    if "number" in entry:
        conditions.append(_number_is(entry["number"]))
    if "value" in entry:
        conditions.append(value_is(entry["value"]))
    return conditions


def _number_is(number: Any) -> ColumnElement[bool]:
    """true/false: any/no number; a text that spells an integer counts as one, as on SQLite (recording 055)."""
    if number is None or number is False:
        return attributes.c.number.is_(None)
    if number is True:
        return attributes.c.number.is_not(None)
    try:
        wanted = int(number)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused("TypeError", f"number {number!r} in attrs; wanted an integer, true, false or null") from error
    if not INT_MIN <= wanted <= INT_MAX:
        raise Refused("OverflowError", f"number {number!r} in attrs; wanted one of 64 bits")
    return attributes.c.number == wanted


def _by_name(db: Connection, parameters: Parameters) -> Any:
    if "name" not in parameters:
        raise Answered(400, 'You must specify a "name" parameter')
    entity = get_by_name(db, parameters["name"])
    filters = _prefetch_filters(parameters)
    return show_prefetched(db, entity, filters) if filters else show(db, entity, ports=False)


def _get(db: Connection, parameters: Parameters) -> Any:
    """By name, serial, IPv4 or MAC; nothing known that way is 404, a MAC or managed address without owner []."""
    if "name" not in parameters:
        raise Answered(400, 'You must specifiy a "name" parameter')
    name = parameters["name"]
    entity = find_by_name(db, name)
    if entity is not None:
        return [show(db, entity, ports=False)]
    found = _by_serial_address_or_mac(db, name)
    if found is None:
        raise Answered(404)
    return [show(db, entity, ports=False) for entity in found]


def _by_serial_address_or_mac(db: Connection, name: str) -> list[Entity] | None:
    if _SERIAL.fullmatch(name):
        return matching_entities(db, value=name, subkey="serial")
    address = parse_ipv4(name)
    if address is not None:
        return None if manager_of(db, address) is None else owners_of(db, address)
    if _MAC.fullmatch(name):
        return matching_entities(db, value=name, subkey="mac")
    return None


def _get_from_pools(db: Connection, parameters: Parameters) -> Any:
    """Members at all depths, those that every pool has."""
    if "pools" not in parameters:
        raise Answered(400, "You must specify at least one pool")
    pools = [get_by_name(db, name) for name in parameters["pools"].split(",")]
    for pool in pools:
        if pool.driver not in POOL_DRIVERS:
            kind = driver_of(pool.driver).class_name
            raise Refused("TypeError", f"The object {pool.name} is a {kind}; wanted a Pool")
    types = [known_type(name) for name in parameters["types"].split(",")] if "types" in parameters else None
    filters = _prefetch_filters(parameters)
    ids = set.intersection(*(_members_at_all_depths(db, pool) for pool in pools))
    by_name = {e.name: e for e in entities_of_ids(db, ids) if types is None or e.type in types}
    found = [by_name[name] for name in in_set_order(by_name)]
    return prefetched(db, found, filters) if filters else [entity.path for entity in found]


def _members_at_all_depths(db: Connection, pool: Entity) -> set[int]:
    reached: set[int] = set()
    frontier = [pool.id]
    while frontier:
        found: set[int] = set()
        for chunk in chunked(frontier):
            statement = select(attributes.c.relation_id).where(
                among(db, attributes.c.entity_id, chunk),
                attributes.c.key == CONTAINS,
                attributes.c.relation_id.is_not(None),
            )
            found.update(db.execute(statement).scalars())
        frontier = sorted(found - reached)
        reached |= found
    return reached


def _get_ip_manager(db: Connection, parameters: Parameters) -> Any:
    if "ip" not in parameters:
        raise Answered(400, "You must specify an IP")
    address = parse_ipv4(parameters["ip"])
    manager = None if address is None else manager_of(db, address)
    if manager is None:
        raise Answered(404)
    return manager.entity.path


def search(db: Connection, parameters: Parameters) -> Any:
    """Paths of entities whose name contains q, case-sensitive."""
    if "q" not in parameters:
        raise Answered(400, "No query specified")
    wanted = parameters["q"]
    # LIKE would ignore case on SQLite.
    position = func.strpos if db.dialect.name == "postgresql" else func.instr
    return paths_where(db, position(entities.c.name, wanted) > 0)


def _prefetch_filters(parameters: Parameters) -> list[AttrFilter]:
    if "prefetch_attrs" not in parameters:
        return []
    entries = _json_list(parameters["prefetch_attrs"])
    for entry in entries:
        if not isinstance(entry, dict):
            raise Refused("TypeError", f"prefetch_attrs holds {entry!r}; wanted objects of filter parameters")
    return [AttrFilter.from_parameters(entry) for entry in entries]


def _json_list(text: str) -> Sequence[Any]:
    value = from_json(text)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("TypeError", f"{text!r} is JSON of type {type(value).__name__}; wanted a list")
    return value


QUERIES: Final[Mapping[str, Query]] = {
    "get": _get,
    "get_by_name": _by_name,
    "get_entities": _get_entities,
    "get_from_pools": _get_from_pools,
    "get_ip_manager": _get_ip_manager,
}
