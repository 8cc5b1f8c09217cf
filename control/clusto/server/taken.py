"""Whose a MAC or an address is: loading.py asks when the whole file is in, for only then it can be judged.

One MAC and one address belong to one host, in the file and in the store, in whatever spelling: over HTTP anybody may
write a MAC with dashes, or an address as its text alone, and the service reads both.
"""

from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Integer, MetaData, Table, Text, and_, func, not_, or_, select

from control.clusto.hostfile import normal_mac
from control.clusto.server.attrs import chunked
from control.clusto.server.reading import ADDRESS_BIAS, NIC_KEY
from control.clusto.server.store import ID_TYPE, among, attributes, entities, string_among

TEXTS_AT_ONCE: Final = 500

# Who is in the file.
LOADED: Final = Table(
    "loaded",
    MetaData(),
    Column("entity_id", ID_TYPE, primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("place", Text, nullable=False),
    Column("has_mac", Integer, nullable=False),
    Column("has_addresses", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)

IPMI: Final = "ipmi-mac"
_IS_MAC: Final = (attributes.c.key == NIC_KEY) & (attributes.c.subkey == "mac") & (attributes.c.number >= 1)
_IS_IPMI: Final = (attributes.c.key == NIC_KEY) & (attributes.c.subkey == IPMI)
_IS_USUAL: Final = and_(
    func.length(attributes.c.string_value) == 17,
    attributes.c.string_value.like("__:__:__:__:__:__"),
    attributes.c.string_value == func.lower(attributes.c.string_value),
)


def taken(db: Connection) -> list[str]:
    """One line a MAC or address of a loaded host that is another object's."""
    return [
        *_alike(db, "mac", "has_mac", "string_value", NIC_KEY, "mac"),
        *_alike(db, "mac", "has_mac", "string_value", NIC_KEY, "mac", as_ipmi=True),
        *_macs_spelled_otherwise(db),
        *_alike(db, "address", "has_addresses", "int_value", "ip", None),
        *_addresses_as_text(db),
    ]


def _line(place: str, what: str, value: object, name: str, *, in_file: bool = False, as_ipmi: bool = False) -> str:
    whose = f"is also of {name}; wanted one host" if in_file else f"belongs to {name}; wanted a free one"
    return f"{place}: {what} {value} {whose.replace(';', f' as its {IPMI};', 1) if as_ipmi else whose}"


def _alike(
    db: Connection, what: str, flag: str, column: str, key: str, subkey: str | None, *, as_ipmi: bool = False,
) -> Iterator[str]:  # fmt: skip
    """What is the same value in the store.  as_ipmi: of another's BMC, which no row of a file says."""
    mine, other, owner, theirs = attributes.alias(), attributes.alias(), entities.alias(), LOADED.alias()

    def like(attribute: Any, subkey: str | None) -> Any:
        this = (attribute.c.key == key) & (attribute.c.subkey == subkey)
        return this & (attribute.c.number >= 1) if subkey == "mac" else this

    is_other = like(other, IPMI if as_ipmi else subkey)
    statement = (
        select(mine.c[column], LOADED.c.place, owner.c.name, theirs.c.place)
        .select_from(LOADED)
        .join(mine, (mine.c.entity_id == LOADED.c.entity_id) & like(mine, subkey))
        .join(other, (other.c[column] == mine.c[column]) & is_other & (other.c.entity_id != mine.c.entity_id))
        .join(owner, owner.c.id == other.c.entity_id)
        .outerjoin(theirs, (theirs.c.entity_id == other.c.entity_id) & (theirs.c[flag] == 1))
        .where(LOADED.c[flag] == 1)
        .order_by(LOADED.c.sequence, owner.c.id)
    )
    if not as_ipmi:
        statement = statement.where(theirs.c.sequence.is_(None) | (theirs.c.sequence < LOADED.c.sequence))
    for value, place, name, also in db.execute(statement):
        shown = IPv4Address(value + ADDRESS_BIAS) if isinstance(value, int) else value
        yield _line(place, what, shown, name, in_file=also is not None and not as_ipmi, as_ipmi=as_ipmi)


class _Holder(NamedTuple):
    """An object with a MAC.  sequence, place: None unless its row in the file says the MAC."""

    text: str
    as_ipmi: bool
    entity_id: int
    name: str
    sequence: int | None
    place: str | None


def _macs_spelled_otherwise(db: Connection) -> Iterator[str]:
    """What is the same MAC in another spelling.  Few have one, so that the others are asked for by their text."""
    holders: dict[str, list[_Holder]] = {}
    for holder in _holders(db, not_(_IS_USUAL)):
        if (mac := normal_mac(holder.text)) is not None:
            holders.setdefault(mac, []).append(holder)
    macs = sorted(holders)
    for start in range(0, len(macs), TEXTS_AT_ONCE):
        for holder in _holders(db, _IS_USUAL & string_among(db, macs[start : start + TEXTS_AT_ONCE])):
            holders[holder.text].append(holder)
    found = []
    for mac, all_of_it in holders.items():
        for mine in all_of_it:
            if mine.sequence is None or mine.as_ipmi:
                continue
            for other in all_of_it:
                if other.entity_id == mine.entity_id or other.text == mine.text:  # the latter was found by its text
                    continue
                in_file = other.sequence is not None and not other.as_ipmi
                if not in_file or (other.sequence or 0) < mine.sequence:
                    line = _line(mine.place or "", "mac", mac, other.name, in_file=in_file, as_ipmi=other.as_ipmi)
                    found.append((mine.sequence, other.entity_id, line))
    yield from (line for *_, line in sorted(found))


def _holders(db: Connection, *conditions: ColumnElement[bool]) -> Iterator[_Holder]:
    statement = (
        select(
            attributes.c.string_value, attributes.c.subkey, entities.c.id, entities.c.name, LOADED.c.sequence,
            LOADED.c.place,
        )
        .join_from(attributes, entities, entities.c.id == attributes.c.entity_id)
        .outerjoin(LOADED, (LOADED.c.entity_id == entities.c.id) & (LOADED.c.has_mac == 1))
        .where(or_(_IS_MAC, _IS_IPMI), attributes.c.string_value.is_not(None), *conditions)
    )  # fmt: skip
    for text, subkey, *rest in db.execute(statement):
        yield _Holder(text, subkey == IPMI, *rest)


def _addresses_as_text(db: Connection) -> Iterator[str]:
    """What another object has as a text alone, without the number that loading.py writes and _alike() compares."""
    there = attributes.alias()
    numbered = (
        select(there.c.id)
        .where(there.c.entity_id == attributes.c.entity_id, there.c.key == "ip", there.c.subkey.is_(None))
        .where(there.c.number.is_not_distinct_from(attributes.c.number), there.c.int_value.is_not(None))
    )
    statement = (
        select(attributes.c.string_value, entities.c.id, entities.c.name)
        .join_from(attributes, entities, entities.c.id == attributes.c.entity_id)
        .where(attributes.c.key == "ip", attributes.c.subkey == "ipstring", ~numbered.exists())
        .order_by(entities.c.id)
    )
    owners: dict[int, list[tuple[int, str]]] = {}
    for text, entity_id, name in db.execute(statement):
        try:
            owners.setdefault(int(IPv4Address(text)) - ADDRESS_BIAS, []).append((entity_id, name))
        except AddressValueError:
            continue
    found = []
    for chunk in chunked(sorted(owners)):
        for value, entity_id, sequence, place in db.execute(_who_loaded(db, chunk)):
            for owner_id, name in owners[value]:
                if owner_id != entity_id:
                    line = _line(place, "address", IPv4Address(value + ADDRESS_BIAS), name)
                    found.append((sequence, owner_id, line))
    yield from (line for *_, line in sorted(found))


def _who_loaded(db: Connection, values: Sequence[int]) -> Any:
    return (
        select(attributes.c.int_value, LOADED.c.entity_id, LOADED.c.sequence, LOADED.c.place)
        .join_from(attributes, LOADED, LOADED.c.entity_id == attributes.c.entity_id)
        .where(LOADED.c.has_addresses == 1, attributes.c.key == "ip", attributes.c.subkey.is_(None))
        .where(among(db, attributes.c.int_value, values))
    )
