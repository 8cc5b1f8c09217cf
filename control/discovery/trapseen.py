"""What a trap says, as the trap receiver hands it to the rest of control: plain values, nothing of SNMP in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgpack

Port = int | str
"""How a trap names a port: by dot1dBasePort of BRIDGE-MIB, a number; by another of the switch's numberings, a text."""
IF_INDEX: Final = "ifIndex"  # of IF-MIB
PORT_ID: Final = "portId"  # of DELL-NETWORKING-MAC-NOTIFICATION-MIB, which does not say what it counts
NUMBERINGS: Final = {IF_INDEX: "ifindex_map", PORT_ID: "portid_map"}  # -> the attribute that maps it to ports
_REFUSED = " (refused)"
_NUMBERED = re.compile(rf"({'|'.join(NUMBERINGS)}) (\d{{1,10}})({re.escape(_REFUSED)})?", re.ASCII)


class Numbered(NamedTuple):
    """A port by another numbering than the bridge's.  refused: the switch does not admit the MAC there."""

    numbering: str
    number: int
    refused: bool


def port_text(numbering: str, number: int, *, refused: bool = False) -> str:
    """ "ifIndex 10105", "ifIndex 10105 (refused)": what people read, the journal keeps and `numbered` understands."""
    return f"{numbering} {number}{_REFUSED if refused else ''}"


def numbered(port: str) -> Numbered:
    """Raises ValueError for what port_text has not made."""
    found = _NUMBERED.fullmatch(port)
    if found is None:
        raise ValueError(f"a port that is {port[:40]!r}")
    return Numbered(found[1], int(found[2]), found[3] is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrapSeen:
    """One MAC address that a switch learnt or forgot.

    switch: dotted IPv4 address of the sender that is believed (snmp.proxies); mac: lower case with colons; vlan: 0
    where the trap does not say; learnt: False when the switch removed it; boottime_s: seconds of CLOCK_BOOTTIME at
    which the datagram was taken from the socket."""

    switch: str
    mac: str
    port: Port
    vlan: int
    learnt: bool
    boottime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some of them between the two processes (a fastpath.protocol.Channel).  rows: msgpack, a list of lists of six."""

    rows: bytes

    @classmethod
    def of(cls, seen: Sequence[TrapSeen]) -> Batch:
        rows = [(one.switch, one.mac, one.port, one.vlan, one.learnt, one.boottime_s) for one in seen]
        return cls(rows=msgpack.packb(rows))

    def seen(self) -> list[TrapSeen]:
        return [
            TrapSeen(switch=switch, mac=mac, port=port, vlan=vlan, learnt=learnt, boottime_s=boottime_s)
            for switch, mac, port, vlan, learnt, boottime_s in msgpack.unpackb(self.rows)
        ]


KINDS: dict[str, type] = {"Batch": Batch}
BATCH_ROWS_MAX = 500  # 88 bytes each at most, in a message of fastpath.protocol.MESSAGE_BYTES_MAX
