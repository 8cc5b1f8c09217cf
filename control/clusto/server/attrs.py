"""Attributes as answers show them: filter, bulk load, merge from containers; queries.py and actions.py build on it.

CLUSTO-HTTPD 2 (merging), 5 (`attrs`), 7 (JSON).  Everything is loaded for many entities at once: the price of an answer
is a handful of queries whatever its number of members, and a row becomes its JSON text without an object between.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, cast

from sqlalchemy import Connection, CursorResult, Select, bindparam, func, select

from control.clusto.drivers import known_driver, known_type
from control.clusto.errors import Refused
from control.clusto.server.encoding import json_text
from control.clusto.server.store import among, attributes, entities

CONTAINS: Final = "_contains"
IDS_PER_QUERY: Final = 2_000
_FEW: Final = 50

_PARAMETERS: Final = frozenset(
    {
        "key",
        "subkey",
        "value",
        "number",
        "regex",
        "merge_container_attrs",
        "ignore_hidden",
        "sort_by_keys",
        "clusto_types",
        "clusto_drivers",
    }
)


class _Unset:
    """Not given; null is a value of its own."""


UNSET: Final = _Unset()

_target = entities.alias("target")

_SELECT: Final[Select[Any]] = select(
    attributes.c.entity_id,
    attributes.c.id,
    attributes.c.key,
    attributes.c.subkey,
    attributes.c.number,
    attributes.c.datatype,
    attributes.c.int_value,
    attributes.c.string_value,
    attributes.c.datetime_value,
    _target.c.type,
    _target.c.name,
    _target.c.driver,
).select_from(attributes.outerjoin(_target, attributes.c.relation_id == _target.c.id))

# Made once: building a statement costs more than SQLite takes to answer it.
_OF_ONE: Final = _SELECT.where(attributes.c.entity_id == bindparam("of_entity"))
_OF_ONE_SHOWN: Final = _OF_ONE.where(attributes.c.key != CONTAINS, func.substr(attributes.c.key, 1, 1) != "_")
_OF_ONE_KEY: Final = _OF_ONE.where(attributes.c.key == bindparam("of_key"))

AttrRow = tuple[Any, ...]
"""A row of _SELECT as the driver gives it: a bulk read handles 100,000 of them, SQLAlchemy's costs 1 us each."""

# SQLite's driver lets go of the GIL at every row, and a thread that computes keeps it for a whole switch interval: two
# bulk reads at once take six times as long as one after the other.  Held for a piece, so that they take turns.
ONE_BULK_READ: Final = threading.RLock()

ENTITY_ID, ID, KEY, SUBKEY, NUMBER, DATATYPE, INT, STRING, DATETIME, TARGET_TYPE, TARGET_NAME, TARGET_DRIVER = range(12)


def json_value(row: AttrRow) -> Any:
    """The value as JSON has it (CLUSTO-HTTPD 7)."""
    datatype = row[DATATYPE]
    if datatype == "int":
        return row[INT]
    if datatype == "relation":
        return None if row[TARGET_NAME] is None else f"/{row[TARGET_TYPE]}/{row[TARGET_NAME]}"
    if datatype == "datetime":
        # SQLite's is text, PostgreSQL's a datetime; both with microseconds.
        return None if row[DATETIME] is None else str(row[DATETIME])[:19]
    return row[STRING]


class AttrTexts:
    """Rows -> JSON objects {"datatype", "key", "number", "subkey", "value"} (CLUSTO-HTTPD 7), commas between.

    What stands around number and value repeats from member to member and is made once.
    """

    def __init__(self) -> None:
        self._around: dict[tuple[str, str, str | None], tuple[str, str]] = {}

    def text(self, rows: Iterable[AttrRow]) -> str:
        parts = []
        for row in rows:
            kind = (row[DATATYPE], row[KEY], row[SUBKEY])
            if (around := self._around.get(kind)) is None:
                around = self._around[kind] = (
                    f'{{"datatype":{json_text(kind[0])},"key":{json_text(kind[1])},"number":',
                    f',"subkey":{json_text(kind[2])},"value":',
                )
            number = "null" if row[NUMBER] is None else row[NUMBER]
            parts.append(f"{around[0]}{number}{around[1]}{json_text(json_value(row))}}}")
        return ",".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttrFilter:
    """The parameters of `attrs` and of one entry of prefetch_attrs; UNSET ones do not restrict."""

    key: Any = UNSET
    subkey: Any = UNSET
    value: Any = UNSET
    number: Any = UNSET
    regex: bool = False
    merge_container_attrs: bool = False
    ignore_hidden: bool = True
    sort_by_keys: bool = True
    clusto_types: tuple[str, ...] = ()
    clusto_drivers: tuple[str, ...] = ()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "AttrFilter":
        """Texts of a query string or values of a JSON object -> filter; truth is Python's ("0" is true, "" is not).

        Raises Refused for an unknown parameter, a number that is no number, an unknown type or driver.
        """
        for name in parameters:
            if name not in _PARAMETERS:
                raise Refused("TypeError", f"attr_filter() got an unexpected keyword argument '{name}'")
        given = dict(parameters)
        number = given.get("number", UNSET)
        if not isinstance(number, _Unset) and number is not None and not isinstance(number, int):
            raise Refused("TypeError", "number must be either a boolean or an integer.")
        for flag in ("regex", "merge_container_attrs", "ignore_hidden", "sort_by_keys"):
            if flag in given:
                given[flag] = bool(given[flag])
        for names in ("clusto_types", "clusto_drivers"):
            if not isinstance(given.get(names) or (), str | list | tuple | dict):
                raise Refused("TypeError", f"'{type(given[names]).__name__}' object is not iterable")
        # A text is taken letter by letter, as the original does (recording 047).
        given["clusto_types"] = tuple(known_type(name) for name in given.get("clusto_types") or ())
        given["clusto_drivers"] = tuple(known_driver(name) for name in given.get("clusto_drivers") or ())
        return cls(**given)

    @property
    def hides(self) -> bool:
        return self.ignore_hidden and not (isinstance(self.key, str) and self.key.startswith("_"))

    def narrowed(self, statement: Select[Any]) -> Select[Any]:
        """What the database can leave out without changing which rows can fail a regular expression."""
        if self.regex:
            return statement
        if isinstance(self.key, str):
            return statement.where(attributes.c.key == self.key)
        if self.hides:
            # The members of a big pool are told apart before their keys are looked into.
            return statement.where(attributes.c.key != CONTAINS, func.substr(attributes.c.key, 1, 1) != "_")
        return statement

    def of_one(self, entity_id: int) -> tuple[Select[Any], dict[str, Any]]:
        """`narrowed` for one entity, which is what most requests ask for: a statement and its parameters."""
        if not self.regex and isinstance(self.key, str):
            return _OF_ONE_KEY, {"of_entity": entity_id, "of_key": self.key}
        return _OF_ONE_SHOWN if self.hides and not self.regex else _OF_ONE, {"of_entity": entity_id}

    def tests(self) -> list[Callable[[AttrRow], bool]]:
        """One test a parameter, in the original's order: a row that an earlier one drops never meets a later one."""
        tests: list[Callable[[AttrRow], bool]] = []
        for wanted, of_row in ((self.key, _key), (self.subkey, _subkey), (self.value, _value)):
            if not isinstance(wanted, _Unset):
                tests.append(_matcher(wanted, of_row) if self.regex else _equal(wanted, of_row))
        number = self.number
        if number is None or isinstance(number, bool):
            tests.append(lambda row: (row[NUMBER] is not None) == bool(number))
        elif isinstance(number, int):
            tests.append(lambda row: row[NUMBER] == number)
        if self.hides and self.regex:
            tests.append(lambda row: not row[KEY].startswith("_"))
        if self.clusto_drivers:
            tests.append(lambda row: row[TARGET_DRIVER] in self.clusto_drivers)
        if self.clusto_types:
            tests.append(lambda row: row[TARGET_TYPE] in self.clusto_types)
        return tests


def _key(row: AttrRow) -> Any:
    return row[KEY]


def _subkey(row: AttrRow) -> Any:
    return row[SUBKEY]


_NEVER: Final = object()


def _value(row: AttrRow) -> Any:
    """A relation or a datetime equals nothing that a request can spell (CLUSTO-HTTPD 6)."""
    return _NEVER if row[DATATYPE] in ("relation", "datetime") else json_value(row)


def _equal(wanted: Any, of_row: Callable[[AttrRow], Any]) -> Callable[[AttrRow], bool]:
    return lambda row: bool(of_row(row) == wanted)


def _matcher(wanted: Any, of_row: Callable[[AttrRow], Any]) -> Callable[[AttrRow], bool]:
    try:
        pattern = re.compile(wanted)
    except (re.error, TypeError) as error:
        raise Refused("error", f"regular expression {wanted!r}: {error}") from error

    def matches(row: AttrRow) -> bool:
        found = of_row(row)
        if not isinstance(found, str):
            raise Refused("TypeError", "expected string or buffer")
        return pattern.match(found) is not None

    return matches


def chunked(ids: Sequence[int], size: int = IDS_PER_QUERY) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def load_rows(db: Connection, ids: Sequence[int], wanted: AttrFilter) -> dict[int, list[AttrRow]]:
    """Own attributes of many entities that pass the filter, in natural order (the order of their making)."""
    rows_of: dict[int, list[AttrRow]] = {entity_id: [] for entity_id in ids}
    tests = wanted.tests()
    for chunk in chunked(ids):
        if len(chunk) == 1:
            found = driver_rows(db, *wanted.of_one(chunk[0]))
        else:
            statement = wanted.narrowed(_SELECT).where(among(db, attributes.c.entity_id, chunk))
            found = driver_rows(db, statement, bulk=len(chunk) > _FEW)
        for row in [row for row in found if all(test(row) for test in tests)] if tests else found:
            rows_of[row[ENTITY_ID]].append(row)
    for rows in rows_of.values():
        rows.sort(key=itemgetter(ID))
    return rows_of


def driver_rows(
    db: Connection, statement: Select[Any], parameters: Mapping[str, Any] | None = None, *, bulk: bool = False
) -> list[tuple[Any, ...]]:
    """All rows, as the database's driver gives them."""
    with ONE_BULK_READ if bulk else nullcontext():
        result = db.execute(statement, parameters)
        try:
            return cast("list[tuple[Any, ...]]", cast(CursorResult[Any], result).cursor.fetchall())
        finally:
            result.close()


def attrs_of(db: Connection, ids: Sequence[int], wanted: AttrFilter, texts: AttrTexts | None = None) -> dict[int, str]:
    """What `attrs` with this filter answers, for many entities at once: the inside of a JSON list each."""
    rows_of = merged_rows(db, ids, wanted) if wanted.merge_container_attrs else load_rows(db, ids, wanted)
    texts = texts or AttrTexts()
    if wanted.sort_by_keys:
        for rows in rows_of.values():
            rows.sort(key=itemgetter(KEY))
    return {entity_id: texts.text(rows) for entity_id, rows in rows_of.items()}


def merged_rows(db: Connection, ids: Sequence[int], wanted: AttrFilter) -> dict[int, list[AttrRow]]:
    """Own attributes, then those of every level of containers (CLUSTO-HTTPD 2); inside a level by container id."""
    graph = Containers.above(db, ids)
    known = list(dict.fromkeys([*ids, *graph.containers()]))
    rows_of = load_rows(db, known, wanted)
    merged: dict[int, list[AttrRow]] = {}
    for entity_id in ids:
        rows = list(rows_of[entity_id])
        for level in graph.levels(entity_id):
            for container_id in level:
                rows += rows_of[container_id]
        merged[entity_id] = rows
    return merged


@dataclass(slots=True)
class Containers:
    """Who contains whom, upwards from some entities; made by `above`, complete up to the top."""

    parents: dict[int, list[int]] = field(default_factory=dict)
    _levels: dict[tuple[int, ...], list[list[int]]] = field(default_factory=dict)
    _on_cycle: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def above(cls, db: Connection, ids: Iterable[int]) -> "Containers":
        graph = cls()
        frontier = list(dict.fromkeys(ids))
        while frontier:
            found: dict[int, set[int]] = {entity_id: set() for entity_id in frontier}
            for chunk in chunked(frontier):
                statement = select(attributes.c.relation_id, attributes.c.entity_id).where(
                    among(db, attributes.c.relation_id, chunk), attributes.c.key == CONTAINS
                )
                for member_id, container_id in db.execute(statement):
                    found[member_id].add(container_id)
            graph.parents.update((member_id, sorted(containers)) for member_id, containers in found.items())
            frontier = [c for c in dict.fromkeys(c for cs in found.values() for c in cs) if c not in graph.parents]
        return graph

    def containers(self) -> Iterator[int]:
        for containers in self.parents.values():
            yield from containers

    def levels(self, entity_id: int) -> list[list[int]]:
        """Direct containers, theirs, and so on; each container once a level.

        A container on a cycle counts on its first level only: the original never ends there (CLUSTO-HTTPD 8.10).
        """
        start = self.parents[entity_id]
        looped = self.on_cycle(entity_id)
        memo = (*start, -entity_id) if looped else tuple(start)
        if memo not in self._levels:
            seen: set[int] = {entity_id} if looped else set()
            levels = []
            level = [c for c in start if c not in seen]
            while level:
                levels.append(level)
                seen.update(level)
                above = sorted({parent for container in level for parent in self.parents[container]})
                level = [c for c in above if c not in seen or not self.on_cycle(c)]
            self._levels[memo] = levels
        return self._levels[memo]

    def on_cycle(self, entity_id: int) -> bool:
        """Whether the entity is, at any height, a container of itself."""
        if entity_id not in self._on_cycle:
            reached: set[int] = set()
            to_visit = list(self.parents[entity_id])
            while to_visit and entity_id not in reached:
                container = to_visit.pop()
                if container not in reached:
                    reached.add(container)
                    to_visit += self.parents[container]
            self._on_cycle[entity_id] = entity_id in reached
        return self._on_cycle[entity_id]
