"""Traps and DHCP sightings as a follower passes them on to who leads: several in one `seen`, each field checked.

They say what was seen and not when: discovery goes by the order of their coming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from control.fleet.messages import SEEN_BYTES_MAX
from control.fleet.wire import Reason, Refused, flag, octets, packed, text, unpacked, whole

ROWS_MAX: Final = 64  # in one `seen`
_NAME: Final = text(32)
_ADDRESS: Final = text(15, 7)
_MAC: Final = text(17, 17)
_PORT_NUMBER: Final = whole(1 << 31)
_PORT_TEXT: Final = text(40, 1)


def _port(value: Any) -> Any:
    return _PORT_NUMBER(value) if type(value) is int else _PORT_TEXT(value)


class Trap(NamedTuple):
    """As control.discovery.trapseen.TrapSeen."""

    switch: str
    mac: str
    port: int | str
    vlan: int
    learnt: bool


class Sighting(NamedTuple):
    """As control.discovery.sighting.sighting_of(), without what only the machine that saw it knows."""

    mac: str
    client: str  # its class
    role: str
    verdict: str
    giaddr: str
    client_id: bytes
    vendor_class: bytes
    circuit_id: bytes


Row = Trap | Sighting
_CHECKS: Final[dict[int, tuple[type[Row], tuple[Any, ...]]]] = {
    0: (Trap, (_ADDRESS, _MAC, _port, whole(1 << 16), flag)),
    1: (Sighting, (_MAC, _NAME, _NAME, _NAME, text(15), octets(64), octets(64), octets(64))),
}  # fmt: skip


def row_bytes(row: Row) -> bytes:
    kind = 0 if isinstance(row, Trap) else 1
    return packed([kind, *row])


def grouped(rows: Iterable[Row]) -> Iterator[bytes]:
    """Each of at most SEEN_BYTES_MAX bytes, in their order."""
    group: list[bytes] = []
    size = 0
    for row in rows:
        made = row_bytes(row)
        if group and (size + len(made) + 3 > SEEN_BYTES_MAX - 3 or len(group) >= ROWS_MAX):
            yield packed(group)
            group, size = [], 0
        group.append(made)
        size += len(made) + 3  # msgpack's head of each
    if group:
        yield packed(group)


def rows_of(raw: bytes) -> list[Row]:
    """Raises Refused."""
    found = unpacked(raw, SEEN_BYTES_MAX)
    if type(found) is not list or len(found) > ROWS_MAX:
        raise Refused(Reason.NOT_A_RECORD, f"wanted a list of at most {ROWS_MAX}")
    return [row_of(unpacked(each if type(each) is bytes else b"", SEEN_BYTES_MAX)) for each in found]


def row_of(found: Any) -> Row:
    if type(found) is not list or not found or type(found[0]) is not int or found[0] not in _CHECKS:
        raise Refused(Reason.NOT_A_RECORD, "wanted a trap or a sighting")
    made, checks = _CHECKS[found[0]]
    if len(found) < 1 + len(checks):  # what a later build adds is ignored
        raise Refused(Reason.MISSING_FIELD, f"{len(found) - 1} fields, wanted {len(checks)}")
    return made(*[check(each) for check, each in zip(checks, found[1:], strict=False)])


def sighting_row(said: Mapping[str, Any]) -> Sighting:
    """Of sighting_of()."""
    return Sighting(
        str(said["mac"]), str(said["class"])[:32], str(said["role"]), str(said["verdict"])[:32], str(said["giaddr"]),
        bytes(said["client_id"])[:64], bytes(said["vendor_class"])[:64], bytes(said["circuit_id"])[:64],
    )  # fmt: skip
